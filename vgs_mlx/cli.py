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
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key of the recipe. Repeatable.")
@click.option("--output", type=PATH, help="The run folder. Default: runs/<recipe>-<number>.")
@click.option(
    "--resume",
    is_flag=True,
    help="Resume the run in --output. --data, --student and --teacher then give the new place of what moved.",
)
@click.option(
    "--dry-run", is_flag=True, help="Load, probe, time one micro-step, print what to expect; write nothing."
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
                "--resume takes --output DIR and, if needed, --set train.steps=N and the new --data, --student or "
                "--teacher of what moved: the recipe is the run's own"
            )
        distill.resume(output, sets, shorthands, force=force)
        return
    resolved, name = recipes.resolve(recipe, shorthands, sets)
    if dry_run:
        distill.dry_run(resolved, output, force=force)
    else:
        distill.start(resolved, name, output, force=force)


@main.command(short_help="Memory and time before a run.")
@click.option("--recipe", type=RECIPE, help="As in distill.")
@click.option("--student", help="Folder, Hub id or config.json.")
@click.option("--teacher", help="Folder, Hub id or config.json.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE")
@click.option("--memory", metavar="SIZE", help="The machine's memory, such as 16GB. Default: this machine's.")
@click.option("--device", type=click.Choice(["cpu", "metal", "cuda"]), help="Default: this machine's.")
@click.option(
    "--tokens",
    nargs=2,
    type=int,
    metavar="TEXT IMAGE",
    help="Tokens of a prompt. Default: 160, data.max_pixels.",
)
@click.option("--time", "timed", is_flag=True, help="Also load, time a micro-step and print the hours.")
@click.option("--json", "json_file", type=PATH, help="Also write the bytes to this file.")
@refusing
def plan(recipe, student, teacher, sets, timed, **machine) -> None:
    """\b
    vgs-mlx plan --recipe recipes/qwen3-vl-2b-lora.yaml --memory 16GB --device metal

    Plan the memory from configs and weight headers alone. Where it doesn't fit: the gentlest changes, exit code 1.
    """
    from vgs_mlx.commands import plan

    shorthands = {key: path for key, path in (("student", student), ("teacher", teacher)) if path}
    sys.exit(plan.run(recipe, shorthands, sets, timed=timed, **machine))


@main.command(short_help="Compare settings over seeds.")
@click.argument("recipe", required=False, type=RECIPE)
@click.option(
    "--vary",
    multiple=True,
    metavar="KEY=VALUE,VALUE",
    help="A key and its values. Repeatable: all combinations.",
)
@click.option("--seeds", type=click.IntRange(1), help="Runs of each cell: seeds 0, 1, ... Default: 3.")
@click.option("--output", type=PATH, help="The folder for all runs and the summary.")
@click.option("--baseline", help="The cell to compare with, by its settings or name. Default: the first.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs at the same time.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key, for all cells.")
@click.option(
    "--reach", type=click.FloatRange(0, 1), help="The accuracy to reach. Default: the baseline's final one."
)
@click.option("--resume", type=PATH, metavar="DIR", help="Resume the grid in DIR.")
@click.option("--summary", type=PATH, metavar="DIR", help="Only print the results so far.")
@refusing
def ablate(recipe, vary, seeds, output, baseline, jobs, sets, reach, resume, summary) -> None:
    """\b
    vgs-mlx ablate recipes/quickstart.yaml --output runs/gamma --seeds 5 \\
        --vary objective.name=standard,vgs --vary objective.steering_coef=1,2,4

    Run every combination with several seeds and compare them: accuracy with intervals, paired differences to
    the baseline, curves. RECIPE is a recipe, or a file that names its cells. Repeat the command to resume the grid;
    it may then have more seeds and cells.
    """
    kept = resume or summary
    if kept and (recipe or vary or seeds or output or sets or (resume and summary)):
        raise Refusal("--resume DIR and --summary DIR take no grid: the folder has its own")
    if not kept and not (recipe and output):
        raise Refusal("give a recipe and --output DIR; or --resume DIR, or --summary DIR")
    from vgs_mlx.commands import ablate

    if summary:
        code = ablate.show(summary, baseline=baseline, reach=reach)
    elif resume:
        code = ablate.resume(resume, jobs=jobs, baseline=baseline, reach=reach)
    else:
        options = ablate.GridOptions(recipe, vary, sets, seeds, baseline)
        code = ablate.start(options, output, jobs=jobs, reach=reach)
    sys.exit(code)


@main.command(short_help="Accuracy of a model on held-out rows.")
@click.argument("model")
@click.option(
    "--data",
    help="A .jsonl file, a Hub data set, or shapes: all of its rows. Of a copy of the run's own data, only the rows "
    "that were held out. Default: the run's held-out rows, or shapes.",
)
@asked_how
@click.option("--suite", help="Published benchmarks: vision, low-vision, text, all, or the name of one.")
@click.option("--output", type=PATH, help="Where a suite's answers are kept. Default: suites/...")
@click.option("--against", type=PATH, help="The folder of another model's answers, to compare with.")
@CHECKPOINT
@FORCE
@refusing
def evaluate(model, data, suite, output, against, **options) -> None:
    """\b
    vgs-mlx evaluate runs/quickstart-1 --no-image
    vgs-mlx evaluate runs/mine-1 --suite vision --against suites/before

    How often MODEL (a run folder, a local model folder or a Hub id) answers right, by question kind, with a
    95 % interval: greedy (Acc@1), or the mean of --samples answers at --temperature. With --suite, on published
    benchmarks: answers are kept, and a question that has its answer is not asked again. docs/grading.md says what
    counts as right; --grading prints why an answer is wrong.
    """
    asked = AskOptions(**options)
    if suite is None:
        if output or against:
            raise Refusal("--output and --against belong to --suite: give --suite too")
        from vgs_mlx.commands import evaluate

        evaluate.run(model, data, asked)
        return
    if data:
        raise Refusal("--data and --suite exclude each other: give one of them")
    from vgs_mlx.commands import suite as suite_command

    suite_command.run(model, suite, output, against, asked)


@main.command(short_help="The angles between the loss components' gradients.")
@click.argument("model")
@click.option("--teacher", help="The teacher, where MODEL is not a run or had no teacher.")
@click.option("--recipe", type=RECIPE, help="The recipe, where MODEL is not a run.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key of that recipe.")
@click.option(
    "--prompts", type=click.IntRange(1), default=16, show_default=True, help="Held-out prompts in a batch."
)
@click.option(
    "--batches",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Batches; the spread is over them.",
)
@click.option(
    "--bins", type=click.IntRange(2), default=10, show_default=True, help="Bins with equally many tokens."
)
@click.option("--output", type=PATH, help="The folder to write to. Default: the run.")
@CHECKPOINT
@FORCE
@refusing
def analyze(model, **options) -> None:
    """\b
    vgs-mlx analyze runs/quickstart-1
    vgs-mlx analyze embedded:student --teacher embedded:teacher --output analysis

    Sample answers to held-out prompts, bin their tokens by visual dependency, and measure in each bin the angles
    between the gradients of the standard, visual and language losses (the paper's figure 3). MODEL is a run folder
    or a model. Writes geometry.json and figures.
    """
    from vgs_mlx.commands import analyze

    analyze.run(analyze.Asked(model, **options))


@main.command(short_help="One folder that mlx-vlm runs.")
@click.argument("run", type=PATH)
@click.option("--output", type=PATH, required=True, help="A new folder for the fused model.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
    default="auto",
    show_default=True,
    help="The dtype of the trained layers. auto: the narrowest that keeps the training.",
)
@click.option("--bits", type=click.Choice(["4", "8"]), help="Quantise the fused language model.")
@click.option(
    "--prompts",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Held-out prompts to compare the models on.",
)
@click.option(
    "--data",
    help="The new place of the run's data, if it moved; if it is gone, other rows to compare on, such as shapes.",
)
@CHECKPOINT
@FORCE
@refusing
def export(run, output, dtype, bits, prompts, data, checkpoint, force) -> None:
    """\b
    vgs-mlx export runs/quickstart-1 --output my-model

    Fuse a run's trained weights into a complete model that stock mlx-vlm runs, and prove it: the trained, the fused
    and the untrained model are compared on held-out prompts with pictures.
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
    "--no-examples", is_flag=True, help="Load no models, show no answers; replaces no page with answers."
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
    from vgs_mlx.commands import report as reporting

    reporting.run(folder, output, examples=0 if no_examples else examples, checkpoint=checkpoint, force=force)


@main.command(short_help="What this machine is, how fast, and whether it computes right.")
@click.option("--check", is_flag=True, help="Check the arithmetic (a minute); exit code 1 where it is wrong.")
@click.option("--json", "json_file", type=PATH, help="Also write the figures of --check to this file.")
@refusing
def doctor(check, json_file) -> None:
    """\b
    vgs-mlx doctor --check

    Print the device, versions, BLAS, memory and the speed of a matrix product. With --check, compare a training
    step on the CPU, on the GPU and in the tests, and check what else a run relies on.
    """
    from vgs_mlx.commands import doctor

    doctor.run(check, json_file)


if __name__ == "__main__":
    main()
