"""What the commands about a `skerry.yaml` share: finding it, opening it, asking the server what is there of it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import click

from skerry.cli.invocation import Invocation
from skerry.environment.kinds.catalog import KINDS
from skerry.environment.kinds.contract import Json
from skerry.environment.opening import Opened, open_environment
from skerry.environment.outside import outside
from skerry.environment.plan import CHOSEN_FROM, choose
from skerry.environment.project import find_files


def open_here(
    invocation: Invocation, files: tuple[str, ...], profiles: tuple[str, ...], names: Collection[str] = ()
) -> Opened:
    wanted = [*profiles, *(name for name in invocation.environ.get("SKERRY_PROFILES", "").split(",") if name)]
    found = find_files(files, invocation.environ)
    return open_environment(found, environ=invocation.environ, profiles=wanted, names=names)


def allow_places(invocation: Invocation, opened: Opened, files: Sequence[str], given: bool = False) -> list[str]:
    """The places outside the file's folder that it may use. A new one is asked about; a script says --allow-outside."""
    allowed = opened.state.read_allowed()
    fresh = [path for path in outside(opened.scene, opened.read, files) if path not in allowed]
    if fresh and not given:
        what = f"{relative(opened.scene.file)} uses what lies outside its folder: {', '.join(fresh)}"
        if not invocation.is_interactive:
            raise click.UsageError(f"{what}; say `skerry up --allow-outside` if that is meant")
        invocation.confirm(f"{what}. Is that meant?", False)
    if fresh:
        opened.state.write_allowed([*allowed, *fresh])
    return [*allowed, *fresh]


def read_actual(invocation: Invocation, environment: str) -> dict[str, dict[str, Json]]:
    """Section -> name -> what the server has of this environment."""
    return {kind.section: kind.read(invocation.transport, environment) for kind in KINDS}


def chosen(opened: Opened, actual: Mapping[str, Mapping[str, Json]], names: Collection[str]) -> list[tuple[str, Json]]:
    """Sandboxes of the file that are there, by key: those that were named, else all; in the file's order."""
    keys = names or opened.scene.section("sandboxes")
    if names:
        choose(opened.scene, names, ["sandboxes"])
    there = actual.get("sandboxes", {})
    ordered = [key for key in opened.scene.section("sandboxes") if key in set(keys)]
    return [(key, there[name]) for key in ordered if (name := opened.members[key]) in there]


def chosen_jobs(
    opened: Opened, actual: Mapping[str, Mapping[str, Json]], names: Collection[str]
) -> list[tuple[str, Json]]:
    """Its jobs that are there, by key, those first that others depend on: those that were named, else all."""
    there = list(actual.get("jobs", {}).items())
    keys = {name: key for key, name in opened.jobs.items()}
    found = [(keys[name], body) for name, body in reversed(there) if name in keys]
    return [(key, body) for key, body in found if not names or key in names]


def chosen_services(
    opened: Opened, actual: Mapping[str, Mapping[str, Json]], names: Collection[str]
) -> list[tuple[str, Json]]:
    """Its services that are there, by key: those that were named, else all."""
    there = actual.get("services", {})
    named = [(key, name) for key, name in opened.services.items() if not names or key in names]
    return [(key, there[name]) for key, name in named if name in there]


def in_waves(opened: Opened, keys: Collection[str]) -> list[list[str]]:
    """So that each comes after what it depends on: those of one wave can go at once."""
    machines = {key: one for section in CHOSEN_FROM for key, one in opened.scene.section(section).items()}
    left, waves = set(keys), list[list[str]]()
    while left:
        wave = [key for key in machines if key in left and not left.intersection(machines[key]["depends_on"])]
        waves.append(wave)
        left.difference_update(wave)
    return waves


def relative(path: Path) -> str:
    """As a person in this folder would write it."""
    shown = os.path.relpath(path)
    return str(path) if shown.startswith("..") else shown
