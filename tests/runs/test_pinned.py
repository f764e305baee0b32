"""A Hub that moves on changes nothing for a run: what it was made from stays named by its commit."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from toy_runs import command, options, recipe
from vgs_mlx.ablation import inputs, jobs
from vgs_mlx.ablation.grid import Cell, Grid
from vgs_mlx.models import hub
from vgs_mlx.planning.plan import changed
from vgs_mlx.resources import tiny_model
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import sources

FIRST, LATER = "1" * 40, "2" * 40


class Hub:
    """Stands for the Hub: owner/student, at FIRST to begin with. Each commit's folder is there once it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.newest, self.fetched = folder, FIRST, []

    def model_info(self, name, *, revision=None, timeout):
        return SimpleNamespace(sha=revision if revision in (FIRST, LATER) else self.newest)

    def get_model_path(self, name, *, revision):
        commit = revision if revision in (FIRST, LATER) else self.newest
        self.fetched.append(commit)
        place = self.folder / commit
        if not place.exists():
            shutil.copytree(tiny_model("student"), place)
            if commit == LATER:
                (place / "chat_template.jinja").write_text("another {{ messages }}")
        return place


@pytest.fixture
def online(tmp_path, monkeypatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(hub, "HfApi", lambda: made)
    monkeypatch.setattr(hub.mlx_vlm.utils, "get_model_path", made.get_model_path)
    monkeypatch.chdir(tmp_path)
    return made


SMALL = (
    "train.steps=1",
    "train.evaluate_every=1",
    "rollout.max_completion_length=2",
    "train.evaluate_rows=1",
)


def test_a_run_keeps_to_the_commit_it_began_with(online):
    done = command("distill", "--output", "run", *options(*SMALL, "student.path=owner/student"))
    assert done.exit_code == 0, done.output
    assert f"hub      student owner/student@{FIRST}" in done.stdout
    assert f"--model owner/student --revision {FIRST} --adapter-path" in done.stdout
    assert run_folder.opened(Path("run")).student.path == f"owner/student@{FIRST}"
    online.newest = LATER
    resumed = command("distill", "--resume", "--output", "run", "--set", "train.steps=2")
    assert resumed.exit_code == 0, resumed.output
    assert command("evaluate", "run", "--limit", 1).exit_code == 0
    assert command("export", "run", "--output", "model", "--prompts", 1).exit_code == 0
    card = Path("model/README.md").read_text()
    assert "base_model: owner/student\n" in card and f"path: owner/student@{FIRST}" in card
    assert set(online.fetched) == {FIRST}


def test_a_run_that_was_killed_before_its_commit_was_written_down_keeps_to_one_from_then_on(online):
    run_folder.create(Path("run"), recipe(*SMALL, "student.path=owner/student"))
    done = command("distill", "--resume", "--output", "run")
    assert done.exit_code == 0, done.output
    assert run_folder.opened(Path("run")).student.path == f"owner/student@{FIRST}"


def test_every_name_of_the_hub_is_pinned_once_and_nothing_else(online, monkeypatch):
    said = []
    given = recipe(
        "teacher.path=owner/student@main", "student.path=owner/student", "data.source=none/there.jsonl"
    )
    known = {}
    found = sources.pinned(given, said.append, known)
    assert found.student.path == found.teacher.path == f"owner/student@{FIRST}"
    assert found.data == given.data and len(said) == 2
    online.newest = LATER
    assert sources.pinned(given, said.append, known) == found and len(said) == 2
    without = changed(given, "objective.name", "sft")
    assert sources.pinned(without, said.append).teacher.path == "owner/student@main"


def test_data_of_the_hub_are_pinned_with_their_split(online, monkeypatch):
    data_hub = pytest.importorskip("vgs_mlx.data.hub")
    monkeypatch.setattr(data_hub.HfApi, "dataset_info", lambda *_, **__: SimpleNamespace(sha=LATER))
    given = recipe("data.source=owner/rows@v1:train", "data.held_out=test")
    data = sources.pinned(given, lambda _: None).data
    assert (data.source, data.held_out) == (f"owner/rows@{LATER}:train", "test")
    given = recipe("data.source=shapes:24", "data.held_out=owner/rows:test")
    assert sources.pinned(given, lambda _: None).data.held_out == f"owner/rows@{LATER}:test"


def test_a_hub_that_cannot_say_which_commit_it_is_is_said(monkeypatch):
    data_hub, said = pytest.importorskip("vgs_mlx.data.hub"), []

    def unreachable(*_, **__):
        raise ConnectionError("no way")

    monkeypatch.setattr(data_hub.HfApi, "dataset_info", unreachable)
    given = recipe("data.source=owner/rows", "data.held_out=0.5")
    assert sources.pinned(given, said.append) == given
    assert said == ["WARNING  data owner/rows: the Hub can't say which commit this is, so none is recorded"]


def test_the_runs_of_a_grid_share_one_commit_for_ever(online, tmp_path):
    made = Grid(
        tuple(Cell(name, {}, recipe("student.path=owner/student", f"train.steps={steps}"), 1)
              for name, steps in (("a", 1), ("b", 2))), "a",
    )  # fmt: skip
    first = inputs.pinned(made, None, lambda _: None)
    assert {cell.recipe.student.path for cell in first.cells} == {f"owner/student@{FIRST}"}
    online.newest = LATER
    assert inputs.pinned(made, first, lambda _: None) == first


def test_a_run_that_added_its_commit_is_still_the_grid_s(tmp_path):
    given = recipe("student.path=owner/student")
    (job,) = jobs.jobs_of(tmp_path, Grid((Cell("a", {}, given, 1),), "a"))
    run_folder.create(job.folder, changed(given, "student.path", f"owner/student@{FIRST}"))
    assert not jobs.finished(job)
