"""`skerry service …`: model servers and web apps of one or many replicas behind one address that stays."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, completing, label_pairs, sought
from skerry.cli.output import Columns, age, human_size, local_time, pairs, part, parts
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import services as calls
from skerry.client.calls.sandboxes import mount_text
from skerry.errors import NotFound

_IN = "Commands"
_HERE = "skerry.cli.service:"
_CHANGE = "skerry.cli.service_change:"
ENTRIES = {
    "create": Entry(_CHANGE + "create", "Make a service.", _IN),
    "list": Entry(_HERE + "list_services", "List services.", _IN),
    "info": Entry(_HERE + "info", "All that is known of a service, and its replicas.", _IN),
    "update": Entry(_CHANGE + "update", "Change it; what its replicas run by is rolled out.", _IN),
    "scale": Entry(_CHANGE + "scale", "Give it more replicas, or fewer.", _IN),
    "logs": Entry(_HERE + "logs", "What its replicas print.", _IN),
    "endpoint": Entry(_HERE + "endpoint", "Where it is reached, and how to try it.", _IN),
    "token": Entry("skerry.cli.service_token:token", "What clients show to be let in.", _IN),
    "rollout": Entry("skerry.cli.service_rollout:rollout", "How a new revision takes over: promote, pause, undo.", _IN),
    "usage": Entry(_HERE + "usage", "What was used of it, by hour, model and client.", _IN),
    "delete": Entry(_CHANGE + "delete", "Delete services.", _IN),
    "ls": Entry(_HERE + "list_services", "List services."),
    "show": Entry(_HERE + "info", "All that is known of a service."),
    "inspect": Entry(_HERE + "info", "All that is known of a service."),
    "rm": Entry(_CHANGE + "delete", "Delete services."),
}
HABITS = {
    "deploy": "skerry service create NAME, or skerry service update NAME",
    "describe": "skerry service info NAME",
    "generate-token": "skerry service token create",
    "get": "skerry service info NAME",
    "get-endpoint": "skerry service endpoint NAME",
    "log": "skerry service logs NAME",
    "rollback": "skerry service rollout rollback NAME",
    "restart": "skerry service rollout",
    "run": "skerry service create NAME",
    "start": "skerry service scale NAME 1",
    "status": "skerry service info NAME",
    "stop": "skerry service scale NAME 0",
}
LOGS_MAX = 64


@click.command("service", cls=LazyGroup, entries=ENTRIES, habits=HABITS)
def service() -> None:
    """Model servers and web apps: one or many replicas, each a sandbox, behind one address that stays."""


def service_argument(name: str = "service", **attributes: Any) -> Any:
    return click.argument(name, callback=sought("service"), shell_complete=completing("service"), **attributes)


@command("list")
@click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Only those with this label. Repeat.")
@click.option("--name", metavar="PREFIX", help="Only those whose name begins so.")
def list_services(invocation: Invocation, label: tuple[str, ...], name: str | None) -> None:
    """List services. READY is how many replicas serve, of how many are wanted."""
    labels = label_pairs(label)
    items = invocation.run(
        flows.gather(lambda token: calls.list_page(name=name, labels=labels, limit=flows.PAGE_ITEMS, page_token=token))
    )
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "STATUS": lambda item: item["state"] if item["state"] != "active" else item["status"],
        "READY": ready,
        "REVISION": revision,
        "ENGINE": lambda item: item["spec"]["engine"],
        "REQ/S": lambda item: rate(item.get("signals")),
        "URL": lambda item: item.get("url") or "-",
        "AGE": lambda item: age(item["created_at"]),
    }
    invocation.output.many(items, columns)


def ready(item: Any) -> str:
    """`2/3`"""
    spec = item["spec"]
    if spec["addresses"]:
        return f"{len(spec['addresses'])} addresses"
    return f"{item['ready']}/{sum(spec['roles'].values()) if spec['roles'] else item['wanted']}"


def revision(item: Any) -> str:
    """`3`, or `3 > 4 ready` while the next one is on its way."""
    rollout = item.get("rollout")
    return f"{item['serving']} > {rollout['revision']} {rollout['phase']}" if rollout else str(item["serving"])


def rate(signals: Any) -> str:
    return f"{signals['requests_per_s']:.1f}" if signals else "-"


@command("info")
@service_argument()
def info(invocation: Invocation, service: str) -> None:
    """All that is known of SERVICE: whether it can serve, its replicas, and why there are so many."""
    body = invocation.ask(calls.get(service))
    if invocation.output.json or invocation.output.quiet:
        invocation.output.one(body, body["id"])
        return
    spec, rollout, signals = body["spec"], body.get("rollout"), body.get("signals")
    size = f"{spec['cpu']:g} cpu, {human_size(spec['memory'])}"
    size += f", {spec['gpu']:g} gpu" if spec.get("gpu") else ""
    invocation.output.facts(
        {
            "name": body["name"],
            "id": body["id"],
            "status": body["state"] if body["state"] != "active" else body["status"],
            "reason": body.get("reason"),
            "url": body.get("url"),
            "for": "everybody" if spec["public"] else "tokens and keys",
            "engine": spec["engine"],
            "image": spec.get("image"),
            "command": " ".join(parts(spec, "command")),
            "model": spec.get("model"),
            "models": ", ".join([body["name"], *parts(spec, "models"), *part(spec, "adapters")]),
            "addresses": ", ".join(parts(spec, "addresses")),
            "replicas": f"{ready(body)}: {body['wanted_reason'] or 'as declared'}" if not spec["addresses"] else None,
            "each": size if not spec["addresses"] else None,
            "scaling": scaling(spec.get("scaling")),
            "not known": body.get("unknown"),
            "revision": revision(body),
            "rollout": f"{rollout['type']}: {rollout['reason']}" if rollout and rollout.get("reason") else None,
            "routing": spec["routing"]["policy"],
            "traffic": traffic(signals),
            "queue": f"{spec['queue']}, {spec['tier']}, priority {spec['priority']}",
            "mounts": ", ".join(mount_text(one) for one in parts(spec, "mounts")),
            "labels": pairs(part(spec, "labels")),
            "by": body.get("owner"),
            "created": local_time(body["created_at"]),
        }
    )
    if body["replicas"]:
        invocation.output.line("")
        invocation.output.many(body["replicas"], REPLICAS, name="sandbox")


REPLICAS: Columns = {
    "REPLICA": lambda item: item["name"].rpartition("-")[2],
    "SANDBOX": lambda item: item["sandbox"],
    "STATE": lambda item: "draining" if item["draining"] else item["state"],
    "HEALTH": lambda item: item["health"],
    "REVISION": lambda item: item["revision"],
    "ROLE": lambda item: item["role"],
    "TRAFFIC": lambda item: f"{item['weight']:.0%}",
    "IN FLIGHT": lambda item: item["in_flight"],
    "AGE": lambda item: age(item["created_at"]),
    "REASON": lambda item: item.get("reason") or "",
}


def scaling(what: Any) -> str | None:
    if not what:
        return None
    targets = ", ".join(f"{one['value']:g} {target(one)}" for one in what["targets"])
    return f"{what['minimum']} to {what['maximum']}, each to have {targets}"


def target(one: Any) -> str:
    return f"{one['signal']}:{one['metric']}" if one.get("metric") else str(one["signal"])


def traffic(signals: Any) -> str | None:
    if not signals:
        return None
    text = f"{signals['requests_per_s']:.1f} requests/s, {signals['in_flight']} in flight, {signals['waiting']} waiting"
    return text + (f", first token {signals['ttft_p95_s']:.3f} s (p95)" if signals.get("ttft_p95_s") else "")


@command("endpoint")
@service_argument()
def endpoint(invocation: Invocation, service: str) -> None:
    """Where SERVICE is reached; it stays so until the service is deleted. On a terminal also how to try it."""
    body = invocation.ask(calls.get(service))
    url = str(body["url"])
    if invocation.output.json:
        invocation.output.emit({"url": url, "models": [body["name"], *parts(body["spec"], "models")]})
        return
    invocation.output.line(url)
    if invocation.output.quiet:
        return
    key = "" if body["spec"]["public"] else ' -H "Authorization: Bearer $TOKEN"'
    if body["spec"]["engine"] == "command" and not body["spec"]["models"]:
        invocation.output.note(f"try it:  curl{key} {url}")
    else:
        data = f'{{"model": "{body["name"]}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
        invocation.output.note(
            f"try it:  curl{key} -H 'Content-Type: application/json' -d '{data}' {url}v1/chat/completions"
        )
    if key:
        invocation.output.note(f"TOKEN:   skerry service token create --service {body['name']}")


@command("logs")
@click.option("--replica", type=int, metavar="N", help="Only this one, by its number in `skerry service info`.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is printed from now on.")
@click.option("--tail", "-n", type=int, metavar="N", help="Only the last N lines of each.")
@service_argument()
def logs(invocation: Invocation, service: str, replica: int | None, follow: bool, tail: int | None) -> None:
    """What the replicas of SERVICE print; of several each line under the number of its replica."""
    from skerry.cli.logs import Source, together
    from skerry.cli.watching import print_log
    from skerry.client.calls import sandboxes

    body = invocation.ask(calls.get(service))
    there = {int(each["name"].rpartition("-")[2]): each["sandbox"] for each in body["replicas"]}
    chosen = {number: box for number, box in there.items() if replica in (None, number)}
    if not chosen:
        which = f"replica {replica}" if replica is not None else "replica"
        raise NotFound(f"service {body['name']} has no {which} now")
    sources = [
        Source(str(number), sandboxes.logs(box, follow=follow, tail=tail))
        for number, box in sorted(chosen.items())[:LOGS_MAX]
    ]
    if len(sources) == 1:
        print_log(invocation, sources[0].call)
    else:
        together(invocation, sources, "replica")


@command("usage")
@service_argument()
def usage(invocation: Invocation, service: str) -> None:
    """What was used of SERVICE in the last 30 days, by hour, model and client."""
    items = invocation.ask(calls.usage(service))["items"]
    columns: Columns = {
        "HOUR": lambda item: local_time(item["hour"]),
        "MODEL": lambda item: item["model"],
        "CLIENT": lambda item: item["client"] or "-",
        "REQUESTS": lambda item: item["requests"],
        "ERRORS": lambda item: item["errors"],
        "PROMPT": lambda item: item["prompt_tokens"],
        "CACHED": lambda item: item["cached_tokens"],
        "COMPLETION": lambda item: item["completion_tokens"],
    }
    invocation.output.many(items, columns, name="hour")
