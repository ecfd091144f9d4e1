"""How a plan is shown: a line for each object, why in words, and a count of each kind of change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from skerry.cli.output import Output, plain
from skerry.environment.kinds.catalog import kind_of
from skerry.environment.kinds.contract import Action, Json, Step
from skerry.environment.plan import Plan

MARKS: dict[Action, tuple[str, str]] = {
    Action.CREATE: ("+", "green"),
    Action.START: (">", "green"),
    Action.UPDATE: ("~", "yellow"),
    Action.RESTART: ("^", "yellow"),
    Action.REPLACE: ("!", "red"),
    Action.DELETE: ("-", "red"),
}
WORDS: dict[Action, str] = {
    Action.CREATE: "create",
    Action.START: "start",
    Action.UPDATE: "change in place",
    Action.RESTART: "change, with a restart; the disk stays",
    Action.REPLACE: "delete and make anew; what is on its disk is lost",
    Action.DELETE: "delete",
    Action.KEEP: "unchanged",
}
_OF_JOBS = {
    Action.CREATE: "submit",
    Action.REPLACE: "cancel, and submit anew",
    Action.DELETE: "cancel if it has not ended, and delete with its logs",
}
_SHORT = {Action.UPDATE: "change", Action.RESTART: "restart", Action.REPLACE: "replace", Action.KEEP: "unchanged"}


def show(output: Output, plan: Plan, title: str, due: Mapping[str, Sequence[str]] | None = None) -> None:
    """`due`: steps that would run, by their sandboxes."""
    due = due or {}
    output.line(title)
    changes = [step for step in plan.steps if step.action is not Action.KEEP or _steps(step, due)]
    width = max((len(step.key) for step in changes), default=0)
    for step in changes:
        mark, colour = MARKS.get(step.action, (" ", "grey"))
        noun = kind_of(step.section).noun
        text = f"{noun:<7}  {plain(step.key):<{width}}  {words(step)}"
        output.line(f"  {output.paint(mark, colour)} {text}")
        for reason in step.reasons:
            drift = " (changed outside the file)" if reason.drift else ""
            output.line(f"      {plain(reason.say)}{drift}")
        if steps := _steps(step, due):
            output.line(f"      runs {plain(', '.join(steps))}")
    for line in kept(plan):
        output.line(f"    {line}")
    output.line(summary(plan))


def kept(plan: Plan) -> list[str]:
    found = [(kind_of(section).noun, name) for section, name in plan.kept]
    return [f"{noun} {name} has left the file and stays; `skerry {noun} rm {name}` deletes it" for noun, name in found]


def _steps(step: Step, due: Mapping[str, Sequence[str]]) -> Sequence[str]:
    return due.get(step.key, ()) if step.section == "sandboxes" else ()


def words(step: Step) -> str:
    """What will be done; only a sandbox has a disk to lose."""
    if step.section == "jobs" and step.action in _OF_JOBS:
        return _OF_JOBS[step.action] + (" anew" if step.action is Action.CREATE and step.actual is not None else "")
    text = WORDS[step.action]
    return text if step.section == "sandboxes" else text.partition(";")[0]


def summary(plan: Plan) -> str:
    counts = Counter(step.action for step in plan.steps)
    kept = counts.pop(Action.KEEP, 0)
    parts = [f"{counts[action]} to {_SHORT.get(action, action.value)}" for action in Action if counts[action]]
    if not parts:
        return f"nothing to do: {kept} unchanged" if kept else "nothing to do"
    return ", ".join([*parts, f"{kept} unchanged"])


def as_json(plan: Plan, due: Mapping[str, Sequence[str]]) -> list[Json]:
    return [
        {
            "noun": kind_of(step.section).noun,
            "key": step.key,
            "name": step.name,
            "action": step.action.value,
            "steps": list(_steps(step, due)),
            "reasons": [{"say": reason.say, "drift": reason.drift} for reason in step.reasons],
        }
        for step in plan.steps
    ]
