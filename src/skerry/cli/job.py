"""`skerry job …`: work that ends: submitted, listed, looked at, cancelled."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.job_watch import job_argument, node_names
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, completing, label_pairs, sought, yes_option
from skerry.cli.output import Columns, age, human_duration, human_size, local_time, pairs, part, parts
from skerry.cli.removing import delete_each
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import jobs as calls
from skerry.client.calls.sandboxes import mount_text

_IN = "Commands"
_HERE = "skerry.cli.job:"
ENTRIES = {
    "submit": Entry("skerry.cli.job_submit:submit", "Put a job into its queue.", _IN),
    "list": Entry(_HERE + "list_jobs", "List jobs.", _IN),
    "show": Entry(_HERE + "show", "All that is known of a job.", _IN),
    "tasks": Entry(_HERE + "tasks", "The tasks of a job.", _IN),
    "logs": Entry("skerry.cli.job_logs:logs", "What its tasks printed.", _IN),
    "watch": Entry("skerry.cli.job_watch:watch", "See how it goes until it has ended.", _IN),
    "wait": Entry("skerry.cli.job_watch:wait", "Return when it has ended, and end as it did.", _IN),
    "cancel": Entry(_HERE + "cancel", "Stop what runs of it, and start no more.", _IN),
    "delete": Entry(_HERE + "delete", "Forget jobs that have ended, and their logs.", _IN),
    "ls": Entry(_HERE + "list_jobs", "List jobs."),
    "inspect": Entry(_HERE + "show", "All that is known of a job."),
    "rm": Entry(_HERE + "delete", "Forget jobs that have ended."),
}
HABITS = {
    "create": "skerry job submit -- COMMAND",
    "describe": "skerry job show JOB",
    "get": "skerry job show JOB",
    "history": "skerry job list",
    "kill": "skerry job cancel JOB",
    "log": "skerry job logs JOB",
    "ps": "skerry job list",
    "queue": "skerry job list --state pending",
    "resume": "skerry job submit, which begins anew",
    "run": "skerry job submit --watch -- COMMAND",
    "start": "skerry job submit -- COMMAND",
    "status": "skerry job show JOB",
    "stop": "skerry job cancel JOB",
    "suspend": "skerry job cancel JOB",
    "view": "skerry job show JOB",
}
STATES = ("blocked", "pending", "running", "cancelling", "succeeded", "failed", "cancelled", "skipped")
TASK_STATES = ("pending", "running", "stopping", "backing-off", "succeeded", "failed", "cancelled")


@click.command("job", cls=LazyGroup, entries=ENTRIES, habits=HABITS)
def job() -> None:
    """Work that ends: one command or thousands, each in a sandbox of its own or in a gang of them."""


@command("list")
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--queue", metavar="NAME", help="Only those of this queue.")
@click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Only those with this label. Repeat.")
@click.option("--name", metavar="PREFIX", help="Only those whose name begins so.")
def list_jobs(
    invocation: Invocation, state: str | None, queue: str | None, label: tuple[str, ...], name: str | None
) -> None:
    """List jobs. TASKS is how many of them have succeeded."""
    labels = label_pairs(label)
    items = invocation.run(
        flows.gather(
            lambda token: calls.list_page(
                state=state, queue=queue, labels=labels, name=name, limit=flows.PAGE_ITEMS, page_token=token
            )
        )
    )
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "ID": lambda item: item["id"],
        "STATE": lambda item: item["state"],
        "TASKS": count,
        "QUEUE": lambda item: item["spec"]["queue"],
        "BY": lambda item: item.get("owner") or "-",
        "AGE": lambda item: age(item["created_at"]),
        "TOOK": took,
    }
    invocation.output.many(items, columns)


def count(item: Any) -> str:
    """`3/10`, with what has failed."""
    progress = part(item, "progress")
    if not progress:
        return "-"
    failed = f" ({progress['failed']} failed)" if progress["failed"] else ""
    return f"{progress['succeeded']}/{progress['total']}{failed}"


def took(item: Any) -> str:
    """Of a job, or of the newest try of a task: so far, or until it had ended."""
    if not item.get("started_at"):
        return "-"
    from datetime import datetime

    if not item.get("ended_at"):
        return age(item["started_at"])
    passed = datetime.fromisoformat(item["ended_at"]) - datetime.fromisoformat(item["started_at"])
    return human_duration(max(0.0, passed.total_seconds()))


@command("show")
@job_argument
def show(invocation: Invocation, job: str) -> None:
    """All that is known of JOB."""
    body = invocation.ask(calls.get(job))
    if invocation.output.json:
        invocation.output.emit(body)
        return
    spec, progress = body["spec"], part(body, "progress")
    states = {name: number for name, number in progress.items() if number and name != "total"}
    invocation.output.facts(
        {
            "name": body["name"],
            "id": body["id"],
            "state": body["state"],
            "reason": body.get("reason"),
            "image": spec["image"],
            "command": " ".join(spec["command"]),
            "tasks": f"{progress.get('total', 1)}"
            + (f": {', '.join(f'{number} {name}' for name, number in states.items())}" if states else ""),
            "sweep": ", ".join(f"{name}: {len(values)} values" for name, values in part(spec, "sweep").items()),
            "at once": spec.get("parallel"),
            "each": each(spec),
            "queue": f"{spec['queue']}, {spec['tier']}, priority {spec['priority']}",
            "depends on": ", ".join(f"{one['job']} {one['outcome']}" for one in parts(spec, "depends_on")),
            "retries": spec["retry"]["limit"] or None,
            "mounts": ", ".join(mount_text(one) for one in parts(spec, "mounts")),
            "output": spec.get("output"),
            "network": body.get("network"),
            "used": used(body.get("used")),
            "labels": pairs(part(spec, "labels")),
            "by": body.get("owner"),
            "created": local_time(body["created_at"]),
            "started": local_time(body.get("started_at")),
            "ended": local_time(body.get("ended_at")),
        }
    )


def used(what: Any) -> str | None:
    """`1.50 core-hours, 3.00 GiB-hours, 0.50 GPU-hours`; None: nothing yet."""
    if not what:
        return None
    text = f"{what['core_hours']:.2f} core-hours, {what['gib_hours']:.2f} GiB-hours"
    return text + (f", {what['gpu_hours']:.2f} GPU-hours" if what["gpu_hours"] else "")


def each(spec: Any) -> str:
    """What a member has: `4 nodes of 2 cpu, 1.0GiB, 0.5 gpu`."""
    size = f"{spec['cpu']:g} cpu, {human_size(spec['memory'])}"
    size += f", {spec['gpu']:g} gpu" if spec.get("gpu") else ""
    return f"{spec['nodes']} nodes of {size}" if spec["nodes"] > 1 else size


@command("tasks")
@click.option("--state", type=click.Choice(TASK_STATES), help="Only those in this state.")
@click.option("--limit", "-n", type=int, metavar="N", help="At most so many [all].")
@job_argument
def tasks(invocation: Invocation, job: str, state: str | None, limit: int | None) -> None:
    """The tasks of JOB. ATTEMPT counts from 0, as `logs --attempt` does; CODE is of the first member that failed."""
    body = invocation.ask(calls.get(job))
    page = min(limit or flows.PAGE_ITEMS, flows.PAGE_ITEMS)
    items = invocation.run(
        flows.gather(
            lambda token: calls.tasks_page(body["id"], state=state, limit=page, page_token=token),
            items_max=limit or flows.LIST_ITEMS_MAX,
        )
    )
    names = {} if invocation.output.json else node_names(invocation, items)
    columns: Columns = {"TASK": lambda item: item["index"], "STATE": lambda item: item["state"]}
    if sweep := part(body["spec"], "sweep"):
        columns["PARAMETERS"] = lambda item: parameters(sweep, item["index"])
    columns |= {
        "ATTEMPT": lambda item: item["attempt"],
        "CODE": lambda item: "-" if item.get("exit_code") is None else item["exit_code"],
        "NODES": lambda item: nodes(item, names) or "-",
        "TOOK": took,
        "REASON": lambda item: item.get("reason") or "",
    }
    invocation.output.many(items, columns, name="index")


def nodes(task: Any, names: dict[str, str]) -> str:
    there: dict[str, None] = dict.fromkeys(one["node"] for one in parts(task, "members") if one.get("node"))
    return ", ".join(names.get(node, node) for node in there)


def parameters(sweep: dict[str, list[Any]], index: int) -> str:
    """Of one task of a sweep, the last varying first; as JobSpec.parameters has it."""
    chosen: list[str] = []
    for name, values in reversed(sweep.items()):
        index, at = divmod(index, len(values))
        chosen.append(f"{name}={values[at]}")
    return " ".join(reversed(chosen))


@command("cancel")
@click.option("--task", "-t", "indices", type=int, multiple=True, metavar="INDEX", help="Only this task. Repeat.")
@click.option("--reason", metavar="TEXT", default="", help="Told with its state.")
@click.argument("jobs", nargs=-1, required=True, callback=sought("job"), shell_complete=completing("job"))
def cancel(invocation: Invocation, jobs: tuple[str, ...], indices: tuple[int, ...], reason: str) -> None:
    """Stop what runs of JOBS, and start no more of them. What runs gets SIGTERM and its grace to end."""
    if indices and len(jobs) > 1:
        raise click.UsageError("--task goes with one job")
    for name in jobs:
        body = invocation.ask(calls.cancel(name, reason, indices))
        what = f"{len(indices)} of its tasks are cancelled" if indices else f"is {body['state']}"
        invocation.output.one(body, f"{body['name']} {what}" if not indices else f"{body['name']}: {what}")


@command("delete")
@yes_option
@click.option("--force", "-f", is_flag=True, hidden=True)
@click.argument("jobs", nargs=-1, required=True, callback=sought("job"), shell_complete=completing("job"))
def delete(invocation: Invocation, jobs: tuple[str, ...], yes: bool, force: bool) -> None:
    """Forget JOBS, which have ended, with their logs; what they wrote into volumes stays."""
    invocation.confirm(f"Forget {', '.join(jobs)} and their logs?", yes or force)
    delete_each(invocation, jobs, lambda ref: invocation.ask(calls.delete(ref)))
