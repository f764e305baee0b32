"""What `vgs-mlx ablate` does: the grid, its runs, and what came out."""

import shlex
from collections.abc import Sequence
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


def start(
    file: Path,
    vary: Sequence[str],
    output: Path,
    *,
    seeds: int | None,
    baseline: str | None,
    jobs: int,
    sets: Sequence[str],
    reach: float | None,
) -> int:
    """A new grid, or that of a folder, from where it was, maybe with more seeds and cells. The exit code: 1 where a
    run failed. Raises `Refusal`."""
    made, notes = grid_file.read(file, vary, sets, seeds, baseline)
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
    """Go on with the grid of a folder. The exit code: 1 where a run failed. Raises `Refusal`."""
    made = _kept(folder, baseline)
    _refuse_contradictions(made)
    with run_folder.held(folder):
        return _run(folder, made, jobs, reach, Board())


def show(folder: Path, *, baseline: str | None, reach: float | None) -> int:
    """What came out as far as the grid has got, on the screen and in its folder. Raises `Refusal`."""
    _tell(folder, _kept(folder, baseline), reach, Board())
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
    """Every run that has not finished, then what came out. The folder is held."""
    board.say(f"ablation {folder}: {len(made.cells)} cells, baseline {made.baseline}")
    all_ = jobs_of(folder, made)
    refuse_changed(results.split(all_)[0])
    states = runner.run(all_, jobs, board)
    ended = list(states.values())
    if not {*ended} <= {"done", "failed"}:  # some stopped, some waiting, or one whose end nobody came to see
        again = f"vgs-mlx ablate --resume {shlex.quote(str(folder))}" + (
            f" --jobs {jobs}" if jobs > 1 else ""
        )
        raise Interrupted(f"{ended.count('done')} of {len(ended)} runs are done; go on with: {again}")
    if "done" in ended:
        _tell(folder, made, reach, board)
    failed = [job.name for job, state in states.items() if state == "failed"]
    if failed:
        board.say(f"FAILED   {'; '.join(failed)}: the same command tries them again")
    return int(bool(failed))


def _refuse_contradictions(made: Grid) -> None:
    """Before anything runs, not when a cell's turn comes. Raises `Refusal`."""
    for cell in made.cells:
        try:
            setup.refuse_contradictions(cell.recipe)
            if run := earlier_run.named(cell.recipe.student.path):
                raise Refusal(
                    f"student.path={cell.recipe.student.path}: a run folder, of which every run would make a copy: "
                    f"give the model that vgs-mlx export {shlex.quote(str(run[0]))} --output MODEL makes"
                )
        except Refusal as problem:
            raise Refusal(f"cell {cell.name}: {problem}") from problem


def _readme(folder: Path) -> str:
    name = shlex.quote(str(folder))
    return f"""# An ablation of vgs-mlx

`{grid_file.GRID}` holds the cells with their whole recipes and their seeds. `CELL/seed-N/` is an ordinary run folder,
`CELL/seed-N.log` what that run said. `{grid.SUMMARY}/summary.md` is what came out.

    vgs-mlx ablate --resume {name}
    vgs-mlx ablate --summary {name}
"""


def _tell(folder: Path, made: Grid, reach: float | None, board: Board) -> Summary:
    done, unfinished = results.split(jobs_of(folder, made))
    if not done:
        raise Refusal(
            f"{folder}: no run has finished yet: vgs-mlx ablate --resume {shlex.quote(str(folder))}"
        )
    refuse_changed(done)
    settings = {cell.name: cell.settings for cell in made.cells}
    order = list(settings)
    done.sort(key=lambda job: (order.index(job.cell), job.recipe.seed))
    found = [results.read(job.folder, job.cell, job.recipe.seed) for job in done]
    summary = summarise(found, made.baseline, reach, [job.name for job in unfinished], settings)
    out = folder / grid.SUMMARY
    out.mkdir(exist_ok=True)
    tables.write(out, summary)
    figures.write(out, summary)
    runs = [watched.read(job.folder, job.cell, job.recipe.seed) for job in done]
    inside = watched.over_seeds(watched.shared(runs))
    if inside:
        watched.write(out, runs, made.baseline)
        watched_figures.write(out, inside)
    board.say("")
    board.console.print(tables.on_screen(tables.cell_rows(summary), tables.CELLS_SHOWN))
    if summary.differences:
        board.say(f"\n{tables.compared(summary)}")
        board.console.print(tables.on_screen(tables.difference_rows(summary), tables.DIFFERENCES_SHOWN))
    if unfinished:
        board.say(f"left out {len(unfinished)} runs that have not finished; summary.md names them")
    board.say(
        f"written  {out}: summary.md, cells.csv, differences.csv, curves.csv, summary.json, figures"
        + (", watched.md" if inside else "")
    )
    return summary
