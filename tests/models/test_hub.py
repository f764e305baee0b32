"""A path is a folder or a Hub id; where it leads nowhere, that is one line, and soon."""

import socket
import threading
import time

import pytest
from huggingface_hub import constants

from model_folders import copied, load, refusal
from vgs_mlx.models import hub, loading


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "no model given"),
        ("/no/such/model", "no such folder, and no Hub id"),
        ("./model", "no such folder, and no Hub id"),
        ("~/model", "no such folder, and no Hub id"),
        ("model", "no such folder, and no Hub id"),
        ("a/b/c", "no such folder, and no Hub id"),
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


def test_what_was_downloaded_before_is_used_without_the_hub(mute_hub):
    repository = mute_hub / "models--someone--something"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    copied(repository / "snapshots" / "abc")
    model = load("someone/something")
    assert model.name == "someone/something" and model.folder.name == "abc"
