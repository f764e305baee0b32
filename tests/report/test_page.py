"""The page is complete, says what is missing, and never turns what others wrote into markup."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from report_parts import GEOMETRY, WATCHED
from toy_runs import QUIET, command, copied, finished, state_of
from vgs_mlx.commands import report
from vgs_mlx.errors import Refusal
from vgs_mlx.report import page
from vgs_mlx.report.examples import Examples, Said, Shown, ShownPicture
from vgs_mlx.report.record import read
from vgs_mlx.report.tokens import Token
from vgs_mlx.runs import folder as run_folder

EVIL = "<script>alert('x')</script> & \"quoted\""


def written(folder: Path) -> str:
    """The page of a run without its examples."""
    return report.run(folder, None, examples=0, screen=QUIET).read_text(encoding="utf-8")


def evil_examples() -> Examples:
    token = Token(" ", EVIL, 1.2, 0.5, 0.25)
    picture = ShownPicture("data:image/png;base64,AAAA", EVIL, 4, 4)
    said = Said("Teacher", False, False, (token,))
    return Examples((Shown(EVIL, EVIL, EVIL, (picture,), (said,)),), (EVIL,))


def test_the_command_writes_a_page_beside_the_run_and_changes_nothing_else(tmp_path):
    run = copied(finished(), tmp_path / "run")
    before = state_of(run)
    result = command("report", run, "--no-examples")
    assert result.exit_code == 0, result.output
    assert str(run / "report.html") in result.output
    after = state_of(run)
    assert "not finished" not in after.pop("report.html")[1].decode()
    assert after == before


def test_a_finished_run_shows_every_part(tmp_path):
    found = written(copied(finished(), tmp_path / "run"))
    for heading in (
        "What was run",
        "Results",
        "Training",
        "Cost",
        "Examples",
        "How to reproduce it",
    ):
        assert f"{heading}</h2>" in found
    assert "points, 95" in found
    assert "The geometry" not in found  # nobody analysed this run
    for title in (
        "Standard loss",
        "Visual grounding loss",
        "Norm scale η",
        "Entropy",
        "Completion length",
        "Scene F1",
    ):
        assert f"<b>{title}</b>" in found
    assert "train.learning_rate" in found  # it differs from the default


def test_the_geometry_is_shown_where_the_run_was_analysed(tmp_path):
    run = copied(finished(), tmp_path / "run")
    (run / "geometry.json").write_text(json.dumps(GEOMETRY))
    found = written(run)
    assert "The geometry of the gradients" in found and "over 8 batches" in found
    assert (
        found.count('<svg xmlns="http://www.w3.org/2000/svg"')
        == written(copied(finished(), tmp_path / "plain")).count("<svg") + 5
    )
    assert "circle (5), &#39;\\n&#39; (2), &lt;b&gt; (1)" in found


def test_the_terms_by_visual_dependency_are_shown_where_they_were_watched(tmp_path):
    run = copied(finished(), tmp_path / "run")
    (run / run_folder.TERMS).write_text("".join(f"{json.dumps(row)}\n" for row in WATCHED))
    found = written(run)
    assert "The terms by visual dependency" in found
    assert "Language prior loss on fixed held-out answers" in found
    assert "high: 1.30 at 0, 1.30 at 4" in found and "middle: no values" in found


def test_what_others_wrote_is_never_markup(tmp_path):
    record = replace(read(finished()), name=EVIL, versions={EVIL: EVIL}, damaged=(EVIL,))
    found = page.render_run(record, evil_examples())
    assert found.count("<script>") == 1 == found.count("</script>")  # the page's own
    assert found.count("&lt;script&gt;alert(") >= 8


def test_an_unfinished_run_says_so_and_what_is_missing(tmp_path):
    run = copied(finished(), tmp_path / "run")
    shutil.rmtree(run / run_folder.FINAL)
    rows = run_folder.rows(run / run_folder.METRICS)[:3]
    rows[1] |= {"finite": False, "loss_standard": None}
    lines = [json.dumps(row) for row in rows]
    (run / run_folder.METRICS).write_text("\n".join(lines) + '\n{"step": 4, "los')  # killed while writing
    evaluations = run_folder.rows(run / run_folder.EVALUATIONS)
    (run / run_folder.EVALUATIONS).write_text(json.dumps(evaluations[0]) + "\n")
    found = written(run)
    assert "has not finished: it is at step 3 of 4" in found
    assert "1 update of 3 skipped" in found and "(step 2)" in found
    assert "Part of metrics.jsonl could not be read" in found
    assert "Before training, the student answers" in found


def test_a_run_that_did_nothing_yet_has_an_honest_page(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished() / run_folder.RECIPE, run)
    found = written(run)
    assert "Nothing can be said about accuracy yet" in found
    assert "there are no curves" in found and "Cost</h2>" not in found and "Results</h2>" not in found


def test_answers_written_during_the_run_stand_in_for_examples(tmp_path):
    run = copied(finished(), tmp_path / "run")
    rows = [{"step": step, "question": f"q{step}?", "completion": EVIL, "expected": "red", "right": False}
            for step in (0, 2, 4)]  # fmt: skip
    (run / run_folder.COMPLETIONS).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = written(run)
    assert "q0?" in found and "q4?" in found and "q2?" not in found
    assert "wrong, expected red" in found and "&lt;script&gt;" in found


def test_a_page_without_examples_never_replaces_one_with_them(tmp_path, monkeypatch):
    run = copied(finished(), tmp_path / "run")
    monkeypatch.setattr(page, "collect", lambda *_: evil_examples())
    first = report.run(run, None, examples=1, screen=QUIET)
    kept = first.read_bytes()
    refused = command("report", run, "--no-examples")
    assert refused.exit_code == 2 and first.read_bytes() == kept
    assert f"{first}: shows answers of the models, and the new page has none" in " ".join(
        refused.output.split()
    )
    monkeypatch.setattr(page, "collect", lambda *_: Examples((), ("No model is there.",)))
    assert command("report", run).exit_code == 2 and first.read_bytes() == kept
    other = run / "plain.html"
    for _ in range(2):  # what has no answers may be replaced
        assert command("report", run, "--no-examples", "--output", other).exit_code == 0
    monkeypatch.setattr(page, "collect", lambda *_: evil_examples())
    assert command("report", run).exit_code == 0


@pytest.mark.parametrize("name", ["page.txt", "metrics.jsonl", "folder.html", "missing/page.html"])
def test_an_output_that_is_not_a_page_is_refused(tmp_path, name):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(Refusal, match="--output"):
        report.run(finished(), tmp_path / name, examples=0, screen=QUIET)
    assert not (tmp_path / "page.txt").exists()


def test_a_folder_that_is_neither_is_refused(tmp_path):
    result = command("report", tmp_path)
    assert result.exit_code == 2
    assert "neither a run" in result.output and "nor an ablation" in result.output
    assert not (tmp_path / "report.html").exists()


def test_the_page_may_load_nothing(tmp_path):
    found = page.render_run(read(finished()), evil_examples())
    assert "default-src 'none'" in found
    addresses = re.findall(r'\b(?:src|href|action|data)="([^"]*)"', found)
    assert addresses and all(each.startswith(("data:", "#")) for each in addresses)


def test_every_token_shows_its_score(tmp_path):
    found = page.render_run(read(finished()), evil_examples())
    (token,) = re.findall(r'<span class="t [^>]*>', found)
    assert 'class="t v4"' in token and 'data-vds="1.20"' in token and 'tabindex="0"' in token
    assert "VDS 1.20 nats" in token and "50\u202f% with the picture, 25\u202f% without" in token
