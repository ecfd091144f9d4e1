"""`skerry status`: sandboxes, jobs and services of a skerry.yaml, what each does, whether it is as declared."""

from __future__ import annotations

from typing import Any

from skerry.cli.environment import open_here, read_actual
from skerry.cli.file_options import file_options, names_argument
from skerry.cli.invocation import Invocation
from skerry.cli.job import count
from skerry.cli.options import command
from skerry.cli.output import Columns
from skerry.cli.plan_view import words
from skerry.cli.port import published
from skerry.cli.service import ready
from skerry.environment.apply import title
from skerry.environment.kinds.catalog import KINDS
from skerry.environment.kinds.contract import Action, Step
from skerry.environment.kinds.services import is_stopped
from skerry.environment.plan import CHOSEN_FROM, left_over, make_plan
from skerry.model.standing import standing

OF_SERVICES: Columns = {
    "SERVICE": lambda item: item["key"],
    "STATE": lambda item: item["state"],
    "READY": lambda item: item["ready"] or "-",
    "URL": lambda item: item["url"] or "-",
    "FILE": lambda item: item["file"],
}


@command("status")
@file_options
@names_argument
def status(invocation: Invocation, names: tuple[str, ...], files: tuple[str, ...], profiles: tuple[str, ...]) -> None:
    """Each sandbox of skerry.yaml: its state, its health, its ports, and whether it is still as the file says; each
    job: how far it is; and each service: whether it can serve, and where."""
    opened = open_here(invocation, files, profiles, names)
    actual = read_actual(invocation, opened.scene.name)
    known = [key for section in CHOSEN_FROM for key in opened.scene.section(section)]
    plan = make_plan(opened.scene, KINDS, actual, names or known)
    declared = [step for step in plan.steps if step.action is not Action.DELETE and (not names or step.key in names)]
    gone = [] if names else left_over(opened.scene, KINDS, actual)
    steps = [step for step in (*declared, *gone) if step.section == "sandboxes"]
    items = [_item(step, step.key == opened.primary and step.action is not Action.DELETE) for step in steps]
    jobs = [_job(step) for step in (*declared, *gone) if step.section == "jobs"]
    services = [_service(step) for step in (*declared, *gone) if step.section == "services"]
    for item in items:
        if item["action"] == Action.DELETE and item["key"] in opened.left_out:
            item |= {"action": Action.KEEP.value, "file": opened.left_out[item["key"]], "reasons": []}
    columns: Columns = {
        "": lambda item: "*" if item["primary"] else "",
        "SANDBOX": lambda item: item["key"],
        "STATE": lambda item: item["state"],
        "HEALTH": lambda item: item["health"] or "-",
        "PORTS": lambda item: item["ports"] or "-",
        "FILE": lambda item: item["file"],
    }
    of_jobs: Columns = {
        "JOB": lambda item: item["key"],
        "STATE": lambda item: item["state"],
        "TASKS": count,
        "FILE": lambda item: item["file"],
    }
    if invocation.output.json or invocation.output.quiet:
        invocation.output.many([*items, *jobs, *services], columns, name="name")
    else:
        tables = [(items, columns), (jobs, of_jobs), (services, OF_SERVICES)]
        shown = [table for table in tables if table[0]] or tables[:1]
        for number, (found, columns) in enumerate(shown):
            if number:
                invocation.output.line()
            invocation.output.many(found, columns)
    others = [step for step in plan.changes if step.section not in CHOSEN_FROM]
    if others and not invocation.output.json:
        invocation.output.note("; ".join(f"{title(step)}: {words(step)}" for step in others))


def _item(step: Step, primary: bool) -> dict[str, Any]:
    actual = step.actual or {}
    return {
        "key": step.key,
        "name": step.name,
        "id": actual.get("id"),
        "primary": primary,
        "state": actual.get("state", "absent"),
        "health": _health(actual),
        "ports": published(actual["spec"]) if actual else "",
        "file": _told(step),
        "action": step.action.value,
        "reasons": [reason.say for reason in step.reasons],
    }


def _job(step: Step) -> dict[str, Any]:
    actual = step.actual or {}
    return {
        "key": step.key,
        "name": step.name,
        "id": actual.get("id"),
        "state": actual.get("state", "absent"),
        "progress": actual.get("progress"),
        "file": "not submitted yet" if step.action is Action.CREATE and not actual else _told(step),
        "action": step.action.value,
        "reasons": [reason.say for reason in step.reasons],
    }


def _service(step: Step) -> dict[str, Any]:
    actual = step.actual or {}
    serves = actual and not is_stopped(actual["spec"])
    return {
        "key": step.key,
        "name": step.name,
        "id": actual.get("id"),
        "state": actual["status"] if serves else "stopped" if actual else "absent",
        "ready": ready(actual) if actual else None,
        "url": actual.get("url"),
        "file": _told(step),
        "action": step.action.value,
        "reasons": [reason.say for reason in step.reasons],
    }


def _health(actual: dict[str, Any]) -> str | None:
    """Of one that can be looked at and runs."""
    spec: dict[str, Any] = actual.get("spec") or {}
    if actual.get("state") not in ("running", "asleep") or not (spec.get("health") or spec.get("services")):
        return None
    return standing(actual).state


def _told(step: Step) -> str:
    match step.action:
        case Action.KEEP:
            return "as declared"
        case Action.CREATE if step.actual is None:
            return "not created yet"
        case Action.DELETE:
            return "not in the file any more"
        case Action.START:
            return "not running"
        case _:
            how = "changed outside the file" if any(reason.drift for reason in step.reasons) else "the file has changed"
            return f"{how}: {'; '.join(reason.say for reason in step.reasons)}"
