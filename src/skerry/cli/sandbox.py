"""`skerry sandbox …`: make, see, start, stop, change and delete sandboxes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import (
    DURATION,
    command,
    image_argument,
    label_pairs,
    sandbox_argument,
    sandboxes_argument,
    yes_option,
)
from skerry.cli.output import Columns, age, human_duration, human_size, local_time, pairs, part, parts
from skerry.cli.port import published
from skerry.cli.spec_options import spec_from, spec_options
from skerry.cli.table import Entry
from skerry.cli.tail_command import TailCommand, tail_argument
from skerry.client import flows
from skerry.client.call import Call
from skerry.client.calls import ports as port_calls
from skerry.client.calls import sandboxes as calls
from skerry.client.calls import sleep as sleep_calls
from skerry.client.calls import urls as url_calls
from skerry.client.calls.networks import text_of
from skerry.client.calls.secrets import text_of as secret_text
from skerry.errors import SkerryError, Unavailable
from skerry.model.labels import LABEL_ENVIRONMENT, own_labels

WATCH_EVERY_S = 2.0
_IN = "Commands"

ENTRIES = {
    "create": Entry("skerry.cli.sandbox:create", "Make a sandbox and keep it.", _IN),
    "list": Entry("skerry.cli.sandbox:list_sandboxes", "List sandboxes.", _IN),
    "inspect": Entry("skerry.cli.sandbox:inspect", "All that is known of a sandbox.", _IN),
    "start": Entry("skerry.cli.sandbox:start", "Start a stopped sandbox.", _IN),
    "stop": Entry("skerry.cli.sandbox:stop", "Stop a sandbox; its disk stays.", _IN),
    "sleep": Entry("skerry.cli.sleep:sleep", "Let it rest until it is wanted.", _IN),
    "wake": Entry("skerry.cli.sleep:wake", "Wake it.", _IN),
    "url": Entry("skerry.cli.url:url", "Where its ports are reached from outside.", _IN),
    "delete": Entry("skerry.cli.sandbox:delete", "Delete sandboxes.", _IN),
    "wait": Entry("skerry.cli.wait:wait", "Wait until it runs, is healthy or has stopped.", _IN),
    "reload": Entry("skerry.cli.update:reload", "Stop it and start it again; its disk stays.", _IN),
    "update": Entry("skerry.cli.update:update", "Change what it may have and how it runs.", _IN),
    "logs": Entry("skerry.cli.logs:logs", "What its main process printed.", _IN),
    "stats": Entry("skerry.cli.watching:stats", "What it uses.", _IN),
    "events": Entry("skerry.cli.event:events", "What happened to it.", _IN),
    "restore": Entry("skerry.cli.moves:restore", "Put it back to a checkpoint.", _IN),
    "fork": Entry("skerry.cli.moves:fork", "Make sandboxes that begin as a copy of it.", _IN),
    "commit": Entry("skerry.cli.moves:commit", "Make an image of its disk.", _IN),
    "service": Entry("skerry.cli.guest_service:service", "Commands that are kept running in it.", _IN),
    "exec": Entry("skerry.cli.execute:execute", "Run a command in it."),
    "shell": Entry("skerry.cli.execute:shell", "Open a shell in it."),
    "run": Entry("skerry.cli.run:run", "Make one, run a command in it, delete it."),
    "rm": Entry("skerry.cli.sandbox:delete", "Delete sandboxes."),
    "ls": Entry("skerry.cli.sandbox:list_sandboxes", "List sandboxes."),
}


@click.command("sandbox", cls=LazyGroup, entries=ENTRIES)
def sandbox() -> None:
    """All about sandboxes."""


@command("create", cls=TailCommand)
@spec_options
@click.option("--wait/--no-wait", default=True, help="Return when it runs [wait].")
@click.option("--timeout", type=DURATION, default=flows.TIMEOUT_S, metavar="TIME", help="How long to wait [10m].")
@image_argument
@tail_argument(required=False)
def create(
    invocation: Invocation, image: str, command: tuple[str, ...], wait: bool, timeout: float, **options: Any
) -> None:
    """Make a sandbox from IMAGE and keep it. COMMAND is its main process; without one it idles, for exec.

    \b
      skerry create debian:12 --name web --memory 512MiB
      skerry create team/app:1 --name app --env-file .env -- /srv/app --port 80
    """
    body = spec_from(image, options)
    if command:
        body["command"] = list(command)
    if wait:
        made = invocation.run(
            flows.settle(lambda wait_s: calls.create(body, wait_s), lambda had: calls.get(had["id"]), timeout_s=timeout)
        )
    else:
        made = invocation.ask(calls.create(body))
    for port in parts(made["spec"], "ports"):
        if port.get("wanted"):
            invocation.output.note(f"published {port_calls.told(port)}")
    invocation.output.one(made, f"{made['name']} ({made['id']}) is {made['state']}")


def _columns(items: list[Any]) -> Columns:
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "ID": lambda item: item["id"],
        "IMAGE": lambda item: item["spec"]["image"],
        "STATE": lambda item: item["state"],
        "CPU": lambda item: f"{item['spec'].get('cpu', 1):g}",
        "MEMORY": lambda item: human_size(item["spec"].get("memory")),
        "ADDRESS": lambda item: item.get("address") or "-",
        "AGE": lambda item: age(item.get("created_at")),
    }
    if any(item.get("parent") for item in items):
        named = {item["id"]: item["name"] for item in items}
        columns["FORKED FROM"] = lambda item: named.get(item.get("parent"), item.get("parent") or "-")
    if any(item.get("services") for item in items):
        columns["SERVICES"] = lambda item: " ".join(f"{one['name']}:{one['state']}" for one in parts(item, "services"))
    if any(item.get("health") for item in items):
        columns["HEALTH"] = lambda item: part(item, "health").get("state", "-")
    if any(item.get("restarts") for item in items):
        columns["RESTARTS"] = lambda item: str(item.get("restarts", 0))
    if any(part(item["spec"], "labels").get(LABEL_ENVIRONMENT) for item in items):
        columns["ENVIRONMENT"] = lambda item: part(item["spec"], "labels").get(LABEL_ENVIRONMENT, "-")
    if any(own_labels(part(item["spec"], "labels")) for item in items):
        columns["LABELS"] = lambda item: pairs(own_labels(part(item["spec"], "labels")))
    return columns


@command("list")
@click.option("--state", help="Only those in this state, such as running.")
@click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Only those with this label. Repeat.")
@click.option("--name", metavar="PREFIX", help="Only those whose name begins so.")
@click.option("--image", metavar="NAME", help="Only those of this image.")
@click.option("--parent", metavar="BOX", help="Only forks of this sandbox.")
@click.option("--watch", is_flag=True, help="Go on, showing changes.")
@click.option("--all", "-a", is_flag=True, hidden=True)
def list_sandboxes(invocation: Invocation, label: tuple[str, ...], watch: bool, all: bool, **filters: Any) -> None:
    """List sandboxes, those that are stopped too."""
    labels = label_pairs(label)

    def page(token: str | None) -> Call[Any]:
        return calls.list_page(labels=labels, limit=flows.PAGE_ITEMS, page_token=token, **filters)

    output = invocation.output
    shown: Any = None
    while True:
        items = invocation.run(flows.gather(page))
        if items != shown or (watch and output.is_terminal):
            if watch and output.is_terminal:
                output.stream.write("\x1b[H\x1b[2J")
            if watch and output.json:
                output.emit_line(items)
            else:
                output.many(items, _columns(items))
            output.stream.flush()
        shown = items
        if not watch:
            return
        time.sleep(WATCH_EVERY_S)


@command("inspect")
@sandbox_argument
def inspect(invocation: Invocation, sandbox: str) -> None:
    """All that is known of a sandbox."""
    body = invocation.ask(calls.get(sandbox))
    activity = _activity(invocation, body)
    if invocation.output.json:
        invocation.output.emit({**body, "activity": activity} if activity else body)
        return
    spec = body["spec"]
    end = part(body, "exit")
    network = part(spec, "network")
    policy = part(spec, "checkpoints")
    invocation.output.facts(
        {
            "name": body["name"],
            "id": body["id"],
            "state": body["state"],
            "reason": body.get("reason"),
            **_wakefulness(activity),
            "exit": " ".join(str(part) for part in (end.get("reason"), end.get("code")) if part is not None),
            "image": spec["image"],
            "image digest": body.get("image_digest"),
            "command": " ".join(parts(spec, "command")),
            "health": " ".join(str(part(body, "health").get(word) or "") for word in ("state", "reason")).strip(),
            "services": _services(body),
            "hostname": spec.get("hostname"),
            "address": body.get("address"),
            "url": _address(invocation, body),
            "network": "off" if network.get("enabled") is False else _reach(network),
            "bandwidth": _bandwidth(part(spec, "bandwidth")),
            "ports": published(spec),
            "networks": ", ".join(text_of(each) for each in parts(spec, "networks")),
            "cpu": spec.get("cpu"),
            "memory": human_size(spec.get("memory")),
            "disk": human_size(spec.get("disk")),
            "pids": spec.get("pids"),
            "user": spec.get("user"),
            "workdir": spec.get("workdir"),
            "env": pairs(part(spec, "env")),
            "secrets": ", ".join(secret_text(use) for use in parts(spec, "secrets")),
            "labels": pairs(part(spec, "labels")),
            "mounts": ", ".join(calls.mount_text(mount) for mount in parts(spec, "mounts")),
            "protected": "yes" if spec.get("protected") else None,
            "self-checkpoint": "yes" if spec.get("self_checkpoint") else None,
            "self-lease": "yes" if spec.get("self_lease") else None,
            "checkpoints": _rhythm(policy),
            "idle": _after(spec.get("idle")),
            "cold after": _after(spec.get("cold_after")),
            "forked from": body.get("parent"),
            "began as": body.get("source_checkpoint"),
            **_demand(body, spec),
            "node": body.get("node"),
            "restart": spec.get("restart") if spec.get("restart") != "never" else None,
            "restarts": body.get("restarts") or None,
            "operation": body.get("operation"),
            "created": local_time(body.get("created_at")),
            "started": local_time(body.get("started_at")),
        }
    )


def _activity(invocation: Invocation, body: Any) -> Any:
    """What its machine says of its being awake; None where there is nothing to say, or nobody to ask."""
    if body["state"] not in ("running", "asleep"):
        return None
    try:
        return invocation.ask(sleep_calls.activity(body["id"]))
    except Unavailable:
        return None


def _address(invocation: Invocation, body: Any) -> str:
    """Of its ports, from outside."""
    told = invocation.ask(url_calls.get(body["id"]))
    return f"{told['url']} ({'public' if told['public'] else 'private'})"


def _wakefulness(activity: Any) -> dict[str, Any]:
    if not activity:
        return {}
    asleep = activity["asleep"]
    if asleep:
        return {
            "asleep": f"{asleep['tier']} since {local_time(asleep['since'])}: {asleep['why']}",
            "goes cold": local_time(activity["cold_at"]),
        }
    last = activity["last_active_by"]
    return {
        "kept awake by": ", ".join(activity["kept_awake_by"]),
        "last active": f"{local_time(activity['last_active_at'])} ({last})" if last else None,
        "falls asleep": local_time(activity["sleeps_at"]),
        "woken": f"{local_time(activity['woken_at'])} by {activity['woken_by']}" if activity["woken_by"] else None,
    }


def _bandwidth(given: dict[str, Any]) -> str | None:
    rates = {way: given.get(way) for way in ("up", "down")}
    return ", ".join(f"{rate / 1e6:g} Mbit/s {way}" for way, rate in rates.items() if rate) or None


def _reach(network: dict[str, Any]) -> str:
    rules = len(parts(network, "rules"))
    if network.get("default") == "deny":
        return f"nothing but what {rules} rules allow (skerry policy show)" if rules else "nothing outside"
    return f"on, with {rules} rules (skerry policy show)" if rules else "on"


def _services(body: Any) -> str:
    """`web healthy on 8080, db backing-off (it ended with code 1)`."""
    known = {status["name"]: status for status in parts(body, "services")}
    told: list[str] = []
    for name, spec in part(body["spec"], "services").items():
        status = known.get(name)
        words = [name, *([status["state"]] if status else []), *([f"on {spec['port']}"] if spec.get("port") else [])]
        told.append(" ".join(words) + (f" ({status['reason']})" if status and status.get("reason") else ""))
    return ", ".join(told)


def _after(given: Any) -> str | None:
    return human_duration(given) if isinstance(given, int | float) else given


def _demand(body: Any, spec: Any) -> dict[str, Any]:
    """What it asks of a machine besides size, where it waits for one, and what of it it has."""
    share = f"{spec['gpu']:g}" if spec.get("gpu") else ""
    kinds = f" of {' or '.join(parts(spec, 'gpu_kind'))}" if spec.get("gpu_kind") else ""
    memory = f" with {human_size(spec['gpu_memory'])}" if spec.get("gpu_memory") else ""
    rules = {name: value for name, value in part(spec, "placement").items() if value}
    return {
        "gpu": share + kinds + memory,
        "devices": ", ".join(
            f"{index}" if milli >= 1000 else f"{index} ({milli / 10:g}%)" for index, milli, _ in parts(body, "devices")
        ),
        "extras": pairs(part(spec, "extras")),
        "queue": spec.get("queue"),
        "tier": f"{spec.get('tier')}, priority {spec.get('priority')}" if spec.get("tier") else None,
        "placement": json.dumps(rules) if rules else None,
        "owner": body.get("owner"),
        "evicted": body.get("evicted"),
    }


def _rhythm(policy: dict[str, Any]) -> str | None:
    """What of automatic checkpoints is wanted, in words."""
    if not policy.get("every_s"):
        return None
    words = f"every {human_duration(policy['every_s'])}, keep {policy.get('keep')}"
    return f"{words}, at most {human_duration(policy['max_age_s'])} old" if policy.get("max_age_s") else words


def act_on_each(invocation: Invocation, names: tuple[str, ...], act: Callable[[str], Any], done: str) -> None:
    """The same for several sandboxes: one that fails does not keep the rest from their turn."""
    failure: SkerryError | None = None
    bodies: list[Any] = []
    for name in names:
        try:
            body = act(name) or {"id": name}
        except SkerryError as error:
            if len(names) == 1:
                raise
            invocation.output.note(f"error: {name}: {error.say}")
            failure = failure or error
            continue
        bodies.append(body)
        if not invocation.output.json:
            invocation.output.line(str(body["id"]) if invocation.output.quiet else f"{body.get('name', name)} {done}")
    if invocation.output.json:
        invocation.output.emit(bodies[0] if len(names) == 1 else bodies)
    if failure is not None:
        raise type(failure)(
            f"{len(names) - len(bodies)} of {len(names)} were not {done}: the first because {failure.say}"
        )


@command("start")
@sandboxes_argument
def start(invocation: Invocation, sandboxes: tuple[str, ...]) -> None:
    """Start stopped sandboxes; their disks are as they were left."""

    def act(name: str) -> Any:
        return invocation.run(flows.settle(lambda wait_s: calls.start(name, wait_s), lambda had: calls.get(had["id"])))

    act_on_each(invocation, sandboxes, act, "started")


@command("stop")
@click.option("--grace", "--time", "-t", "grace", type=DURATION, metavar="TIME", help="Between TERM and KILL [10s].")
@sandboxes_argument
def stop(invocation: Invocation, sandboxes: tuple[str, ...], grace: float | None) -> None:
    """Stop sandboxes: their processes end, their disks stay."""

    def act(name: str) -> Any:
        return invocation.run(
            flows.settle(lambda wait_s: calls.stop(name, grace, wait_s), lambda had: calls.get(had["id"]))
        )

    act_on_each(invocation, sandboxes, act, "stopped")


@command("delete")
@click.option("--force", "-f", is_flag=True, help="Do not ask, and delete protected ones too.")
@yes_option
@sandboxes_argument
def delete(invocation: Invocation, sandboxes: tuple[str, ...], force: bool, yes: bool) -> None:
    """Delete sandboxes with their disks and checkpoints, in whatever state they are."""
    what = sandboxes[0] if len(sandboxes) == 1 else f"{len(sandboxes)} sandboxes"
    invocation.confirm(f"Delete {what} with all checkpoints?", yes or force)

    def act(name: str) -> Any:
        return invocation.run(flows.settle(lambda wait_s: calls.delete(name, force, wait_s)))

    act_on_each(invocation, sandboxes, act, "deleted")
