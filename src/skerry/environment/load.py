"""From the text of one or more files to an environment, or to everything that is wrong with them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, cast

from pydantic import ValidationError

from skerry.environment import short_forms
from skerry.environment.check import check
from skerry.environment.merge import JOBS, SANDBOXES, SIZES, TEMPLATES, Extends, check_sizes, merge, with_size
from skerry.environment.multiply import multiply
from skerry.environment.problems import Path, Place, Problem, Problems
from skerry.environment.reading import read_where_it_is
from skerry.environment.tree import FILE_BYTES_MAX, Value, mapping, parse
from skerry.environment.variables import Variables, read_env_file
from skerry.model.environment import SANDBOXES_MAX, Environment
from skerry.model.explain import findings

ENV_FILE = ".env"
_FOR_THE_LOADER = frozenset({SIZES, TEMPLATES})
"""Sections that are gone when the model sees the file."""


@dataclass(frozen=True)
class Loaded:
    environment: Environment
    folder: FilePath
    """Of the first file: what relative paths are relative to."""
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    """Sandboxes of profiles that were not asked for, and which would bring them in."""
    read: tuple[FilePath, ...] = ()
    """Every file that the result depends on."""
    variables: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """Every variable it depends on, and what it was."""
    env_file: dict[str, str] = field(default_factory=dict[str, str])
    """What `.env` says of them."""
    real: tuple[str, ...] = ()
    """Where what was read really is."""


def load(
    files: Sequence[FilePath],
    *,
    environ: Mapping[str, str],
    profiles: Collection[str] = (),
    names: Collection[str] = (),
) -> Loaded:
    """Later files are merged over earlier ones. `names`: sandboxes that are meant even if their profile is not.
    Raises Problems with all that is wrong."""
    return _Load(files, environ).run(set(profiles), set(names))


class _Load:
    def __init__(self, files: Sequence[FilePath], environ: Mapping[str, str]) -> None:
        self._files = files
        self._folder = files[0].absolute().parent.resolve()
        self._problems: list[Problem] = []
        env_file = self._folder / ENV_FILE
        self._real: list[str] = []
        self._defaults = read_env_file(env_file, self._content, self._problems)
        self._variables = Variables(environ, self._defaults, self._problems)
        self._read: list[FilePath] = [env_file]

    def _content(self, file: FilePath, bytes_max: int) -> bytes:
        real, content = read_where_it_is(file, bytes_max)
        self._real.append(real)
        return content

    def run(self, profiles: set[str], names: set[str]) -> Loaded:
        tree = self._tree(self._files[0])
        for file in self._files[1:]:
            tree = merge(tree, self._tree(file))
        if not isinstance(tree.data, dict):
            raise Problems([Problem(tree.place, (), "the file is a mapping: version, name, sandboxes, …")])
        whole = {key: value for key, value in mapping(tree).items() if not key.startswith("x-")}
        sizes = mapping(whole.get(SIZES))
        check_sizes(sizes, self._problems)
        left_out: dict[str, str] = {}
        if mapping(whole.get(SANDBOXES)):
            machines = self._machines(tree, sizes, profiles, names, left_out)
            whole[SANDBOXES] = Value(machines, whole[SANDBOXES].place)
        if "name" not in whole:
            whole["name"] = Value(folder_name(self._folder), tree.place)
        whole = {key: _filled(key, value) for key, value in whole.items() if key not in _FOR_THE_LOADER}
        environment = self._checked(Value(whole, tree.place), left_out)
        used = self._variables.used
        defaults = {name: value for name, value in self._defaults.items() if name in used}
        return Loaded(environment, self._folder, left_out, tuple(self._read), used, defaults, tuple(self._real))

    def _tree(self, file: FilePath, asked: Value | None = None) -> Value:
        self._read.append(file)
        shown = os.path.relpath(file) if file.is_relative_to(FilePath.cwd()) else str(file)
        try:
            text = self._content(file, FILE_BYTES_MAX).decode()
        except (OSError, UnicodeDecodeError) as error:
            place = asked.place if asked is not None else Place(shown, 0)
            say = f"{shown} cannot be read: {getattr(error, 'strerror', None) or 'it is not text in UTF-8'}"
            raise Problems([*self._problems, Problem(place, (), say)]) from None
        tree = parse(text, shown, self._variables.replace, self._problems)
        return short_forms.expand_all(tree, self._problems)

    def _other(self, path: str, asked: Value) -> Value | None:
        beside = FilePath(asked.place.file).parent
        return self._tree(beside / path, asked)

    def _machines(
        self, tree: Value, sizes: Mapping[str, Value], profiles: set[str], names: set[str], left_out: dict[str, str]
    ) -> dict[str, Value]:
        extends = Extends(tree, self._other, self._problems)
        made: dict[str, Value] = {}
        members: dict[str, list[str]] = {}
        for name, machine in mapping(mapping(tree)[SANDBOXES]).items():
            path: Path = (SANDBOXES, name)
            if machine.data is None or not isinstance(machine.data, dict):
                self._problems.append(Problem(machine.place, path, "a sandbox is a mapping with at least an image"))
                continue
            whole = with_size(extends.resolve(machine, path, (name,)), sizes, path, self._problems)
            for own_name, one in multiply(name, whole, path, self._problems).items():
                if own_name in made:
                    say = f"another entry makes a sandbox {own_name!r} too"
                    self._problems.append(Problem(one.place, path, say))
                members.setdefault(name, []).append(own_name)
                expanded = short_forms.expand(one, (SANDBOXES, own_name), self._problems)
                chosen = self._chosen(expanded, own_name, name, profiles, names, left_out)
                if chosen is not None:
                    made[own_name] = chosen
        if len(made) > SANDBOXES_MAX:
            say = f"{len(made)} sandboxes are more than the {SANDBOXES_MAX} of one environment"
            self._problems.append(Problem(tree.place, (SANDBOXES,), say))
        return {name: _with_members(machine, members) for name, machine in made.items()}

    def _chosen(
        self, machine: Value, name: str, entry: str, profiles: set[str], names: set[str], left_out: dict[str, str]
    ) -> Value | None:
        inside = dict(mapping(machine))
        wanted = inside.pop("profiles", None)
        given: Any = wanted.plain() if wanted is not None else []
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):  # pyright: ignore
            assert wanted is not None
            self._problems.append(Problem(wanted.place, (SANDBOXES, name, "profiles"), "give a list of names"))
            given = []
        listed = cast("list[str]", given)
        if listed and profiles.isdisjoint(listed) and names.isdisjoint({name, entry}):
            left_out[name] = f"it is of the profile {' or '.join(listed)} (--profile {listed[0]})"
            return None
        return Value(inside, machine.place)

    def _checked(self, tree: Value, left_out: Mapping[str, str]) -> Environment:
        plain = tree.plain()
        environment, broken = self._modelled(tree, plain)
        if environment is None:
            # Its other parts are looked at all the same: all that is wrong is told at once.
            for section in (SANDBOXES, JOBS):
                entries: dict[str, Any] = plain.get(section) or {}
                plain[section] = {name: one for name, one in entries.items() if (section, name) not in broken}
            environment, _ = self._modelled(tree, plain)
        if environment is not None:
            outside = {**left_out, **dict.fromkeys((name for _, name in broken), "")}
            for path, say in check(environment, self._folder, outside):
                self._problems.append(Problem(tree.at(path), path, say))
        if environment is None or self._problems:
            raise Problems(self._problems)
        return environment

    def _modelled(self, tree: Value, plain: Any) -> tuple[Environment | None, set[tuple[str, str]]]:
        """The environment, or section and name of the sandboxes and jobs in which something is wrong."""
        told = {problem.path for problem in self._problems}
        broken: set[tuple[str, str]] = set()
        try:
            return Environment.model_validate(plain), broken
        except ValidationError as error:
            for location, say in findings(Environment, error):
                if location not in told:  # what could not be read is not also of the wrong kind
                    self._problems.append(Problem(tree.at(location), location, say))
                if len(location) > 1 and location[0] in (SANDBOXES, JOBS):
                    broken.add((str(location[0]), str(location[1])))
        return None, broken


def _with_members(machine: Value, members: Mapping[str, Sequence[str]]) -> Value:
    """Who depends on an entry that stands for several depends on each of them."""
    inside = dict(mapping(machine))
    wished = mapping(inside.get("depends_on"))
    if any(members.get(name, [name]) != [name] for name in wished):
        spread: dict[str, Value] = {}
        for name, condition in wished.items():
            spread |= dict.fromkeys(members.get(name) or [name], condition)
        inside["depends_on"] = Value(spread, inside["depends_on"].place)
    return Value(inside, machine.place)


def _filled(section: str, value: Value) -> Value:
    """`backend:` with nothing behind it is an entry with all its defaults; so is a section."""
    if section == SANDBOXES or section in ("version", "name"):
        return value if value.data is not None else Value({}, value.place)
    entries = mapping(value).items()
    filled = {key: Value({}, one.place) if one.data is None else one for key, one in entries}
    return Value(filled, value.place) if isinstance(value.data, dict) or value.data is None else value


def folder_name(folder: FilePath) -> str:
    """`My Shop_2` -> my-shop-2: what an environment without a name is called."""
    return re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:40].strip("-") or "environment"
