"""`count: 3` and `for_each`: one entry that stands for several sandboxes, each with its own number in its texts."""

from __future__ import annotations

import re
from typing import Any

from skerry.environment.problems import Path, Problem
from skerry.environment.tree import Value, listing, mapping
from skerry.environment.variables import SCRIPTS
from skerry.model.environment import SANDBOXES_MAX

TOKEN = re.compile(r"\{(?:(index)([+-]\d{1,6})?|(key|value))\}")
"""{index} from 1, {index+8079}, {index-1}, {key}, {value}; any other brace is text."""


def multiply(name: str, machine: Value, path: Path, problems: list[Problem]) -> dict[str, Value]:
    """Name -> the sandbox. One that is not multiplied stays as it is, braces and all."""
    inside = mapping(machine)
    count, each = inside.get("count"), inside.get("for_each")
    own = Value({key: value for key, value in inside.items() if key not in ("count", "for_each")}, machine.place)
    if count is None and each is None:
        return {name: own}
    if count is not None and each is not None:
        problems.append(Problem(each.place, (*path, "for_each"), "give count or for_each, not both"))
        return {}
    pairs = _counted(count, path, problems) if count is not None else _listed(each, path, problems)
    made: dict[str, Value] = {}
    for index, (key, value) in enumerate(pairs, 1):
        tokens = {"key": key, "value": value}
        own_name = _text(name, index, tokens) if TOKEN.search(name) else f"{name}-{key if each is not None else index}"
        if own_name in made:
            problems.append(Problem(machine.place, path, f"two of them would be called {own_name!r}"))
        made[own_name] = _filled(own, index, tokens)
        # Of several, the first is the one that is meant where none is named.
        own = Value({word: one for word, one in mapping(own).items() if word != "primary"}, own.place)
    return made


def _counted(count: Value, path: Path, problems: list[Problem]) -> list[tuple[str, str]]:
    if type(count.data) is not int or not 0 <= count.data <= SANDBOXES_MAX:
        say = f"{count.data!r} is not allowed; give a whole number from 0 to {SANDBOXES_MAX}"
        problems.append(Problem(count.place, (*path, "count"), say))
        return []
    return [(str(number), str(number)) for number in range(1, count.data + 1)]


def _listed(each: Value | None, path: Path, problems: list[Problem]) -> list[tuple[str, str]]:
    assert each is not None
    found = each.plain()
    if isinstance(found, dict):
        pairs: list[tuple[Any, Any]] = list(found.items())  # pyright: ignore
    else:
        pairs = [(item, item) for item in found] if isinstance(found, list) else [(None, {})]  # pyright: ignore
    if (
        any(isinstance(part, dict | list) or part is None for pair in pairs for part in pair)
        or len(pairs) > SANDBOXES_MAX
    ):
        say = f"give a list of at most {SANDBOXES_MAX} plain values, or a mapping of names to plain values"
        problems.append(Problem(each.place, (*path, "for_each"), say))
        return []
    return [(_word(key), _word(value)) for key, value in pairs]


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _filled(value: Value, index: int, tokens: dict[str, str], key: str | int = "") -> Value:
    """Scripts stay as they are: braces are theirs; `env: {INDEX: "{index}"}` is how a number gets there."""
    if isinstance(value.data, dict):
        inside = mapping(value)
        made = {_text(name, index, tokens): _filled(one, index, tokens, name) for name, one in inside.items()}
        return Value(made, value.place)
    if isinstance(value.data, list):
        items = listing(value)
        return Value([_filled(one, index, tokens) for one in items], value.place)
    if isinstance(value.data, str) and key not in SCRIPTS:
        return Value(_text(value.data, index, tokens), value.place)
    return Value(value.data, value.place)


def _text(text: str, index: int, tokens: dict[str, str]) -> str:
    def one(found: re.Match[str]) -> str:
        if found[1]:
            return str(index + int(found[2] or 0))
        return tokens[found[3]]

    return TOKEN.sub(one, text)
