"""Sandboxes of a file: a machine as the API takes it, and what of it can change how."""

from __future__ import annotations

import os
from typing import Any

from skerry.client import flows
from skerry.client.calls import sandboxes as calls
from skerry.client.transport import Transport
from skerry.environment.kinds.asking import gone, labelled, settled
from skerry.environment.kinds.contract import Action, Json, Reason, Scene, Step, differing, drifted
from skerry.environment.kinds.models import model_name
from skerry.environment.kinds.queues import queue_name
from skerry.model.changes import CHANGES, Change
from skerry.model.labels import own_labels

OF_THE_FILE = frozenset({"primary", "autostart", "depends_on", "user_data", "folders", "provision"})
"""Fields of a machine that the API does not know."""
GRACE_S = 10.0
WORKSPACE = "/workspace"
"""Where the folder of a job or a service is."""


class Sandboxes:
    section, noun = "sandboxes", "sandbox"
    deletes_left_over, deleted_last = True, False

    def read(self, transport: Transport, environment: str) -> dict[str, Json]:
        found = labelled(transport, calls.list_page, environment)
        # Those of a job have its labels, and are the job's own.
        return {name: item for name, item in found.items() if not item.get("job")}

    def body(self, scene: Scene, key: str) -> Json:
        machine = scene.section(self.section)[key]
        body: Json = {field: value for field, value in machine.items() if field not in OF_THE_FILE}
        body["image"] = scene.image_name(machine["image"])
        body["name"] = scene.name_of(self.section, key)
        body["hostname"] = machine["hostname"] or key
        body["networks"] = [{**join, "name": scene.name_of("networks", join["name"])} for join in machine["networks"]]
        body["mounts"] = [*(mount_body(scene, mount) for mount in machine["mounts"]), *_binds(scene, machine)]
        body["queue"] = queue_name(scene, machine["queue"])
        body["secrets"] = [{**use, "name": secret_name(scene, use["name"])} for use in machine["secrets"]]
        return {**body, "labels": {**machine["labels"], **scene.labels(key, body)}}

    def compare(self, scene: Scene, key: str, body: Json, actual: Json) -> Step:
        spec = actual["spec"]
        drift = drifted(spec["labels"], {**body, "labels": own_labels(body["labels"])})
        reasons: list[Reason] = []
        worst = Action.KEEP
        for field, wanted in body.items():
            reason = _difference(field, wanted, spec.get(field), drift)
            if reason is None:
                continue
            reasons.append(reason)
            action = _how(field, wanted, spec.get(field))
            worst = max(worst, action, key=_SEVERITY.index)
        if worst is Action.KEEP and (why := _at_rest(actual)):
            worst, reasons = Action.START, [Reason(why)]
        return Step(self.section, key, body["name"], worst, tuple(reasons), body, actual)

    def make(self, transport: Transport, step: Step) -> Json:
        return settled(transport, lambda wait_s: calls.create(step.body, wait_s), calls.get)

    def replace(self, transport: Transport, step: Step) -> Json:
        self.delete(transport, step.name)
        return self.make(transport, step)

    def change(self, transport: Transport, step: Step) -> Json:
        assert step.actual is not None
        sandbox_id = step.actual["id"]
        if change := _update(step):
            body = transport.run(flows.update(sandbox_id, change, reload_too=True))
            done_already = step.action is Action.UPDATE and is_complete(step.actual)
            if done_already or body["state"] not in ("stopped", "failed"):
                return body
        return self.start(transport, sandbox_id)

    def start(self, transport: Transport, ref: str) -> Json:
        return settled(transport, lambda wait_s: calls.start(ref, wait_s), calls.get)

    def stop(self, transport: Transport, ref: str) -> Json:
        return settled(transport, lambda wait_s: calls.stop(ref, GRACE_S, wait_s), calls.get)

    def delete(self, transport: Transport, name: str) -> None:
        gone(transport, lambda wait_s: calls.delete(name, False, wait_s))


_SEVERITY = [Action.KEEP, Action.START, Action.UPDATE, Action.RESTART, Action.REPLACE]


def mount_body(scene: Scene, mount: Json) -> Json:
    if mount.get("volume"):
        return {**mount, "volume": scene.name_of("volumes", mount["volume"])}
    if mount.get("model"):
        return {**mount, "model": model_name(scene, mount["model"])}
    return {**mount, "source": os.path.normpath(scene.folder / os.path.expanduser(mount["source"]))}


def folder_mounts(scene: Scene, declared: Json) -> list[Json]:
    """Of the folder that a job or a service shows its sandboxes."""
    if not declared["folder"]:
        return []
    source = os.path.realpath(scene.folder / declared["folder"])
    return [{"source": source, "target": WORKSPACE, "readonly": True, "owner": True}]


def _binds(scene: Scene, machine: Json) -> list[Json]:
    """Folders that are shown as they are, the folder's owner and the sandbox's user being the same person."""
    return [
        {
            "source": os.path.realpath(scene.folder / folder["source"]),
            "target": folder["target"],
            "readonly": folder["readonly"],
            "owner": True,
        }
        for folder in machine["folders"]
        if folder["sync"] == "bind"
    ]


def secret_name(scene: Scene, key: str) -> str:
    return (scene.section("secrets").get(key) or {}).get("name") or key


def _how(field: str, wanted: Any, actual: Any) -> Action:
    if field == "network" and wanted["enabled"] == actual["enabled"]:
        return Action.UPDATE  # the policy, which its machine takes at any time
    return _ACTIONS[CHANGES[field]]


_ACTIONS = {
    Change.RECORD: Action.UPDATE,
    Change.LIVE: Action.UPDATE,
    Change.RESTART: Action.RESTART,
    Change.REPLACE: Action.REPLACE,
}


def _difference(field: str, wanted: Any, actual: Any, drift: bool) -> Reason | None:
    if field == "image":
        wanted = tagged(wanted)
    elif field == "labels":
        wanted, actual = own_labels(wanted), own_labels(actual)
    elif field == "networks":
        wanted, actual = _granted(wanted, actual)
    elif field == "ports":
        wanted, actual = _published(wanted, actual)
    elif field == "mounts":
        wanted, actual = ([filled(mount) for mount in mounts] for mounts in (wanted, actual))
    return None if wanted == actual else differing(wanted, actual, drift=drift, field=field)


def tagged(image: str) -> str:
    """As the server has its name."""
    return image if ":" in image.rsplit("/", 1)[-1] else f"{image}:latest"


def _granted(wanted: list[Json], actual: list[Json]) -> tuple[list[Json], list[Json]]:
    """An address that nobody asked for is as it was chosen."""
    chosen = {join["name"]: join.get("address") for join in actual}
    return [{**join, "address": join["address"] or chosen.get(join["name"])} for join in wanted], actual


def _published(wanted: list[Json], actual: list[Json]) -> tuple[list[Json], list[Json]]:
    """A port of the machine that nobody insisted on is as it was chosen; ports are told apart by what they lead to."""
    left = list(actual)
    made: list[Json] = []
    for port in wanted:
        alike = (
            one
            for one in left
            if all(one[field] == port[field] for field in ("ip", "guest", "protocol", "auto_correct"))
            and (port["host"] in (None, 0, one["host"], one["wanted"]))
        )
        found = next(alike, None)
        if found is not None:
            left.remove(found)
        made.append(found or port)
    return made, [*(port for port in made if port in actual), *left]


def filled(mount: Json) -> Json:
    """What of a mount is said: the server says the rest too, and may say more than it did."""
    return {field: value for field, value in mount.items() if value not in (None, False)}


def _update(step: Step) -> Json:
    """What of the body differs, as an update takes it."""
    assert step.actual is not None
    spec = step.actual["spec"]
    change: Json = {}
    for field, wanted in step.body.items():
        if field == "labels":
            if wanted != spec["labels"]:
                change["labels"] = wanted
        elif _difference(field, wanted, spec.get(field), False) is None:
            continue
        else:
            change[field] = wanted
    return change


def _at_rest(actual: Json) -> str | None:
    """Why one that is there has to be started; None where it runs, sleeps, is on its way, or has done its work."""
    if actual["state"] == "failed":
        return f"it failed: {actual.get('reason')}"
    if actual["state"] not in ("stopped", "stopping"):
        return None
    end: Json = actual.get("exit") or {}
    if is_complete(actual):
        return None
    return f"it is stopped ({end.get('reason', 'stopped')})"


def is_complete(actual: Json) -> bool:
    """Its main process came to a good end by itself."""
    end: Json = actual.get("exit") or {}
    return actual["state"] == "stopped" and end.get("reason") == "exited" and end.get("code") == 0
