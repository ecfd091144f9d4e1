"""`skerry queue …`: where work waits for machines, and the rules by which it shares them."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli.amount_view import amounts, bar
from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, completing, label_pairs, sought, yes_option
from skerry.cli.output import Columns, age, human_duration, human_size, pairs, part, parts
from skerry.cli.queue_options import RESETS, options_from, queue_options, quota_from_text
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import cloud, sandboxes
from skerry.client.calls import queues as calls
from skerry.errors import NotFound
from skerry.model.nearness import did_you_mean

_IN = "Commands"
_HERE = "skerry.cli.queue:"
ENTRIES = {
    "list": Entry(_HERE + "list_queues", "List queues.", _IN),
    "show": Entry(_HERE + "show", "Its rules, its nodes, who has what of it, and what waits.", _IN),
    "create": Entry(_HERE + "create", "Make a queue.", _IN),
    "update": Entry(_HERE + "update", "Change its rules.", _IN),
    "delete": Entry(_HERE + "delete", "Delete a queue that is empty.", _IN),
    "ls": Entry(_HERE + "list_queues", "List queues."),
    "inspect": Entry(_HERE + "show", "Its rules, its nodes, who has what of it, and what waits."),
    "rm": Entry(_HERE + "delete", "Delete a queue that is empty."),
}
WAITING_SHOWN = 5


@click.command("queue", cls=LazyGroup, entries=ENTRIES)
def queue() -> None:
    """Queues: some of the nodes, and the rules by which work waits for them. `default` is always there."""


def queue_argument(function: Any) -> Any:
    return click.argument("queue", callback=sought("queue"), shell_complete=completing("queue"))(function)


@command("list")
@click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Only those with this label. Repeat.")
def list_queues(invocation: Invocation, label: tuple[str, ...]) -> None:
    """List queues, with what their own work has of their nodes."""
    labels = label_pairs(label)
    items = invocation.run(flows.gather(lambda token: calls.list_page(labels=labels, page_token=token)))
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "POLICY": lambda item: item["spec"]["policy"],
        "NODES": lambda item: f"{item['nodes_ready']}/{item['nodes']}",
        "PENDING": lambda item: item["pending"],
        "RUNNING": lambda item: item["running"],
        "CPU": lambda item: f"{item['used']['cpu']:g}/{item['total']['cpu']:g}",
        "MEMORY": lambda item: (
            f"{human_size(item['used']['memory_bytes'])}/{human_size(item['total']['memory_bytes'])}"
        ),
    }
    if any(item["total"]["gpu"] for item in items):
        columns["GPU"] = lambda item: f"{item['used']['gpu']:g}/{item['total']['gpu']:g}"
    if any(part(item["spec"], "nodes") for item in items):
        columns["SELECTS"] = lambda item: _selector(part(item["spec"], "nodes")) or "all"
    invocation.output.many(items, columns)


def _selector(nodes: dict[str, list[str]]) -> str:
    return ", ".join(f"{key}={'|'.join(values)}" if values else key for key, values in nodes.items())


@command("show")
@queue_argument
def show(invocation: Invocation, queue: str) -> None:
    """The rules of QUEUE, how full its nodes are, who has what of it, and what waits in it."""
    body = invocation.ask(calls.get(queue))
    if invocation.output.json:
        invocation.output.emit(body)
        return
    out, spec = invocation.output, body["spec"]
    total, taken = body["total"], body["taken"]
    kinds = {kind: bar(part(taken, "gpu_kinds").get(kind, 0), count) for kind, count in total["gpu_kinds"].items()}
    out.facts(
        {
            "name": body["name"],
            "id": body["id"],
            "policy": f"{spec['policy']}, {spec['strategy']}{', backfill' if spec['backfill'] else ''}",
            "nodes": f"{body['nodes_ready']} ready of {body['nodes']} ({_selector(part(spec, 'nodes')) or 'all'})",
            "cpu": bar(taken["cpu"], total["cpu"]),
            "memory": bar(taken["memory_bytes"], total["memory_bytes"], human_size),
            "gpu": bar(taken["gpu"], total["gpu"]) if total["gpu"] else None,
            **(kinds if len(kinds) > 1 else {}),
            "own work": amounts(body["used"]) or "none",
            "running": _of(body["running"], spec.get("running_max")),
            "pending": _of(body["pending"], spec.get("pending_max")),
            "aging": f"a point each {human_duration(spec['aging_s'])}" if spec.get("aging_s") else "off",
            "small work": f"{spec['small_share']:.0%} kept for it",
            "preemption": _preemption(part(spec, "preemption")),
            "max duration": human_duration(spec["max_duration"]) if spec.get("max_duration") else None,
            "cpu overcommit": pairs(part(spec, "cpu_overcommit")),
            "memory overcommit": pairs(part(spec, "memory_overcommit")),
            "labels": pairs(part(spec, "labels")),
        }
    )
    _show_shares(invocation, parts(body, "shares"))
    _show_waiting(invocation, body)


def _of(count: int, most: int | None) -> str:
    return str(count) if most is None else f"{count} of at most {most}"


def _preemption(preemption: dict[str, Any]) -> str:
    if not preemption.get("enabled"):
        return "off"
    return f"after {preemption['minimum_run_s']:g} s, with {preemption['grace_s']:g} s to end"


def _show_shares(invocation: Invocation, shares: list[Any]) -> None:
    if not shares:
        return
    invocation.output.line()
    invocation.output.table(
        ["PROJECT", "USER", "RUNNING", "PENDING", "USED", "GUARANTEED", "LIMIT", "BORROWED", "WEIGHT"],
        [
            [
                share["project"],
                "all" if share.get("user") is None else share["user"] or "-",
                _of(share["running"], share.get("running_max")),
                _of(share["pending"], share.get("pending_max")),
                *(amounts(part(share, name)) or "-" for name in ("used", "guaranteed", "limit", "borrowed")),
                f"{share['weight']:g}",
            ]
            for share in shares
        ],
    )


def _show_waiting(invocation: Invocation, body: Any) -> None:
    if not body["pending"]:
        return
    found = invocation.ask(sandboxes.list_page(state="pending", queue=body["name"], limit=WAITING_SHOWN))["items"]
    rows: list[tuple[int, list[str]]] = []
    for item in found:
        wait = _wait(invocation, item["id"])
        position = wait.get("position") or 0
        tier = f"{item['spec']['tier']}, {item['spec']['priority']}"
        told = [str(position or "-"), item["name"], tier, age(item["updated_at"]), item.get("owner") or "-"]
        rows.append((position or body["pending"] + 1, [*told, wait.get("say") or "-"]))
    invocation.output.line()
    invocation.output.table(
        ["PLACE", "WAITS", "TIER", "FOR", "OF", "WHY"], [row for _, row in sorted(rows, key=lambda each: each[0])]
    )
    if body["pending"] > len(found):
        invocation.output.line(f"and {body['pending'] - len(found)} more")


def _wait(invocation: Invocation, sandbox_id: str) -> dict[str, Any]:
    """Why it waits, by the newest look of the scheduler; {} where it has not looked yet, or it has just gone."""
    try:
        return part(invocation.ask(cloud.explain(sandbox_id)), "waiting")
    except NotFound:
        return {}


@command("create")
@queue_options
@click.argument("name")
def create(invocation: Invocation, name: str, **options: Any) -> None:
    """Make the queue NAME.

    \b
      skerry queue create lab --node rack=a --node rack=b --policy fair-share
      skerry queue create vision --node gpu --quota project=default,user=ann,guaranteed.gpu=2,limit.gpu=4
      skerry job submit --queue lab -- python3 train.py
    """
    body = invocation.ask(calls.create(name, options_from(options)))
    invocation.output.one(body, f"{body['name']} ({body['id']}) made")


@command("update")
@queue_options
@click.option("--remove-quota", multiple=True, metavar="PROJECT[/USER]", help="Take a quota away. Repeat.")
@click.option(
    "--reset", multiple=True, type=click.Choice(list(RESETS)), help="Back to no limit, or to all nodes. Repeat."
)
@queue_argument
def update(
    invocation: Invocation, queue: str, remove_quota: tuple[str, ...], reset: tuple[str, ...], **options: Any
) -> None:
    """Change the rules of QUEUE, at once, also for what waits. A quota takes the place of the one of the same people.

    \b
      skerry queue update lab --policy fifo --no-preemption
      skerry queue update lab --quota project=default,limit.cpu=64
      skerry queue update lab --remove-quota default/ann
    """
    quotas = [quota_from_text(text) for text in options.pop("quota")]
    change = options_from({**options, "quota": ()})
    if quotas or remove_quota:
        had = parts(invocation.ask(calls.get(queue))["spec"], "quotas")
        _check_there(queue, remove_quota, [_whose(each) for each in had])
        gone = {*remove_quota, *map(_whose, quotas)}
        change["quotas"] = [each for each in had if _whose(each) not in gone] + quotas
    change |= dict(RESETS[name] for name in reset)
    if not change:
        raise click.UsageError("nothing to change")
    body = invocation.ask(calls.update(queue, change))
    invocation.output.one(body, f"{body['name']} changed")


def _check_there(queue: str, wanted: tuple[str, ...], known: list[str]) -> None:
    for whose in wanted:
        if whose not in known:
            hint = did_you_mean(whose, known) or f"; it has those of {', '.join(known) or 'nobody'}"
            raise click.UsageError(f"queue {queue} has no quota of {whose}{hint}")


def _whose(quota: Any) -> str:
    return quota["project"] if quota.get("user") is None else f"{quota['project']}/{quota['user']}"


@command("delete")
@yes_option
@queue_argument
def delete(invocation: Invocation, queue: str, yes: bool) -> None:
    """Delete QUEUE; refused while there is work in it."""
    invocation.confirm(f"Delete queue {queue}?", yes)
    body = invocation.ask(calls.delete(queue)) or {"id": queue}
    invocation.output.one(body, f"{queue} deleted")
