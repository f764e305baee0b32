"""Whether an evaluation fits in memory, before weights are read."""

from vgs_mlx.device import backend
from vgs_mlx.evaluation.evaluate import AnswerSettings
from vgs_mlx.planning import report as planning
from vgs_mlx.planning.commands import Answering
from vgs_mlx.planning.plan import Lengths, lengths
from vgs_mlx.planning.sizes import read_size
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.runs.named_model import NamedModel
from vgs_mlx.runs.screen import Screen


def check(
    model: NamedModel,
    recipe: Recipe,
    how: AnswerSettings,
    screen: Screen,
    *,
    seen: Lengths | None,
    force: bool,
) -> None:
    """Print the planned memory. Raises `Refusal` where it doesn't fit, unless forced.

    `seen` are the lengths of the longest prompt; None means that prompts are as long as the recipe allows.
    """
    size = read_size(str(model.folder), "MODEL")
    planned = planning.of_evaluation(
        recipe, size, seen or lengths(recipe, size), backend(), trained=model.trained is not None,
        answering=Answering(how.samples, how.sampling.temperature),
    )  # fmt: skip
    planning.check(planned, "the evaluation", force, screen.say)
