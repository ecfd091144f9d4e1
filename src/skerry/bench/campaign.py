"""A file of plans: what several runs have alike is said once, each run says what it has of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import yaml
from pydantic import Field, ValidationError

from skerry.bench.plan import Campaign, Plan, Run
from skerry.errors import Invalid
from skerry.model.explain import explain

RUNS_MAX = 1000
REPEATS_MAX = 100
OWN = ("runs", "repeat")


class File(Plan):
    """A plan, and runs that each say some of it otherwise."""

    runs: Annotated[list[dict[str, Any]], Field(max_length=RUNS_MAX)] = []
    """Each with a `name` and fields of a plan; those of `load` one by one."""
    repeat: Annotated[int, Field(ge=1, le=REPEATS_MAX)] = 1
    """Each run so often, with another seed: intervals of confidence need five or so."""


def schema() -> dict[str, Any]:
    """For editors."""
    found = File.model_json_schema()
    found["required"] = []  # a run may say it
    return found


def read(path: Path, given: Mapping[str, Any]) -> Campaign:
    """`given`: what is said on the command line goes before the file. Raises Invalid."""
    try:
        body: Any = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Invalid(f"plan: {path} cannot be read as YAML", field="plan", because=str(error)) from None
    if not isinstance(body, dict):
        raise Invalid(f"plan: {path} holds no fields", field="plan")
    return campaign(cast("dict[str, Any]", body), given)


def campaign(body: Mapping[str, Any], given: Mapping[str, Any]) -> Campaign:
    """Raises Invalid."""
    base = {name: value for name, value in body.items() if name not in OWN}
    try:
        # Read by the model first, so that a wrong field of the file is told of as such; a load may come with each run.
        whole = File.model_validate(
            {"url": "http://none", "model": "none", "load": {"rate": 1, "requests": 1}, **body, **given}
        )
        named = [(str(run.get("name", f"run-{at}")), run) for at, run in enumerate(whole.runs)] or [("", {})]
        runs = [
            Run(name, Plan.model_validate({**_merged(base, {k: v for k, v in run.items() if k != "name"}), **given}))
            for name, run in named
        ]
    except ValidationError as error:
        raise explain(error, Plan) from None
    if len({run.name for run in runs}) < len(runs):
        raise Invalid("runs: two have one name", field="runs")
    for run in runs:
        if "/" in run.name or run.name.startswith("."):
            raise Invalid(f"runs: the name {run.name!r} is not allowed; it becomes a folder's", field="runs")
    return Campaign(tuple(runs), whole.repeat)


def _merged(base: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    found = {**base, **run}
    if isinstance(base.get("load"), dict) and isinstance(run.get("load"), dict):
        found["load"] = {**base["load"], **run["load"]}
        kinds = [kind for kind in ("rate", "steps", "concurrency", "trace") if kind in run["load"]]
        if kinds:  # another kind of load takes the place of the one that all have
            for kind in {"rate", "steps", "concurrency", "trace"} - set(kinds):
                found["load"].pop(kind, None)
    return found
