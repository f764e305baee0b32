"""The last lines that a finished run prints."""

import shlex
from pathlib import Path

from vgs_mlx.formats import hub_names
from vgs_mlx.models import loading
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.records import read_object
from vgs_mlx.runs.screen import Screen, accuracy_line
from vgs_mlx.train.loop import Outcome
from vgs_mlx.train.setup import Ready


def say(outcome: Outcome, folder: Path, ready: Ready, screen: Screen) -> None:
    """Print the accuracy before and after, the time, the folder and the next commands."""
    screen.say("")
    screen.say(f"before   {accuracy_line(outcome.before)}")
    screen.say(f"after    {accuracy_line(outcome.after)}")
    best = read_object(folder / run_folder.RESULT)["best"]
    if best["step"] not in (0, ready.recipe.train.steps):
        screen.say(f"best     accuracy {best['accuracy']:.3f} at step {best['step']}: --checkpoint best")
    own = outcome.seconds_of_last_process
    resumed = f" ({own:.0f} s since it was resumed)" if outcome.seconds - own > 0.5 else ""
    screen.say(f"took     {outcome.seconds:.0f} s{resumed}; everything is in {folder}")
    name, fused, final = (
        shlex.quote(str(each)) for each in (folder, f"{folder}-fused", folder / run_folder.FINAL)
    )
    screen.say(f"next     vgs-mlx report {name}   (all of this on one page, with coloured answers)")
    screen.say(f"         vgs-mlx evaluate {name} --no-image   (the score of guesses without the picture)")
    screen.say(f"         vgs-mlx export {name} --output {fused}   (a model that stock mlx-vlm runs)")
    settings = ready.recipe.student
    if settings.train != "full" and not settings.train_vision:
        embedded = settings.path.startswith(loading.EMBEDDED)
        base = shlex.quote(str(ready.student.folder) if embedded else settings.path)
        base = base.replace("@", " --revision ") if hub_names.parse(settings.path) else base
        screen.say(
            f"         python -m mlx_vlm.generate --model {base} --adapter-path {final} "
            "--image PICTURE --prompt QUESTION"
        )
