"""What would have to happen for an environment to be as its file says: a pure comparison of the two."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from skerry.environment.kinds.contract import DESTRUCTIVE, Action, Json, Kind, Reason, Scene, Step
from skerry.environment.kinds.jobs import needed_jobs, needed_sandboxes, with_dependants
from skerry.environment.kinds.models import SCHEME
from skerry.environment.kinds.queues import work_in
from skerry.errors import Conflict, Invalid
from skerry.model.labels import LABEL_FILE, LABEL_MEMBER
from skerry.model.nearness import did_you_mean

Ref = tuple[str, str]
"""Section and key."""
CHOSEN_FROM = ("sandboxes", "jobs", "services")
"""Sections of what may be named, and may wait until it is: the others are there for these."""
_NOUNS = {"sandboxes": "sandbox", "jobs": "job", "services": "service"}


@dataclass(frozen=True)
class Plan:
    steps: tuple[Step, ...]
    """Of every object that was looked at, those that stay as they are too; in the order of making, deletions last."""
    waits: Mapping[Ref, Mapping[Ref, str]]
    """Step -> steps that must come before, and what must then be true: `made`, `started`, `healthy`, `completed`; of
    jobs `succeeded`, `failed`, `finished`; of services `healthy`."""
    kept: tuple[tuple[str, str], ...] = ()
    """(section, name) of volumes and models that have left the file, and stay for what is in them."""

    @property
    def changes(self) -> list[Step]:
        return [step for step in self.steps if step.action is not Action.KEEP]

    @property
    def destructive(self) -> list[Step]:
        return [step for step in self.steps if step.action in DESTRUCTIVE]


def make_plan(
    scene: Scene,
    kinds: Sequence[Kind],
    actual: Mapping[str, Mapping[str, Json]],
    names: Collection[str] = (),
    left_out: Collection[str] = (),
) -> Plan:
    """`actual`: section -> name on the server -> the object. `names`: these sandboxes, jobs and services and what they
    need; none: all that start by themselves. Only a plan of all deletes what has left the file, which the keys
    `left_out` have not: they are of profiles that were not asked for."""
    chosen = choose(scene, names)
    steps: list[Step] = []
    for kind in kinds:
        there = actual.get(kind.section, {})
        for key, declared in scene.section(kind.section).items():
            if declared.get("external") or (kind.section in CHOSEN_FROM and key not in chosen):
                continue
            body = kind.body(scene, key)
            found = there.get(body["name"])
            if found is None:
                steps.append(Step(kind.section, key, body["name"], Action.CREATE, (), body))
            else:
                steps.append(kind.compare(scene, key, body, found))
    steps = with_dependants(scene, steps)
    if not names:
        steps += [
            step
            for step in left_over(scene, kinds, actual)
            if step.section != "sandboxes" or labels_of(step.actual or {}).get(LABEL_MEMBER) not in left_out
        ]
    return Plan(tuple(steps), _waits(scene, steps), () if names else _kept(scene, actual))


def choose(scene: Scene, names: Collection[str], sections: Collection[str] = CHOSEN_FROM) -> set[str]:
    """Sandboxes, jobs and services by their keys, with all that they depend on: no two of them are called the same.
    Raises Invalid for a name that these `sections` of the file have not."""
    known: dict[str, Json] = {key: one for section in sections for key, one in scene.section(section).items()}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"; it has {', '.join(known) or 'none'}"
            nouns = " or ".join(
                _NOUNS[section] for section in sections if section == "sandboxes" or scene.section(section)
            )
            raise Invalid(f"there is no {nouns} {name!r} in {scene.file.name}{hint}")
    chosen: set[str] = set()
    waiting = list(names) or [key for key, one in known.items() if one["autostart"]]
    while waiting:
        key = waiting.pop()
        if key not in chosen:
            chosen.add(key)
            waiting += known[key]["depends_on"]
    return chosen


def left_over(scene: Scene, kinds: Sequence[Kind], actual: Mapping[str, Mapping[str, Json]]) -> list[Step]:
    """What is this environment's and is not in its file any more; users before what they use."""
    steps: list[Step] = []
    for kind in reversed(kinds):
        if not kind.deletes_left_over:
            continue
        wanted = {scene.name_of(kind.section, key) for key in scene.section(kind.section)}
        for name, found in actual.get(kind.section, {}).items():
            if name not in wanted:
                key = labels_of(found).get(LABEL_MEMBER, name)
                key = name if key in scene.section(kind.section) else key  # one of the file is called so
                reasons = [Reason(f"it is not in {scene.file.name} any more")]
                reasons += work_in(found) if kind.section == "queues" else []
                steps.append(Step(kind.section, key, name, Action.DELETE, tuple(reasons), actual=found))
    return steps


def _kept(scene: Scene, actual: Mapping[str, Mapping[str, Json]]) -> tuple[tuple[str, str], ...]:
    kept: list[tuple[str, str]] = []
    for section in ("volumes", "models"):
        wanted = {scene.name_of(section, key) for key in scene.section(section)}
        kept += [(section, name) for name in actual.get(section, {}) if name not in wanted]
    return tuple(kept)


def _waits(scene: Scene, steps: Sequence[Step]) -> dict[Ref, dict[Ref, str]]:
    known = {step.ref for step in steps if step.action is not Action.DELETE}
    waits: dict[Ref, dict[Ref, str]] = {}
    for step in steps:
        if step.action is Action.DELETE:
            continue
        before: dict[Ref, str] = {}
        if step.section == "sandboxes":
            before = _uses(scene.section("sandboxes")[step.key])
            before |= {
                ("sandboxes", key): condition
                for key, condition in scene.section("sandboxes")[step.key]["depends_on"].items()
            }
        elif step.section == "models":
            model = scene.section("models")[step.key]
            before = _made(model["source"]) | {("models", each): "made" for each in model["adapters"]}
        elif step.section == "jobs" and step.action is not Action.KEEP:  # one that was submitted waits for nothing
            job = scene.section("jobs")[step.key]
            before = _uses(job) | ({("volumes", job["output"]): "made"} if job["output"] else {})
            before |= {("sandboxes", key): need for key, need in needed_sandboxes(scene, step.key).items()}
            before |= {("jobs", key): "made" for key in needed_jobs(scene, step.key)}
        elif step.section == "services":
            service = scene.section("services")[step.key]
            before = _uses(service)
            for key, need in service["depends_on"].items():
                if key in scene.section("sandboxes"):
                    before["sandboxes", key] = need or "started"
                elif step.action is Action.KEEP:  # one that is there does not wait for a job or a service again
                    continue
                elif key in scene.section("services"):
                    before["services", key] = need or "healthy"
                else:
                    before["jobs", key] = need or "succeeded"
        waits[step.ref] = {ref: condition for ref, condition in before.items() if ref in known}
    return waits


def _uses(one: Json) -> dict[Ref, str]:
    """Of a sandbox, a job or a service."""
    before: dict[Ref, str] = {("images", one["image"]): "made"} if one["image"] else {}
    before[("queues", one["queue"])] = "made"
    before |= {("networks", join["name"]): "made" for join in one["networks"]}
    sources: list[str] = [one.get("model") or "", *(one.get("adapters") or {}).values()]
    for source in sources:
        before |= _made(source)
    before |= {("models", mount["model"]): "made" for mount in one["mounts"] if mount.get("model")}
    return before | {("volumes", mount["volume"]): "made" for mount in one["mounts"] if mount.get("volume")}


def _made(source: str) -> dict[Ref, str]:
    """The model or the volume that a source names, of those that are ours to make."""
    if source.startswith(SCHEME):
        return {("models", source.removeprefix(SCHEME)): "made"}
    return {("volumes", source.partition(":")[0]): "made"}


def labels_of(found: Json) -> dict[str, str]:
    """Of any object: a sandbox has them in its spec."""
    return (found.get("spec") or found).get("labels") or {}


def check_owner(scene: Scene, actual: Mapping[str, Mapping[str, Json]]) -> None:
    """Raises Conflict where the objects of this name remember another file: two files must not take turns."""
    for found in actual.values():
        for name, one in found.items():
            other = labels_of(one).get(LABEL_FILE)
            if other is not None and other != scene.labels("", {})[LABEL_FILE]:
                raise Conflict(
                    f"{name} is of the environment {scene.name} of {other}; "
                    "give this one another name, or take it over with --adopt"
                )
