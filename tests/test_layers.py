"""The house keeps its shape: who may import whom, and how long a file and a function may grow."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from jaxtyping import TypeCheckError

from vgs_mlx.objective.divergence import reverse_kl

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "vgs_mlx").rglob("*.py"))

# Lowest first. A part may import its own layer and lower ones.
LAYERS = (
    ("errors", "types", "machine", "formats", "device", "resources", "objective"),
    ("recipe", "grading"),
    ("data", "models"),
    ("planning", "rollout"),
    ("runs",),
    ("evaluation",),
    ("train",),
    ("exporting", "analysis", "self_check"),
    ("ablation", "report"),
    ("commands",),
    ("cli",),
)
RANKS = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
PURE = {"mlx", "numpy", "jaxtyping"}  # what the objective may import besides the standard library and itself
LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS = 300, 40, 6
ARCHITECTURES = re.compile(
    r"qwen\d|smolvlm|idefics|siglip|deepstack|image_grid_thw|spatial_merge", re.IGNORECASE
)
ROOT_FILES = {"__init__", "types", "errors", "device", "resources", "cli"}

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
each_objective_file = pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent.name == "objective"], ids=lambda path: path.name
)


def part_of(module: str) -> str:
    """The part of the package that a module belongs to: vgs_mlx.models.loading -> models; "" for vgs_mlx."""
    return module.split(".")[1] if "." in module else ""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, package: str) -> Iterator[tuple[str, int]]:
    """Every module that a source names in an import, with the line; `package` is where relative ones start.

    Each name of a `from` import is given too, since it may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module, node.lineno
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Lazy":
            yield from ((name, node.lineno) for name in _texts(node.args[0]))


def _texts(node: ast.expr) -> Iterator[str]:
    """The module that a `Lazy` stands for, or the package that its computed name begins with."""
    parts = node.values[:1] if isinstance(node, ast.JoinedStr) else [node]
    yield from (part.value.rstrip(".") for part in parts if isinstance(part, ast.Constant))


def imported_parts(path: Path) -> dict[str, int]:
    """The parts of vgs_mlx that a file imports, with a line where it does."""
    module = module_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    ours = [(name, line) for name, line in imports(path.read_text(), package) if name.startswith("vgs_mlx.")]
    return {part_of(name): line for name, line in ours if part_of(name) in RANKS}


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Some cycle of a graph, closed; empty where there is none."""

    def follow(trail: list[str]) -> list[str]:
        for after in sorted(graph.get(trail[-1], ())):
            if after in trail:
                return [*trail[trail.index(after) :], after]
            if found := follow([*trail, after]):
                return found
        return []

    return next((found for start in sorted(graph) if (found := follow([start]))), [])


@each_file
def test_every_module_has_its_layer(path):
    part = part_of(module_of(path))
    assert part == "" or part in RANKS, f"say in {Path(__file__).name} which layer {part} belongs to"


@each_file
def test_no_module_imports_a_higher_layer(path):
    rank = RANKS.get(part_of(module_of(path)), 0)
    for part, line in imported_parts(path).items():
        assert RANKS[part] <= rank, f"{path}:{line} imports {part}"


def test_the_parts_import_one_another_in_no_circle():
    graph: dict[str, set[str]] = {}
    for path in FILES:
        part = part_of(module_of(path))
        graph.setdefault(part, set()).update(imported_parts(path).keys() - {part})
    assert cycle(graph) == []


@each_objective_file
def test_the_objective_is_pure_mathematics(path):
    for name, line in imports(path.read_text(), "vgs_mlx.objective"):
        top = name.split(".")[0]
        allowed = top in PURE or top in sys.stdlib_module_names or name.startswith("vgs_mlx.objective")
        assert allowed or name == "vgs_mlx", f"{path}:{line} imports {name}"


@each_file
def test_files_and_functions_stay_short(path):
    source = path.read_text()
    assert source.count("\n") <= LONGEST_FILE, f"{path} has {source.count(chr(10))} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{path}:{node.lineno}: {node.name} has {length} lines"


@each_file
def test_more_than_six_parameters_have_a_word_why(path):
    source = path.read_text()
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs])
            head = "\n".join(lines[node.lineno - 1 : node.body[0].lineno])
            is_command = any(
                "command" in ast.unparse(each) for each in node.decorator_list
            )  # click gives each option
            assert count <= MOST_PARAMETERS or is_command or "#" in head, f"{path}:{node.lineno}: {node.name}"


@each_file
def test_no_file_outside_the_families_names_an_architecture(path):
    if path.parent.name != "families":
        found = ARCHITECTURES.search(path.read_text())
        assert found is None, f"{path} names {found[0]}"


def test_the_root_has_six_files():
    assert {path.stem for path in (ROOT / "vgs_mlx").glob("*.py")} == ROOT_FILES


def test_imports_are_seen_wherever_they_stand():
    source = "def f():\n    from vgs_mlx import cli\nfrom ..train import loop\nimport vgs_mlx.data.shapes\n"
    source += "Lazy('vgs_mlx.planning.sizes'), Lazy(f'vgs_mlx.rollout.{name}')"
    names = {name for name, _ in imports(source, "vgs_mlx.models")}
    assert {
        "vgs_mlx.cli",
        "vgs_mlx.train",
        "vgs_mlx.data.shapes",
        "vgs_mlx.planning.sizes",
        "vgs_mlx.rollout",
    } <= names


def test_a_circle_is_found():
    assert cycle({"data": {"models"}, "models": {"types", "data"}}) == ["data", "models", "data"]
    assert cycle({"train": {"data", "models"}, "models": {"types"}, "data": {"types"}}) == []


def test_the_objective_s_shapes_are_checked_at_run_time():
    with pytest.raises(TypeCheckError):
        reverse_kl(mx.zeros((2, 3)), mx.zeros((2, 4)))
