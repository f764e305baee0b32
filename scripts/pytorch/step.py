"""The gradients of one update by autograd, as a careful PyTorch user writes them.

No head and no softmax off the completions; log-probabilities exist for one chunk of tokens at a time, each
chunk is differentiated down to its hidden states at once, and one backward pass for each part goes on from
there through the body. Nothing has a graph that needs none: the teacher, the vision tower, the text view of
a micro-batch without a gated token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from scripts.pytorch.model import Pictures, TorchModel, completion_hidden, encode_pictures
from vgs_mlx.types import Rollout

GATE_QUANTILE = 0.7

Tree = dict[str, torch.Tensor]  # a gradient: adapter weight's name -> its part
States = dict[str, torch.Tensor]  # view -> (n, D)


@dataclass(frozen=True)
class Settings:
    """What is minimised, and how it is cut."""

    steering_coef: float = 2.0  # γ; with both coefficients 0 the objective is the standard one
    preservation_coef: float = 0.01  # λ
    reduction: str = "token"  # the mean over all tokens, or "sequence": over completions of each one's mean
    separate: bool = True  # a gradient for each part, which η needs; else one, of their weighted sum
    chunk_size: int = 64  # tokens whose log-probabilities exist at one time
    microbatch_size: int = 4  # rollouts whose activations exist at one time

    def views(self) -> tuple[str, ...]:
        """The standard objective needs no text view."""
        return (
            ("with_image", "text_only") if self.steering_coef or self.preservation_coef else ("with_image",)
        )

    def parts(self) -> tuple[str, ...]:
        """The names of the gradients."""
        coefficients = {
            "standard": 1.0,
            "steering": self.steering_coef,
            "preservation": self.preservation_coef,
        }
        return tuple(part for part, each in coefficients.items() if each) if self.separate else ("total",)


@dataclass
class Step:
    """What one update batch of N tokens gave."""

    weights: torch.Tensor  # (N,), sum 1
    dependency: torch.Tensor | None = None  # VDS, (N,) nats
    gate: torch.Tensor | None = None  # (N,) bool: where the preservation acts
    terms: dict[str, torch.Tensor] = field(default_factory=dict)  # (N,) nats each: standard, visual, language
    gradients: dict[str, Tree] = field(default_factory=dict)  # by part; only "total" holds γ and λ, none η

    def losses(self) -> dict[str, float]:
        """Each part's loss, without γ, λ and η."""
        found = {"standard": self.terms["standard"]}
        if "visual" in self.terms:
            found["steering"] = self.terms["visual"]
        if self.gate is not None:
            found["preservation"] = self.terms["language"] * self.gate
        return {part: float((self.weights * values).sum()) for part, values in found.items()}

    def norm_scale(self, steering_coef: float) -> float:
        """η = ‖g_std‖ / ‖g_std + γ g_vis‖ (Eq. 15)."""
        standard, steering = self.gradients["standard"], self.gradients["steering"]
        steered = {name: value + steering_coef * steering[name] for name, value in standard.items()}
        return float(norm(standard) / norm(steered))


@dataclass(frozen=True)
class Tokens:
    """What the loss phase needs to know of n tokens."""

    student: States
    teacher: States
    weights: torch.Tensor  # (n,)
    gate: torch.Tensor | None  # (n,) bool

    def __getitem__(self, here: slice) -> "Tokens":
        student, teacher = (
            {view: each[here] for view, each in side.items()} for side in (self.student, self.teacher)
        )
        return Tokens(student, teacher, self.weights[here], None if self.gate is None else self.gate[here])


def step_gradients(
    student: TorchModel,
    teacher: TorchModel,
    parameters: dict[str, nn.Parameter],
    rollouts: Sequence[Rollout],
    settings: Settings,
) -> Step:
    """Terms, gate and gradients of the student's adapters (`parameters`) for one update batch."""
    batches = [
        rollouts[i : i + settings.microbatch_size] for i in range(0, len(rollouts), settings.microbatch_size)
    ]
    step = Step(token_weights(rollouts, settings.reduction).to(student.penalty.device))
    prompts = [each.prompt.student[view] for each in rollouts for view in settings.views()]
    known = teacher_states(teacher, batches, encode_pictures(teacher, prompts), settings)
    if settings.preservation_coef:
        step.dependency = torch.cat([dependency(teacher, states, settings.chunk_size) for states in known])
        step.gate = step.dependency > torch.quantile(step.dependency.double(), GATE_QUANTILE)
    step.gradients = {
        part: {name: torch.zeros_like(value) for name, value in parameters.items()}
        for part in settings.parts()
    }
    pictures = encode_pictures(student, prompts)
    start, terms = 0, []
    for batch, taught in zip(batches, known, strict=True):
        here = slice(start, start := start + sum(len(each.completion) for each in batch))
        gate = None if step.gate is None else step.gate[here]
        states = student_states(student, batch, pictures, settings, gate)
        slopes = loss_phase(
            student, teacher, Tokens(states, taught, step.weights[here], gate), settings, terms
        )
        add_backward(step.gradients, parameters, states, slopes)
    step.terms = {name: torch.cat([each[name] for each in terms]) for name in terms[0]}
    return step


def token_weights(rollouts: Sequence[Rollout], reduction: str) -> torch.Tensor:
    """Each token's share in the batch's loss, (N,)."""
    lengths = torch.tensor([len(each.completion) for each in rollouts])
    if reduction == "sequence":
        return (1.0 / lengths / len(lengths)).repeat_interleave(lengths)
    return torch.full((int(lengths.sum()),), 1.0 / int(lengths.sum()))


@torch.no_grad()
def teacher_states(
    teacher: TorchModel, batches: Sequence[Sequence[Rollout]], pictures: Pictures, settings: Settings
) -> list[States]:
    """The teacher's hidden states of every micro-batch, in the views that are needed."""
    return [
        {view: completion_hidden(teacher, batch, view, pictures) for view in settings.views()}
        for batch in batches
    ]


def student_states(
    student: TorchModel,
    batch: Sequence[Rollout],
    pictures: Pictures,
    settings: Settings,
    gate: torch.Tensor | None,
) -> States:
    """The student's hidden states of a micro-batch; the text view's have a graph only where a gated token needs it."""
    states = {"with_image": completion_hidden(student, batch, "with_image", pictures)}
    if "text_only" in settings.views():
        with torch.set_grad_enabled(gate is not None and bool(gate.any())):
            states["text_only"] = completion_hidden(student, batch, "text_only", pictures)
    return states


def loss_phase(
    student: TorchModel,
    teacher: TorchModel,
    tokens: Tokens,
    settings: Settings,
    terms: list[dict[str, torch.Tensor]],
) -> dict[str, States]:
    """∂ loss / ∂ hidden states by part and view. Every chunk's terms are appended to `terms`."""
    slopes: dict[str, dict[str, list[torch.Tensor]]] = {part: {} for part in settings.parts()}
    for start in range(0, len(tokens.weights), settings.chunk_size):
        found, chunk = chunk_slopes(student, teacher, tokens[start : start + settings.chunk_size], settings)
        terms.append(found)
        for part, view, slope in chunk:
            slopes[part].setdefault(view, []).append(slope)
    return {part: {view: torch.cat(each) for view, each in views.items()} for part, views in slopes.items()}


def chunk_slopes(
    student: TorchModel, teacher: TorchModel, tokens: Tokens, settings: Settings
) -> tuple[dict[str, torch.Tensor], list[tuple[str, str, torch.Tensor]]]:
    """The terms of a chunk, and (part, view, ∂ loss / ∂ hidden states)."""
    image = tokens.student["with_image"].detach().requires_grad_()
    p, terms = student.logprobs(image), {}
    with torch.no_grad():
        q = teacher.logprobs(tokens.teacher["with_image"])
        if "text_only" in tokens.student:
            p_text = student.logprobs(tokens.student["text_only"])
            q_text = teacher.logprobs(tokens.teacher["text_only"])
            target = torch.log_softmax(p_text + q - q_text, dim=-1)  # Eq. 10; p_text carries no gradient here
            terms["language"] = kl(p_text, q_text)
    terms["standard"] = kl(p, q)
    losses = {"standard": (tokens.weights * terms["standard"]).sum()}
    if settings.steering_coef:
        terms["visual"] = kl(p, target)
        losses["steering"] = (tokens.weights * terms["visual"]).sum()
    if not settings.separate:
        losses = {"total": losses["standard"] + settings.steering_coef * losses.get("steering", 0.0)}
    slopes = []
    for number, (part, loss) in enumerate(losses.items(), start=1):
        (slope,) = torch.autograd.grad(loss, image, retain_graph=number < len(losses))
        slopes.append((part, "with_image", slope))
    if tokens.gate is not None and tokens.student["text_only"].requires_grad:
        slope = preservation_slope(student, tokens, q_text)
        if settings.separate:
            slopes.append(("preservation", "text_only", slope))
        else:
            slopes.append(("total", "text_only", settings.preservation_coef * slope))
    return {name: value.detach() for name, value in terms.items()}, slopes


def preservation_slope(student: TorchModel, tokens: Tokens, q_text: torch.Tensor) -> torch.Tensor:
    """∂ Σ gate · weight · KL(p(·|x) ‖ q(·|x)) / ∂ hidden states, (n, D); only gated tokens meet the head again."""
    chosen = tokens.gate.nonzero()[:, 0]
    slope = torch.zeros_like(tokens.student["text_only"])
    if len(chosen):
        text = tokens.student["text_only"][chosen].detach().requires_grad_()
        loss = (tokens.weights[chosen] * kl(student.logprobs(text), q_text[chosen])).sum()
        (slope[chosen],) = torch.autograd.grad(loss, text)
    return slope


def add_backward(
    gradients: dict[str, Tree], parameters: dict[str, nn.Parameter], states: States, slopes: dict[str, States]
) -> None:
    """Carry the slopes on through the body, and add what arrives at the adapters."""
    pending = [part for part, views in slopes.items() if views]
    for part in pending:
        views = slopes[part]
        found = torch.autograd.grad(
            [states[view] for view in views],
            list(parameters.values()),
            list(views.values()),
            retain_graph=part != pending[-1],
        )
        for name, value in zip(parameters, found, strict=True):
            gradients[part][name] += value


@torch.no_grad()
def dependency(teacher: TorchModel, states: States, chunk_size: int) -> torch.Tensor:
    """VDS = KL(q(·|I,x) ‖ q(·|x)) of a micro-batch's tokens (Eq. 12), (n,) nats."""
    chunks = zip(states["with_image"].split(chunk_size), states["text_only"].split(chunk_size), strict=True)
    return torch.cat([kl(teacher.logprobs(image), teacher.logprobs(text)) for image, text in chunks])


def kl(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """KL(left ‖ right) of log-probabilities (n, V), (n,) nats."""
    return (left.exp() * (left - right)).sum(dim=-1)


def norm(tree: Tree) -> torch.Tensor:
    """The Euclidean norm over all of a gradient's numbers."""
    return torch.stack([value.square().sum() for value in tree.values()]).sum().sqrt()
