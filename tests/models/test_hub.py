"""A path is a folder or a Hub id; where it leads nowhere, that is one line, and soon."""

import socket
import threading
import time
from types import SimpleNamespace
from typing import ClassVar

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import RevisionNotFoundError

from model_folders import copied, load, refusal
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import hub_names
from vgs_mlx.models import hub, loading


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "no model given"),
        ("/no/such/model", "no such folder, and not a Hub id"),
        ("./model", "no such folder, and not a Hub id"),
        ("~/model", "no such folder, and not a Hub id"),
        ("model", "no such folder, and not a Hub id"),
        ("a/b/c", "no such folder, and not a Hub id"),
        ("a b/c", "the Hub refused"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(tmp_path, monkeypatch, path, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    line = refusal(path)
    assert line.startswith("--student") and reason in line and "\n" not in line


def test_a_folder_of_two_parts_is_never_taken_for_a_hub_id(tmp_path, monkeypatch):
    """Libraries further on would ask the Hub for files that a relative folder doesn't have."""
    copied(tmp_path / "own" / "model")
    monkeypatch.chdir(tmp_path)
    assert loading.find_folder("own/model", "--student") == tmp_path / "own" / "model"


def test_without_network_a_hub_id_is_one_clear_line_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    start = time.perf_counter()
    line = refusal("someone/something")
    assert time.perf_counter() - start < 10
    assert line.startswith("--student someone/something: no such folder, and the Hub can't be reached")
    assert "go online, or give a local folder" in line and "\n" not in line


@pytest.fixture
def mute_hub(tmp_path, monkeypatch):
    """A Hub that takes calls and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(hub, "PATIENCE", 0.3)
        end = threading.Timer(30, listening.close)  # whoever waits for ever fails instead of hanging
        end.start()
        yield tmp_path / "cache"
        end.cancel()


def test_a_hub_that_never_answers_is_not_waited_for(mute_hub):
    start = time.perf_counter()
    assert "the Hub can't be reached (timed out)" in refusal("someone/something")
    assert time.perf_counter() - start < 20


COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("owner/name", ("owner/name", None)),
        ("owner/name@v1.0", ("owner/name", "v1.0")),
        ("owner/name@refs/pr/3", ("owner/name", "refs/pr/3")),
        ("owner/name@", None),
        ("./a/b", None),
        ("/a/b@c", None),
        ("a/b/c", None),
        ("embedded:student", None),
    ],
)
def test_a_hub_id_may_carry_a_revision(text, parts):
    found = hub_names.parse(text)
    assert found == (parts and hub_names.HubId(*parts))
    assert found is None or str(found) == text


def test_a_commit_is_dropped_from_a_name_and_nothing_else_is():
    assert hub_names.without_commit(f"a/b@{COMMIT}:c:d") == "a/b:c:d"
    for text in ("a/b", "a/b@v1", f"/folder/x@{COMMIT}y"):
        assert hub_names.without_commit(text) == text


class Hub:
    """Stands for the Hub's answers: a repository whose `main` is COMMIT and whose tag `v1` is OTHER."""

    commits: ClassVar = {None: COMMIT, "main": COMMIT, "v1": OTHER, COMMIT: COMMIT, OTHER: OTHER}

    def model_info(self, name, *, revision=None, timeout):
        if revision not in self.commits:
            answer = SimpleNamespace(headers={}, request=None)
            raise RevisionNotFoundError("404 Client Error.\n\nRevision Not Found", response=answer)
        return SimpleNamespace(sha=self.commits[revision])


@pytest.mark.parametrize(
    ("asked", "revision", "commit"),
    [("a/b", None, COMMIT), ("a/b@v1", "v1", OTHER), (f"a/b@{OTHER}", OTHER, OTHER)],
)
def test_the_revision_that_is_named_is_the_one_that_is_downloaded(
    asked, revision, commit, tmp_path, monkeypatch
):
    fetched = []

    def get_model_path(name, revision):
        fetched.append((name, revision))
        return tmp_path / "snapshots" / Hub.commits[revision]

    monkeypatch.setattr(hub, "HfApi", Hub)
    monkeypatch.setattr(hub.mlx_vlm.utils, "get_model_path", get_model_path)
    assert loading.find_folder(asked, "--student").name == commit and fetched == [("a/b", revision)]
    assert str(hub.pinned(hub_names.parse(asked), "--student")) == f"a/b@{commit}"


def test_a_revision_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(hub, "HfApi", Hub)
    with pytest.raises(Refusal) as pinning:
        hub.pinned(hub_names.parse("a/b@v2"), "--student")
    for line in (refusal("a/b@v2"), str(pinning.value)):
        assert line.startswith("--student a/b@v2: ") and "\n" not in line
        assert "no revision of that name: give a branch, a tag or a commit after the @" in line


def test_without_the_hub_the_commit_of_what_was_downloaded_counts(mute_hub):
    repository = mute_hub / "models--someone--something"
    (repository / "refs").mkdir(parents=True)
    for name, commit in (("main", COMMIT), ("v1", OTHER)):
        (repository / "refs" / name).write_text(commit)
        (repository / "snapshots" / commit).mkdir(parents=True)
    for text, commit in (("someone/something", COMMIT), ("someone/something@v1", OTHER)):
        id = hub_names.parse(text)
        assert str(hub.pinned(id, "--student")) == f"someone/something@{commit}"
        assert hub.download(id, "--student").name == commit
    with pytest.raises(Refusal, match="the Hub can't be reached"):
        hub.download(hub_names.parse("someone/something@v2"), "--student")


def test_what_was_downloaded_before_is_used_without_the_hub(mute_hub):
    repository = mute_hub / "models--someone--something"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    copied(repository / "snapshots" / "abc")
    model = load("someone/something")
    assert model.name == "someone/something" and model.folder.name == "abc"
