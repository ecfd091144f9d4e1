"""The text of a file as a tree that knows where each value stands, so that a mistake can be told with its line.

YAML 1.2's core schema and not 1.1's, in which `22:22` is the number 1342 and `no` is false: a port list and a country
code mean what they look like (https://yaml.org/spec/1.2.2/#103-core-schema)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import yaml
import yaml.cyaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import BaseResolver

from skerry.environment.problems import Path, Place, Problem, Problems

FILE_BYTES_MAX = 4 * 1024 * 1024
VALUES_MAX = 200_000
"""After aliases are followed: a file of a few lines can stand for billions."""
DEPTH_MAX = 40

_NULL, _BOOL, _INT, _FLOAT, _STR = (f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str"))

Replace = Callable[[str, Place, Path], str]
"""Of the text of a scalar: its variables replaced."""


class _Resolver(BaseResolver):
    """What an unquoted scalar means."""


for _tag, _pattern, _first in (
    (_NULL, r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    (_BOOL, r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    (_INT, r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (_FLOAT, r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)$", list("-+.0123456789")),
):
    _Resolver.add_implicit_resolver(_tag, re.compile(_pattern), _first)  # pyright: ignore[reportUnknownMemberType]


_RESOLVER: Any = _Resolver()
_Parser: Any = vars(yaml.cyaml)["CParser"]
"""Of libyaml; the stubs do not know it."""


class _Composer(_Parser, _Resolver):
    def __init__(self, stream: str) -> None:
        _Parser.__init__(self, stream)
        _Resolver.__init__(self)


@dataclass
class Value:
    """A mapping of names to values, a list of values, or a plain value; and where it stands: its key's line."""

    data: Any
    place: Place

    def plain(self) -> Any:
        if isinstance(self.data, dict):
            return {key: value.plain() for key, value in mapping(self).items()}
        if isinstance(self.data, list):
            return [value.plain() for value in listing(self)]
        return self.data

    def at(self, path: Path) -> Place:
        """Where `path` stands: as far down as there is something."""
        here = self
        for part in path:
            try:
                inside: Any = here.data[part]
            except (KeyError, IndexError, TypeError):
                break
            here = cast(Value, inside)
        return here.place


def mapping(value: Value | None) -> dict[str, Value]:
    """What is in a mapping; nothing where there is none (the model tells if something else stands there)."""
    data: Any = value.data if value is not None else None
    return cast("dict[str, Value]", data) if isinstance(data, dict) else {}


def listing(value: Value) -> list[Value]:
    """What is in a list; nothing where there is none."""
    data: Any = value.data
    return cast("list[Value]", data) if isinstance(data, list) else []


def parse(text: str, file: str, replace: Replace, problems: list[Problem]) -> Value:
    """Raises Problems where the text is no YAML at all; whatever else is wrong is added to `problems`."""
    if len(text) > FILE_BYTES_MAX:
        raise Problems([Problem(Place(file, 0), (), f"a file is at most {FILE_BYTES_MAX} characters long")])
    try:
        node = _compose(text)
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        raise Problems([Problem(Place(file, line), (), f"this is not YAML: {error.problem}")]) from None
    except yaml.YAMLError as error:
        raise Problems([Problem(Place(file, 0), (), f"this is not YAML: {' '.join(str(error).split())}")]) from None
    if node is None:
        return Value({}, Place(file, 1))
    return _Reading(file, replace, problems).value(node, ())


def _compose(text: str) -> Node | None:
    composer: Any = _Composer(text)
    try:
        return composer.get_single_node()
    finally:
        composer.dispose()


class _Reading:
    def __init__(self, file: str, replace: Replace, problems: list[Problem]) -> None:
        self._file = file
        self._replace = replace
        self._problems = problems
        self._count = 0

    def value(self, node: Node, path: Path, place: Place | None = None) -> Value:
        place = place or self._place(node)
        self._count += 1
        if self._count > VALUES_MAX or len(path) > DEPTH_MAX:
            raise Problems([Problem(place, path, f"at most {VALUES_MAX} values, {DEPTH_MAX} deep, may be in a file")])
        if isinstance(node, ScalarNode):
            return Value(self._scalar(node, path, place), place)
        if isinstance(node, SequenceNode):
            return Value([self.value(item, (*path, number)) for number, item in enumerate(node.value)], place)
        assert isinstance(node, MappingNode)
        return Value(self._mapping(node, path), place)

    def _place(self, node: Node) -> Place:
        return Place(self._file, node.start_mark.line + 1)

    def _scalar(self, node: ScalarNode, path: Path, place: Place) -> Any:
        text: str = node.value
        tag = str(node.tag)
        if "$" in text:
            text = self._replace(text, place, path)
            if not node.style and tag == _STR:
                # What a variable stands for is read as if it stood there: `cpu: ${CPU}` is a number.
                tag = str(_RESOLVER.resolve(ScalarNode, text, (True, False)))
        try:
            return _meaning(tag, text)
        except ValueError:
            self._problems.append(Problem(place, path, f"{text[:60]!r} cannot be read as {tag.rpartition(':')[2]}"))
            return None

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Value]:
        made: dict[str, Value] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            place = self._place(key_node)
            if not isinstance(key_node, ScalarNode):
                self._problems.append(Problem(place, path, "a key is a name, not a list or a mapping"))
                continue
            key: str = key_node.value
            if key == "<<" and not key_node.style:
                merged += value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                continue
            if key in made:
                say = f"this key is there twice, first on line {made[key].place.line}"
                self._problems.append(Problem(place, (*path, key), say))
                continue
            made[key] = self.value(value_node, (*path, key), place)
        for source in merged:
            self._merge_in(source, made, path)
        return made

    def _merge_in(self, source: Node, made: dict[str, Value], path: Path) -> None:
        """YAML's `<<`: what the mapping has itself wins (https://yaml.org/type/merge.html)."""
        if not isinstance(source, MappingNode):
            self._problems.append(Problem(self._place(source), path, "<< takes a mapping, or a list of them"))
            return
        found = self.value(source, path)
        for key, value in found.data.items():
            made.setdefault(key, value)


def _meaning(tag: str, text: str) -> Any:
    if tag == _NULL:
        return None
    if tag == _BOOL:
        return text.lower() == "true"
    if tag == _INT:
        return int(text, 8) if text.startswith("0o") else int(text, 16) if text.startswith("0x") else int(text)
    if tag == _FLOAT:
        return float(text)
    if tag == _STR or tag == "!":
        return text
    raise ValueError(tag)
