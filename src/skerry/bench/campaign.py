"""A file of plans: what several runs have alike is said once, each run says what it has of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

import yaml
from annotated_types import Ge, Le, MaxLen

from skerry.bench import reading
from skerry.bench.plan import Campaign, Plan, Run
from skerry.errors import Invalid

RUNS_MAX = 1000
REPEATS_MAX = 100
NOWHERE = "http://none"
OWN = ("runs", "repeat")
TARGETS = ("url", "service", "engine")
LOADS = ("rate", "steps", "concurrency", "trace")

Fields = Mapping[str, Any]
Reach = Callable[[Fields], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class File(Plan):
    """A plan, and runs that each say some of it otherwise."""

    service: Annotated[str, MaxLen(256)] | None = None
    """Of Skerry, in the place of `url`: through its gateway, with the key of the command line's context."""
    runs: Annotated[list[dict[str, Any]], MaxLen(RUNS_MAX)] = field(default_factory=list[dict[str, Any]])
    """Each with a `name` and fields of a plan; those of `load` one by one."""
    repeat: Annotated[int, Ge(1), Le(REPEATS_MAX)] = 1
    """Each run so often, with another seed: intervals of confidence need five or so."""


def schema() -> dict[str, Any]:
    """For editors."""
    found = reading.schema(File)
    found["required"] = []  # a run may say it
    return found


def read(path: Path, given: Fields, reach: Reach) -> Campaign:
    """`given`: what is said on the command line goes before the file. `reach`: puts the address in the place of a
    service, and the key to it. Raises Invalid, and as `reach` does."""
    try:
        body: Any = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Invalid(f"plan: {path} cannot be read as YAML", field="plan", because=str(error)) from None
    if not isinstance(body, dict):
        raise Invalid(f"plan: {path} holds no fields", field="plan")
    return campaign(cast("dict[str, Any]", body), given, reach)


def campaign(body: Fields, given: Fields, reach: Reach = dict) -> Campaign:
    """Raises Invalid."""
    base = {name: value for name, value in body.items() if name not in OWN}
    # Read by the model first, so that a wrong field of the file is told of as such; a load may come with each run.
    least = {"url": NOWHERE, "model": "none", "load": {"rate": 1, "requests": 1}}
    fields = _merged(least, body, given)
    (whole,) = reading.read(File, [{"url": NOWHERE, **fields} if "service" in fields else fields])
    named = [(str(run.get("name", f"run-{at}")), run) for at, run in enumerate(whole.runs)] or [("", {})]
    bodies = [reach(_merged(base, {k: v for k, v in run.items() if k != "name"}, given)) for _, run in named]
    plans = reading.read(Plan, bodies)
    runs = [Run(name, plan) for (name, _), plan in zip(named, plans, strict=True)]
    if len({run.name for run in runs}) < len(runs):
        raise Invalid("runs: two have one name", field="runs")
    for run in runs:
        if "/" in run.name or run.name.startswith("."):
            raise Invalid(f"runs: the name {run.name!r} is not allowed; it becomes a folder's", field="runs")
    return Campaign(tuple(runs), whole.repeat)


def _merged(below: Fields, *parts: Fields) -> dict[str, Any]:
    """The later go before the earlier, of load and of headers field by field."""
    found = dict(below)
    for above in parts:
        below = _without(found, above, TARGETS)
        found = {**below, **above}
        for name, ways in (("load", LOADS), ("headers", ())):
            first, second = below.get(name), above.get(name)
            if isinstance(first, dict) and isinstance(second, dict):
                found[name] = {**_without(cast(Fields, first), cast(Fields, second), ways), **second}
    return found


def _without(below: Fields, above: Fields, ways: Sequence[str]) -> Fields:
    """Where `above` says one of several ways, it takes the place of all that `below` says of them."""
    if not any(way in above for way in ways):
        return below
    return {name: value for name, value in below.items() if name not in ways}
