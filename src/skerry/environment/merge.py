"""How two parts of a file become one: mappings key by key, everything else by taking the later one's place; and what
that makes of several files, of `extends` and of `size`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from skerry.environment.problems import Path, Problem
from skerry.environment.tree import Value, mapping
from skerry.model.nearness import did_you_mean

TEMPLATES, SANDBOXES, SIZES, JOBS, QUEUES, SERVICES = (
    "templates",
    "sandboxes",
    "sizes",
    "jobs",
    "queues",
    "services",
)
SIZE_FIELDS = frozenset({"cpu", "memory", "disk", "pids"})

Read = Callable[[str, Value], Value | None]
"""Another file's tree by its path as written in a value; None if it cannot be had, which has been told."""


def merge(below: Value, above: Value) -> Value:
    """`above` wins. A key whose value there is null is taken away: the way to be rid of what was inherited."""
    if not isinstance(below.data, dict) or not isinstance(above.data, dict):
        return above
    lower, upper = mapping(below), mapping(above)
    made = dict(lower)
    for key, value in upper.items():
        if value.data is None and key in lower:
            del made[key]
        else:
            made[key] = merge(lower[key], value) if key in lower else value
    return Value(made, above.place)


class Extends:
    """`extends: NAME` or `extends: {file: PATH, name: NAME}`: a template or another sandbox with changes."""

    def __init__(self, tree: Value, read: Read, problems: list[Problem], files: tuple[str, ...] = ()) -> None:
        sections = (mapping(mapping(tree).get(section)) for section in (TEMPLATES, SANDBOXES))
        self._sources: dict[str, Value] = {name: found for section in sections for name, found in section.items()}
        self._read = read
        self._problems = problems
        self._files = files

    def resolve(self, machine: Value, path: Path, seen: tuple[str, ...] = ()) -> Value:
        """The machine with all that it extends beneath it, and without the word `extends`."""
        inside = mapping(machine)
        wish = inside.get("extends")
        if wish is None:
            return machine
        own = Value({key: value for key, value in inside.items() if key != "extends"}, machine.place)
        base = self._base(wish, (*path, "extends"), seen)
        return own if base is None else merge(base, own)

    def _base(self, wish: Value, path: Path, seen: tuple[str, ...]) -> Value | None:
        asked = mapping(wish)
        if isinstance(wish.data, str):
            return self._here(wish.data, wish, path, seen)
        if set(asked) == {"file", "name"} and all(isinstance(asked[key].data, str) for key in asked):
            return self._elsewhere(asked, path)
        self._say(wish, path, "give the name of a template or sandbox, or {file: PATH, name: NAME}")
        return None

    def _here(self, name: str, wish: Value, path: Path, seen: tuple[str, ...]) -> Value | None:
        if name in seen:
            self._say(wish, path, f"these extend each other: {' extends '.join((*seen[seen.index(name) :], name))}")
            return None
        found = self._sources.get(name)
        if found is None:
            self._say(wish, path, f"there is no template or sandbox {name!r}" + did_you_mean(name, self._sources))
            return None
        return _unmultiplied(self.resolve(found, path, (*seen, name)))

    def _elsewhere(self, asked: Mapping[str, Value], path: Path) -> Value | None:
        file = asked["file"].data
        tree = self._read(file, asked["file"])
        if tree is None:
            return None
        if tree.place.file in self._files:
            self._say(asked["file"], path, f"{file} comes back to itself by extends")
            return None
        there = Extends(tree, self._read, self._problems, (*self._files, tree.place.file))
        name = asked["name"].data
        found = there._sources.get(name)
        if found is None:
            self._say(asked["name"], path, f"there is no template or sandbox {name!r} in {file}")
            return None
        return _unmultiplied(there.resolve(found, path, (name,)))

    def _say(self, value: Value, path: Path, say: str) -> None:
        self._problems.append(Problem(value.place, path, say))


def _unmultiplied(machine: Value) -> Value:
    """How many there are of one, which is the primary one, and what it is called, is not inherited."""
    own = ("count", "for_each", "primary", "name")
    return Value({key: value for key, value in mapping(machine).items() if key not in own}, machine.place)


def with_size(machine: Value, sizes: Mapping[str, Value], path: Path, problems: list[Problem]) -> Value:
    """`size: small` put in as what the file says of `small`; what the machine says itself wins."""
    inside = mapping(machine)
    wish = inside.get("size")
    if wish is None:
        return machine
    own = Value({key: value for key, value in inside.items() if key != "size"}, machine.place)
    found = sizes.get(wish.data) if isinstance(wish.data, str) else None
    if found is None:
        known = f"sizes has {', '.join(sizes)}" if sizes else "the file has no sizes"
        problems.append(Problem(wish.place, (*path, "size"), f"there is no size {wish.data!r}; {known}"))
        return own
    return merge(found, own)


def check_sizes(sizes: Mapping[str, Value], problems: list[Problem]) -> None:
    for name, size in sizes.items():
        for key, value in mapping(size).items():
            if key not in SIZE_FIELDS:
                say = f"a size has {', '.join(sorted(SIZE_FIELDS))}, and nothing else"
                problems.append(Problem(value.place, (SIZES, name, key), say))
