"""The papers beside the code say what is so: license, versions, and the paths, names and commands in them."""

import re
import tomllib
import zipfile
from pathlib import Path

import pytest

from vgs_mlx.cli import main
from vgs_mlx.formats import strict_yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PROJECT["project"]["version"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAPERS = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *FORMS, *WORKFLOWS]  # the changelog names what was

each_paper = pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.name)
each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel that `pip install` builds of this checkout."""
    builders = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is in the extra `test`")
    folder = str(tmp_path_factory.mktemp("wheel"))
    return zipfile.ZipFile(next(builders.WheelBuilder(str(ROOT)).build(directory=folder)))


def test_the_wheel_brings_its_license_its_types_and_what_it_runs_with(wheel):
    info = f"vgs_mlx-{VERSION}.dist-info"
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    for name in ("py.typed", "recipes/quickstart.yaml", "tiny/student/README.md", "tiny/teacher/LICENSE"):
        assert f"vgs_mlx/{name}" in wheel.namelist()
    metadata = wheel.read(f"{info}/METADATA").decode().partition("\n\n")[0].splitlines()
    assert "License-Expression: MIT" in metadata and "License-File: LICENSE" in metadata
    assert "Classifier: License" not in "\n".join(metadata)  # not beside an expression, says PEP 639


def test_the_wheel_is_tested_with_the_lowest_hatchling_that_builds_it():
    [builder] = PROJECT["build-system"]["requires"]
    assert builder in PROJECT["project"]["optional-dependencies"]["test"]


def test_citation_and_changelog_know_the_version_and_its_date():
    cited = strict_yaml.load(read(ROOT / "CITATION.cff"), "CITATION.cff")
    assert (cited["version"], cited["license"]) == (VERSION, PROJECT["project"]["license"])
    headings = re.findall(r"^## (.*)$", read(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert headings[:2] == ["[Unreleased]", f"[{VERSION}] - {cited['date-released']}"]


@each_paper
def test_every_path_in_a_paper_exists(paper):
    named = re.findall(r"(?<![\w/.])(?:scripts|tests|vgs_mlx|recipes|\.github)/[\w./-]*\w", read(paper))
    assert [path for path in named if not (ROOT / path).exists()] == []


@each_paper
def test_every_name_that_a_paper_places_in_a_file_is_there(paper):
    placed = re.findall(r"`([\w.]+)`\s+(?:\([^)]*\)\s+)?in\s+`([\w/]+\.py)`", read(paper))
    assert placed or paper.name != "CONTRIBUTING.md"
    lost = [
        (name, file)
        for name, file in placed
        if not re.search(rf"\b{name.split('.')[-1]}\b", read(ROOT / file))
    ]
    assert lost == []


@each_paper
def test_every_command_in_a_paper_is_one_of_ours(paper):
    assert set(re.findall(r"vgs-mlx ([a-z]+)(?= -|`|$)", read(paper), re.MULTILINE)) <= main.commands.keys()


@each_workflow
def test_a_workflow_can_only_read_ends_by_itself_and_takes_actions_of_a_known_major_version(workflow):
    found = strict_yaml.load(read(workflow), workflow.name)
    assert found["permissions"] == {"contents": "read"}
    for name, job in found["jobs"].items():
        assert job["timeout-minutes"] <= 90, name
        actions = [step["uses"] for step in job["steps"] if "uses" in step]
        assert actions and all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", each) for each in actions), name
