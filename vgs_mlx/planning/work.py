"""What an update learns from, and its micro-batches, as train/microbatches.py will cut them."""

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil

from vgs_mlx.data.prompts import CHANGES
from vgs_mlx.objective.terms import BOTH
from vgs_mlx.planning.footprint import Pass, continued, plain
from vgs_mlx.planning.plan import Lengths
from vgs_mlx.recipe.objective import resolved, sampler, updates_per_step
from vgs_mlx.recipe.options import WATCHED_ROWS, Recipe

FILE_GIB = 1  # of a weight file that an export writes: so much of a model is in memory meanwhile
LONGEST_COMPARED = 256  # tokens of a completion that an export compares models on


@dataclass(frozen=True)
class Work:
    """The rollouts of one update, each of full length."""

    recipe: Recipe
    seen: Lengths
    prompts: int
    each: int  # completions of a prompt
    length: int  # tokens of a completion

    @property
    def rollouts(self) -> int:
        return self.prompts * self.each

    @property
    def positions(self) -> int:
        """Completion tokens."""
        return self.rollouts * self.length

    @property
    def microbatch(self) -> int:
        """Rollouts of a micro-batch: as many as its two limits allow, but at least one."""
        settings = self.recipe.train
        count, most = min(settings.microbatch_size, self.rollouts), settings.max_tokens_per_microbatch
        while count > 1 and most is not None and self._tokens(count) > most:
            count -= 1
        return count

    @property
    def microbatches(self) -> int:
        return ceil(self.rollouts / self.microbatch)

    @property
    def pictured_views(self) -> int:
        """How many of the student's views hold a picture: the usual two and what the objective reads besides."""
        return len(self.pictured({*BOTH, *resolved(self.recipe).student_views}))

    def pictured(self, views: Collection[str]) -> set[str]:
        """The views among these that hold a picture, changed or not."""
        changes = {**CHANGES, "text_only": CHANGES[self.recipe.objective.text_view]}
        return {view for view in views if view == "with_image" or changes[view] is not None}

    def rows(self, views: Collection[str]) -> list[Pass]:
        """The rows of a micro-batch in each of the views, `with_image` first.

        The completions of a prompt continue one run of it; a single one has a row of its own with it.
        """
        together = min(self.microbatch, self.each)
        count, pictured = ceil(self.microbatch / together), self.pictured(views)
        ordered = sorted(views, key=lambda view: (view != "with_image", view))
        prompts = [self.seen.text + self.seen.image * (view in pictured) for view in ordered]
        if together == 1:
            return [plain(count, prompt + self.length) for prompt in prompts]
        return [continued(count, prompt, together, self.length) for prompt in prompts]

    def _tokens(self, rollouts: int) -> int:
        """Positions of the view with the image."""
        rows = ceil(rollouts / self.each)
        return rows * (self.seen.text + self.seen.image) + rollouts * self.length


def of_step(recipe: Recipe, seen: Lengths) -> Work:
    """A step's rollouts. Rows that bring their own answers have one per prompt."""
    settings = recipe.rollout
    each, length = settings.completions_per_prompt, settings.max_completion_length
    if sampler(recipe) is None:
        each, length = 1, seen.answer or length
    return Work(recipe, seen, settings.prompts_per_step, each, length)


def of_update(recipe: Recipe, seen: Lengths) -> Work:
    """An update's share of a step's rollouts: GRPO makes several updates from them."""
    step = of_step(recipe, seen)
    return Work(recipe, seen, ceil(step.prompts / updates_per_step(recipe)), step.each, step.length)


def of_watch(recipe: Recipe, seen: Lengths) -> Work:
    """The rollouts that `train.watch_every` measures."""
    return Work(recipe, seen, WATCHED_ROWS, 1, recipe.rollout.max_completion_length)


def longest_compared(recipe: Recipe) -> int:
    """Tokens of a completion that an export compares models on, at most."""
    return min(LONGEST_COMPARED, recipe.rollout.max_completion_length)


def compared_at_once(recipe: Recipe) -> int:
    """Completions in a scoring pass of an export: no more than in a micro-batch of training."""
    return min(recipe.train.microbatch_size, recipe.rollout.batch_size)
