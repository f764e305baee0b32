"""What a run has written down is read as it is, or its damage is refused by file and row, before anything loads."""

import json
import shutil

import pytest

from toy_runs import command, copied, finished, go_on, state_of
from vgs_mlx.commands import distill
from vgs_mlx.errors import Refusal
from vgs_mlx.runs import checkpoint, ledger, records, trained
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.train import watch

ROW = {"step": 3, "accuracy": 0.5, "low": 0.4, "high": 0.6, "prompts": 8}
DAMAGES = {
    "half a row": b'{"step": 3, "accu\n',
    "no object": b"[]\n",
    "no accuracy": json.dumps({"step": 3}).encode() + b"\n",
    "a step that is text": json.dumps({**ROW, "step": "3"}).encode() + b"\n",
    "an accuracy of NaN": json.dumps({**ROW, "accuracy": float("nan")}).encode() + b"\n",
    "too deep": b"[" * 100_000 + b"\n",
    "not UTF-8": b"\xff\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_row_is_refused_by_its_line(damage, tmp_path):
    file = tmp_path / run_folder.EVALUATIONS
    file.write_bytes(json.dumps(ROW).encode() + b"\n" + DAMAGES[damage])
    for read in (records.rows, lambda _: run_folder.best_evaluation(tmp_path)):
        with pytest.raises(Refusal, match=r"evaluations.jsonl:2: damaged \(") as refused:
            read(file)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_last_row_that_a_kill_cut_is_no_row(damage, tmp_path):
    file = tmp_path / run_folder.EVALUATIONS
    file.write_bytes(json.dumps(ROW).encode() + b"\n" + DAMAGES[damage].rstrip(b"\n"))
    assert records.rows(file) == [ROW]


def test_a_loss_that_is_no_number_is_a_row_like_any_other(tmp_path):
    run_folder.append(tmp_path / run_folder.METRICS, {"step": 1, "loss": float("nan"), "finite": False})
    assert records.rows(tmp_path / run_folder.METRICS)[0]["step"] == 1


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / run_folder.METRICS).mkdir()
    with pytest.raises(Refusal, match=r"metrics.jsonl: not a file"):
        records.rows(tmp_path / run_folder.METRICS)


@pytest.mark.parametrize(
    "content", ['{"steps": "4"}', '{"steps": -1}', "[]", "{", '{"steps": 4, "steps": 5}']
)
def test_a_damaged_result_is_refused_by_its_name(content, tmp_path):
    (tmp_path / run_folder.RESULT).write_text(content)
    with pytest.raises(Refusal, match=r"result.json: damaged"):
        records.read_object(tmp_path / run_folder.RESULT)


def unfinished(folder, *sets):
    run = copied(finished(*sets), folder)
    (run / run_folder.RESULT).unlink()
    shutil.rmtree(run / run_folder.FINAL)
    return run


@pytest.mark.parametrize("name", [run_folder.METRICS, run_folder.EVALUATIONS, run_folder.ANSWERS])
def test_a_run_with_a_damaged_row_does_not_go_on_and_stays_as_it_is(name, tmp_path, monkeypatch):
    monkeypatch.setattr(distill.setup, "load", lambda *_: pytest.fail("loaded"))
    run = unfinished(tmp_path / "run")
    lines = (run / name).read_bytes().splitlines(keepends=True)
    (run / name).write_bytes(b"".join([lines[0][:20] + b"\n", *lines[1:]]))
    before = state_of(run)
    refused = command("distill", "--resume", "--output", run)
    assert refused.exit_code == 2 and f"{name}:1: damaged" in refused.stderr
    assert state_of(run) == before


@pytest.mark.parametrize("content", ["{", "{}", "[[]]", '[["a"]]', "[[-1]]", "[3]"])
def test_damaged_rollouts_to_watch_are_refused(content, tmp_path):
    (tmp_path / watch.FILE).write_text(content)
    with pytest.raises(Refusal, match=r"watched.json: can't be read \(damaged\)"):
        watch.kept_completions(tmp_path)


@pytest.mark.parametrize("content", [[[3]], [[3]] * 9, [[10**6]] * 8], ids=["few", "many", "foreign"])
def test_rollouts_of_other_rows_or_another_student_are_refused_before_a_step(content, tmp_path):
    watched = ("train.watch_every=4",)
    run = unfinished(tmp_path / "run", *watched)
    shutil.rmtree(run / run_folder.CHECKPOINTS / "step-000004")
    (run / watch.FILE).write_text(json.dumps(content))
    before = state_of(run)
    with pytest.raises(Refusal, match=r"watched.json: can't be read \(its rollouts don't match these rows"):
        go_on(run, *watched)
    assert state_of(run) == before


@pytest.mark.parametrize("name", [run_folder.RESULT, run_folder.EVALUATIONS])
def test_a_folder_where_a_run_has_a_file_is_refused_before_anything_loads(name, tmp_path, monkeypatch):
    monkeypatch.setattr(distill.setup, "load", lambda *_: pytest.fail("loaded"))
    run = copied(finished(), tmp_path / "run")
    (run / name).unlink()
    (run / name).mkdir()
    refused = command("distill", "--resume", "--output", run, "--set", "train.steps=6")
    assert refused.exit_code == 2 and f"{name}" in refused.stderr


def test_a_folder_beside_the_checkpoints_is_none_of_them(tmp_path):
    for name in ("step-000002", "step-000010", "step-000002.bak", "step-new", "step-1"):
        (tmp_path / run_folder.CHECKPOINTS / name).mkdir(parents=True)
    assert [checkpoint.step_of(each) for each in checkpoint.all_of(tmp_path)] == [2, 10]
    assert list(trained.checkpoints(tmp_path)) == [2, 10]


@pytest.mark.parametrize("identity", [[], "x", 3, [["student", "a"]]])
def test_fingerprints_that_are_none_are_refused(identity, tmp_path):
    (tmp_path / run_folder.RESULT).write_text(json.dumps({"steps": 4, "identity": identity or [1]}))
    with pytest.raises(Refusal, match="its fingerprints are damaged"):
        trained.kept_identity(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        {"part": [], "row": "a", "pictures": []},
        {"part": "train", "row": 3, "pictures": []},
        {"part": "train", "row": "a", "pictures": [["a"]]},
        {"part": "train", "row": "a", "pictures": {"a": 1}},
    ],
    ids=str,
)
def test_a_damaged_line_of_the_pictures_is_refused_by_its_number(line, tmp_path):
    (tmp_path / run_folder.PICTURES).write_text(json.dumps(line) + "\n")
    with pytest.raises(Refusal, match=r"pictures.jsonl:1: damaged"):
        ledger.fingerprint(tmp_path)
