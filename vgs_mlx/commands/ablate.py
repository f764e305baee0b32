"""What `vgs-mlx ablate` does: make a grid, run it, summarise it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgs_mlx.ablation import figures, grid, grid_file, results, runner, tables, watched, watched_figures
from vgs_mlx.ablation.board import Board
from vgs_mlx.ablation.grid import Grid
from vgs_mlx.ablation.inputs import pinned, refuse_changed
from vgs_mlx.ablation.jobs import jobs_of
from vgs_mlx.ablation.summary import Summary, summarise
from vgs_mlx.errors import Interrupted, Refusal
from vgs_mlx.exporting import earlier_run
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.train import setup


@dataclass(frozen=True)
class GridOptions:
    """What describes a new grid: see the command's help."""

    file: Path
    vary: Sequence[str]
    sets: Sequence[str]
    seeds: int | None
    baseline: str | None


def start(options: GridOptions, output: Path, *, jobs: int, reach: float | None) -> int:
    """Run a new grid, or continue that of a folder, perhaps with more seeds and cells. Returns the exit code: 1 where a
    run failed. Raises `Refusal`."""
    made, notes = grid_file.read(options.file, options.vary, options.sets, options.seeds, options.baseline)
    _refuse_contradictions(made)
    board = Board()
    if not (output / grid_file.GRID).is_file():
        run_folder.refuse_used(output)
        _make(output)
    with run_folder.held(output):
        kept = grid_file.load(output) if (output / grid_file.GRID).is_file() else None
        made = pinned(made, kept, board.say)
        if kept:
            grid_file.refuse_another(output, made)
        grid_file.save(output, made)
        run_folder.write_text(output / "README.md", _readme(output))
        for note in notes:
            board.say(f"same     {note}")
        return _run(output, made, jobs, reach, board)


def resume(folder: Path, *, jobs: int, baseline: str | None, reach: float | None) -> int:
    """Continue the grid of a folder. Returns the exit code: 1 where a run failed. Raises `Refusal`."""
    made = _kept(folder, baseline)
    _refuse_contradictions(made)
    with run_folder.held(folder):
        return _run(folder, made, jobs, reach, Board())


def show(folder: Path, *, baseline: str | None, reach: float | None) -> int:
    """Summarise the runs that have finished, on the screen and in the folder. Raises `Refusal`."""
    _summarise(folder, _kept(folder, baseline), reach, Board())
    return 0


def _kept(folder: Path, baseline: str | None) -> Grid:
    kept = grid_file.load(folder)
    return Grid(kept.cells, grid.baseline_of(kept.cells, baseline)) if baseline else kept


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(
            f"--output {folder}: can't be written ({error.strerror}): give another folder"
        ) from error


def _run(folder: Path, made: Grid, jobs: int, reach: float | None, board: Board) -> int:
    """Run what has not finished, then summarise. The caller holds the folder."""
    board.say(f"ablation {folder}: {len(made.cells)} cells, baseline {made.baseline}")
    every_job = jobs_of(folder, made)
    refuse_changed(results.split(every_job)[0])
    states = runner.run(every_job, jobs, board)
    ended = list(states.values())
    if not {*ended} <= {
        "done",
        "failed",
    }:  # interrupted: some are waiting, stopped, or still marked as running
        again = f"vgs-mlx ablate --resume {shlex.quote(str(folder))}" + (
            f" --jobs {jobs}" if jobs > 1 else ""
        )
        raise Interrupted(f"{ended.count('done')} of {len(ended)} runs are done; go on with: {again}")
    if "done" in ended:
        _summarise(folder, made, reach, board)
    failed = [job.name for job, state in states.items() if state == "failed"]
    if failed:
        board.say(f"FAILED   {'; '.join(failed)}: the same command tries them again")
    return int(bool(failed))


def _refuse_contradictions(made: Grid) -> None:
    """Check every cell before the first one runs. Raises `Refusal`."""
    for cell in made.cells:
        try:
            setup.refuse_contradictions(cell.recipe)
            if run := earlier_run.named(cell.recipe.student.path):
                raise Refusal(
                    f"student.path={cell.recipe.student.path}: a run folder, which every run would copy: "
                    f"give the model that vgs-mlx export {shlex.quote(str(run[0]))} --output MODEL makes"
                )
        except Refusal as problem:
            raise Refusal(f"cell {cell.name}: {problem}") from problem


def _readme(folder: Path) -> str:
    name = shlex.quote(str(folder))
    return f"""# An ablation of vgs-mlx

`{grid_file.GRID}` holds the cells with their whole recipes and their seeds. `CELL/seed-N/` is an ordinary run folder,
`CELL/seed-N.log` the output of that run. `{grid.SUMMARY}/summary.md` holds the results.

    vgs-mlx ablate --resume {name}
    vgs-mlx ablate --summary {name}
"""


def _summarise(folder: Path, made: Grid, reach: float | None, board: Board) -> None:
    done, unfinished = results.split(jobs_of(folder, made))
    if not done:
        raise Refusal(
            f"{folder}: no run has finished yet: vgs-mlx ablate --resume {shlex.quote(str(folder))}"
        )
    refuse_changed(done)
    settings = {cell.name: cell.settings for cell in made.cells}
    order = list(settings)
    done.sort(key=lambda job: (order.index(job.cell), job.recipe.seed))
    measured = [results.read(job.folder, job.cell, job.recipe.seed) for job in done]
    summary = summarise(measured, made.baseline, reach, [job.name for job in unfinished], settings)
    out = folder / grid.SUMMARY
    out.mkdir(exist_ok=True)
    tables.write(out, summary)
    figures.write(out, summary)
    runs = [watched.read(job.folder, job.cell, job.recipe.seed) for job in done]
    traces = watched.over_seeds(watched.shared(runs))
    if traces:
        watched.write(out, runs, made.baseline)
        watched_figures.write(out, traces)
    _print(summary, board)
    files = "summary.md, cells.csv, differences.csv, curves.csv, summary.json, figures"
    board.say(f"written  {out}: {files}{', watched.md' if traces else ''}")


def _print(summary: Summary, board: Board) -> None:
    board.say("")
    board.console.print(tables.on_screen(tables.cell_rows(summary), tables.CELLS_SHOWN))
    if summary.differences:
        board.say(f"\n{tables.compared(summary)}")
        board.console.print(tables.on_screen(tables.difference_rows(summary), tables.DIFFERENCES_SHOWN))
    if summary.unfinished:
        board.say(f"omitted  {len(summary.unfinished)} runs that have not finished; summary.md names them")
