"""The command line: parse, then one call each. Heavy imports stay inside the commands, so that --help is quick."""

# click passes each option of a command as a parameter of its function, so these functions may have many.

import sys

import click

from vgs_mlx.commands.arguments import PATH, Group
from vgs_mlx.commands.endings import refusing
from vgs_mlx.commands.options import CHECKPOINT, FORCE, RECIPE, AskOptions, asked_how, what_to_train
from vgs_mlx.errors import Refusal


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vgs-mlx")
def main() -> None:
    """Distil a vision-language teacher into a small student, on your own machine.

    \b
    vgs-mlx distill                                        the embedded models, minutes
    vgs-mlx distill --student S --teacher T --data D.jsonl  your own
    """


@main.command(short_help="Train a student.")
@what_to_train
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key of the recipe; may be given again."
)
@click.option("--output", type=PATH, help="The run folder. Default: runs/<recipe>-<number>.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the run in --output. --data, --student and --teacher then say where one is that moved.",
)
@click.option(
    "--dry-run", is_flag=True, help="Load, probe, time one micro-step, tell what to expect; write nothing."
)
@FORCE
@refusing
def distill(recipe, student, teacher, data, sets, output, resume, dry_run, force) -> None:
    """\b
    vgs-mlx distill --student Qwen/Qwen3-VL-2B-Instruct \\
        --teacher mlx-community/Qwen3-VL-8B-Instruct-4bit --data train.jsonl

    Distil the teacher into the student with Visual Gradient Steering. Without --recipe, --student and
    --teacher, the embedded models on the built-in pictures (recipes/quickstart.yaml).
    """
    from vgs_mlx.commands import distill
    from vgs_mlx.runs import recipes

    given = {"student": student, "teacher": teacher, "data": data}
    shorthands = {key: value for key, value in given.items() if value}
    if resume:
        if output is None or recipe or dry_run:
            raise Refusal(
                "--resume takes --output DIR (and --set train.steps=N, and --data, --student or --teacher of what "
                "moved): the recipe is the run's own"
            )
        distill.resume(output, sets, shorthands, force=force)
        return
    resolved, name = recipes.resolve(recipe, shorthands, sets)
    if dry_run:
        distill.dry_run(resolved, output, force=force)
    else:
        distill.start(resolved, name, output, force=force)


@main.command(short_help="Memory and time before a run.")
@click.option("--recipe", type=RECIPE, help="As for distill.")
@click.option("--student", help="Folder, Hub id or config.json.")
@click.option("--teacher", help="The same.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE")
@click.option("--memory", metavar="SIZE", help="Of the machine, such as 16GB. Default: this machine's.")
@click.option("--device", type=click.Choice(["cpu", "metal", "cuda"]), help="Default: this machine's.")
@click.option(
    "--tokens", nargs=2, type=int, metavar="TEXT IMAGE", help="Of a prompt. Default: 160, data.max_pixels."
)
@click.option("--time", "timed", is_flag=True, help="Load, run a micro-step, tell the hours.")
@click.option("--json", "json_file", type=PATH, help="Write the bytes here too.")
@refusing
def plan(recipe, student, teacher, sets, timed, **machine) -> None:
    """\b
    vgs-mlx plan --recipe recipes/qwen3-vl-2b-lora.yaml --memory 16GB --device metal

    Memory from configs and weight headers alone, and the gentlest changes where it doesn't fit (exit 1).
    """
    from vgs_mlx.commands import plan

    shorthands = {key: path for key, path in (("student", student), ("teacher", teacher)) if path}
    sys.exit(plan.run(recipe, shorthands, sets, timed=timed, **machine))


@main.command(short_help="Compare settings over seeds.")
@click.argument("recipe", required=False, type=RECIPE)
@click.option(
    "--vary", multiple=True, metavar="KEY=VALUE,VALUE", help="A key and its values; again: all combinations."
)
@click.option("--seeds", type=click.IntRange(1), help="Runs of each cell: seeds 0, 1, ... Default: 3.")
@click.option("--output", type=PATH, help="The folder for all runs and the summary.")
@click.option("--baseline", help="The cell to compare with, by its settings or name. Default: the first.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs side by side.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key, for all cells.")
@click.option(
    "--reach", type=click.FloatRange(0, 1), help="The accuracy to reach. Default: the baseline's final one."
)
@click.option("--resume", type=PATH, metavar="DIR", help="Go on with the grid in DIR.")
@click.option("--summary", type=PATH, metavar="DIR", help="Only tell what came out.")
@refusing
def ablate(recipe, vary, seeds, output, baseline, jobs, sets, reach, resume, summary) -> None:
    """\b
    vgs-mlx ablate recipes/quickstart.yaml --output runs/gamma --seeds 5 \\
        --vary objective.name=standard,vgs --vary objective.steering_coef=1,2,4

    Run every combination with several seeds and compare them: accuracy with intervals, paired differences to
    the baseline, curves. RECIPE is a recipe, or a file that names its cells. The same command again goes on, and may
    have more seeds and cells than before.
    """
    kept = resume or summary
    if kept and (recipe or vary or seeds or output or sets or (resume and summary)):
        raise Refusal("--resume DIR and --summary DIR take no grid: it is the folder's own")
    if not kept and not (recipe and output):
        raise Refusal("give a recipe and --output DIR; or --resume DIR, or --summary DIR")
    from vgs_mlx.commands import ablate

    if summary:
        code = ablate.show(summary, baseline=baseline, reach=reach)
    elif resume:
        code = ablate.resume(resume, jobs=jobs, baseline=baseline, reach=reach)
    else:
        code = ablate.start(
            recipe, vary, output, seeds=seeds, baseline=baseline, jobs=jobs, sets=sets, reach=reach
        )
    sys.exit(code)


@main.command(short_help="Accuracy of a model on held-out rows.")
@click.argument("model")
@click.option(
    "--data",
    help="All rows of a .jsonl file, a Hub data set, or shapes. Of a copy of the run's own data, recognised by its "
    "rows: those held out. Default: the run's held-out rows, or shapes.",
)
@asked_how
@click.option("--suite", help="Published benchmarks: vision, low-vision, text, all, or the name of one.")
@click.option("--output", type=PATH, help="Where a suite's answers are kept. Default: suites/...")
@click.option("--against", type=PATH, help="A suite's answers of another model, to compare with.")
@CHECKPOINT
@FORCE
@refusing
def evaluate(model, data, suite, output, against, **options) -> None:
    """\b
    vgs-mlx evaluate runs/quickstart-1 --no-image
    vgs-mlx evaluate runs/mine-1 --suite vision --against suites/before

    How often MODEL (a run folder, a local model folder or a Hub id) answers right, by question kind, with a
    95 % interval: greedy (Acc@1), or the mean of --samples answers at --temperature. With --suite, on published
    benchmarks; answers are kept, and those that are there already are not asked for again. docs/grading.md says
    what counts as right; --grading says why an answer does not.
    """
    asked = AskOptions(**options)
    if suite is None:
        if output or against:
            raise Refusal("--output and --against belong to --suite: say which suite")
        from vgs_mlx.commands import evaluate

        evaluate.run(model, data, asked)
        return
    if data:
        raise Refusal("--data and --suite are two things to ask: give one of them")
    from vgs_mlx.commands import suite as suite_command

    suite_command.run(model, suite, output, against, asked)


@main.command(short_help="The angles between the loss components' gradients.")
@click.argument("model")
@click.option("--teacher", help="The teacher, of a MODEL that is not a run or had none.")
@click.option("--recipe", type=RECIPE, help="The recipe of a MODEL that is not a run.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key of that recipe.")
@click.option(
    "--prompts", type=click.IntRange(1), default=16, show_default=True, help="Held-out prompts a batch."
)
@click.option(
    "--batches", type=click.IntRange(1), default=4, show_default=True, help="Batches: the spread is theirs."
)
@click.option(
    "--bins", type=click.IntRange(2), default=10, show_default=True, help="Bins of equally many tokens."
)
@click.option("--output", type=PATH, help="A folder. Default: the run.")
@CHECKPOINT
@FORCE
@refusing
def analyze(model, **options) -> None:
    """\b
    vgs-mlx analyze runs/quickstart-1
    vgs-mlx analyze embedded:student --teacher embedded:teacher --output analysis

    Sample answers to held-out prompts, bin their tokens by visual dependency, and measure in each bin how the
    gradients of the standard, visual and language losses stand to each other (the paper's figure 3). MODEL is a
    run folder or a model. Writes geometry.json and figures.
    """
    from vgs_mlx.commands import analyze

    analyze.run(model, **options)


@main.command(short_help="One folder that mlx-vlm runs.")
@click.argument("run", type=PATH)
@click.option("--output", type=PATH, required=True, help="A new folder for the fused model.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of the trained layers; auto: the narrowest that keeps what was learnt.",
)
@click.option("--bits", type=click.Choice(["4", "8"]), help="Quantise the fused language model.")
@click.option(
    "--prompts",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Held-out prompts to prove it on.",
)
@click.option(
    "--data",
    help="Where the run's data are, if they moved; or other rows to prove it on, such as shapes, if they are gone.",
)
@CHECKPOINT
@FORCE
@refusing
def export(run, output, dtype, bits, prompts, data, checkpoint, force) -> None:
    """\b
    vgs-mlx export runs/quickstart-1 --output my-model

    Fuse a run's trained weights into a complete model that stock mlx-vlm runs, and prove it: trained, fused
    and untrained model are compared on held-out prompts with pictures.
    """
    from vgs_mlx.commands import export

    settings = export.ExportSettings(dtype, int(bits) if bits else None, checkpoint, force)
    export.run(run, output, data, prompts, settings)


@main.command(short_help="One HTML page about a run or an ablation.")
@click.argument("folder", metavar="RUN|ABLATION", type=PATH)
@click.option("--output", type=PATH, help="The page. Default: report.html in the folder.")
@click.option(
    "--examples",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="Held-out rows answered and shown.",
)
@click.option(
    "--no-examples",
    is_flag=True,
    help="Load no models, show no answers; never in place of a page that has some.",
)
@CHECKPOINT
@FORCE
@refusing
def report(folder, output, examples, no_examples, checkpoint, force) -> None:
    """\b
    vgs-mlx report runs/quickstart-1

    Write one self-contained HTML page that reads like a lab notebook: what was run, what came out with its
    interval, curves, costs, and answers whose tokens are coloured by how far the picture moves the teacher.
    """
    from vgs_mlx.report import page

    page.write(folder, output, examples=0 if no_examples else examples, checkpoint=checkpoint, force=force)


@main.command(short_help="What this machine is, how fast, and whether it computes right.")
@click.option("--check", is_flag=True, help="About a minute: exit 1 where it doesn't compute right.")
@click.option("--json", "json_file", type=PATH, help="Write the figures of --check here too.")
@refusing
def doctor(check, json_file) -> None:
    """\b
    vgs-mlx doctor --check

    Device, versions, BLAS, memory and the speed of a matrix product. With --check, a training step on the CPU
    and the GPU beside each other and the tests' figures, and what else a run relies on.
    """
    from vgs_mlx.commands import doctor

    doctor.run(check, json_file)
