"""YAML 1.2 as settings need it: texts, numbers, booleans, null, lists and sections without repeated keys.

ruamel.yaml reads it. Also refused here is what ruamel.yaml accepts: tags, dates, keys that are not text, and aliases
that form a circle or multiply (merge keys and plain aliases are read).
"""

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent, NodeEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import SafeRepresenter

from vgs_mlx.errors import Refusal

DEEPEST = 20  # levels of nested lists and sections
MOST = 20_000  # values, with aliases written out: the largest grid of cells has some thousands
LONGEST_NUMBER = 400  # characters
PLAIN = {f"tag:yaml.org,2002:{each}" for each in ("str", "int", "float", "bool", "null", "seq", "map")}
TEXT, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
BREAKS = set("\x85\u2028\u2029")
FIX = "fix the YAML there"


def load(text: str, where: str) -> Any:
    """The value of a YAML text: None, or what JSON can hold. Raises `Refusal` with `where`, the line and the reason."""
    try:
        _check_events(text)
        node = _yaml().compose(text)
        if node is None:
            return None
        _check(node, {})
        return _yaml().load(text)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = error.problem or "not YAML"
        said = f"{error.context} {problem}" if problem.startswith("but ") else problem
        reason = " ".join(said.split())
        raise Refusal(f"{where}{line}: {reason}: {FIX}") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Refusal(f"{where}, line {line}: holds the character U+{error.character:04X}: {FIX}") from error
    except (YAMLError, ValueError) as error:
        raise Refusal(f"{where}: {' '.join(str(error).split())}: {FIX}") from error


def dump(value: Any) -> str:
    """A value as YAML that `load` reads back to an equal one, its keys in their order."""
    stream = io.StringIO()
    _yaml().dump(value, stream)
    return stream.getvalue()


class _Representer(SafeRepresenter):
    """As ruamel.yaml's, which would fold a text at a line break that `load` doesn't read as one."""


_Representer.add_representer(
    str, lambda self, text: self.represent_scalar(TEXT, text, style='"' if set(text) & BREAKS else None)
)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.allow_duplicate_keys = False
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 10**6  # no text is folded
    return yaml


def _check_events(text: str) -> None:
    """Refuse, before nodes are built, a text that is nested too deeply for that, or has a tag."""
    depth = 0
    for event in _yaml().parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEEPEST:
            raise _wrong(f"more than {DEEPEST} nested levels", event.start_mark)
        if isinstance(event, NodeEvent) and getattr(event, "tag", None) is not None:
            raise _wrong(f"a tag ({event.tag}), and only plain values are read", event.start_mark)


def _check(node: Node, sizes: dict[int, int | None]) -> int:
    """How many values a node holds, its aliases written out. Raises `MarkedYAMLError`.

    `sizes` has the number for each node met before, and None for one that is being counted.
    """
    if id(node) in sizes:
        if (known := sizes[id(node)]) is None:
            raise _wrong("an alias that refers to the node it is part of", node.start_mark)
        return known
    sizes[id(node)] = None
    if node.tag not in PLAIN:
        kind = node.tag.rpartition(":")[2]
        raise _wrong(f"{node.value!r} is read as a {kind}: put it in quotes to make it text", node.start_mark)
    if isinstance(node, ScalarNode):
        size = _check_scalar(node)
    elif isinstance(node, MappingNode):
        _check_keys(node)
        size = 1 + sum(_check(value, sizes) for _, value in node.value)
    else:
        size = 1 + sum(_check(each, sizes) for each in node.value)
    if size > MOST:
        raise _wrong(f"more than {MOST:,} values with its aliases written out", node.start_mark)
    sizes[id(node)] = size
    return size


def _check_scalar(node: ScalarNode) -> int:
    if node.tag != TEXT and len(node.value) > LONGEST_NUMBER:
        raise _wrong(f"a number of {len(node.value):,} characters", node.start_mark)
    return 1


def _check_keys(node: MappingNode) -> None:
    """Every key is a text, or a merge, and appears once."""
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode) or key.tag not in (TEXT, MERGE):
            said = key.value if isinstance(key, ScalarNode) else "a list or a section"
            raise _wrong(f"{said} as a key, where a name is needed (put it in quotes)", key.start_mark)
        if key.value in seen:
            raise _wrong(f"the key {key.value!r} appears twice", key.start_mark)
        seen.add(key.value)
        _check_scalar(key)


def _wrong(problem: str, mark: StringMark) -> MarkedYAMLError:
    return MarkedYAMLError(problem=problem, problem_mark=mark)
