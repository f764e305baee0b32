"""The files that come with the package are found, wherever it was installed."""

import pytest

from vgs_mlx import resources
from vgs_mlx.errors import Refusal


def test_a_wheel_s_recipes_come_before_a_checkout_s(tmp_path, monkeypatch):
    package = tmp_path / "vgs_mlx"
    beside, inside = tmp_path / "recipes", package / "recipes"
    monkeypatch.setattr(resources, "PACKAGE", package)
    beside.mkdir()
    assert resources.recipes_folder() == beside
    inside.mkdir(parents=True)
    assert resources.recipes_folder() == inside


def test_a_tiny_model_is_the_folder_with_its_config(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "PACKAGE", tmp_path)
    folder = tmp_path / "tiny" / "student"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert resources.tiny_model("student") == folder


def test_missing_files_are_refused_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "vgs_mlx")
    with pytest.raises(Refusal, match="install vgs-mlx again"):
        resources.recipes_folder()
    with pytest.raises(Refusal, match="make_tiny_models"):
        resources.tiny_model("teacher")
