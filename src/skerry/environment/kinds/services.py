"""Services of a file: made once, and brought to what is declared by an update, which the server rolls out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from skerry.client import flows
from skerry.client.call import Pause
from skerry.client.calls import services as calls
from skerry.client.transport import Transport
from skerry.environment.kinds.asking import gone, labelled, settled
from skerry.environment.kinds.contract import Action, Json, Reason, Scene, Step, differing, drifted
from skerry.environment.kinds.models import source_of
from skerry.environment.kinds.queues import queue_name
from skerry.environment.kinds.sandboxes import WORKSPACE, filled, folder_mounts, mount_body, secret_name, tagged
from skerry.errors import DeadlineExceeded
from skerry.model.labels import own_labels

OF_THE_FILE = frozenset({"autostart", "depends_on", "folder"})
"""Fields of a declared service that the API does not know."""
HOW_MANY = frozenset({"replicas", "roles", "scaling"})
EMPTY_S_MAX = 600.0
LOOK_EVERY_S = 0.2
SERVES = ("healthy", "degraded")
"""Statuses with which it answers."""


class Services:
    section, noun = "services", "service"
    deletes_left_over = True
    deleted_last = False

    def read(self, transport: Transport, environment: str) -> dict[str, Json]:
        return labelled(transport, calls.list_page, environment)

    def body(self, scene: Scene, key: str) -> Json:
        service = scene.section(self.section)[key]
        body: Json = {field: value for field, value in service.items() if field not in OF_THE_FILE}
        body["name"] = scene.name_of(self.section, key)
        body["image"] = scene.image_name(service["image"]) if service["image"] else None
        body["model"] = _source(scene, service["model"])
        body["adapters"] = {name: _source(scene, source) for name, source in service["adapters"].items()}
        body["networks"] = [{**join, "name": scene.name_of("networks", join["name"])} for join in service["networks"]]
        body["mounts"] = [*(mount_body(scene, mount) for mount in service["mounts"]), *folder_mounts(scene, service)]
        body["workdir"] = service["workdir"] or (WORKSPACE if service["folder"] else None)
        body["secrets"] = [{**use, "name": secret_name(scene, use["name"])} for use in service["secrets"]]
        body["queue"] = queue_name(scene, service["queue"])
        return {**body, "labels": {**service["labels"], **scene.labels(key, body)}}

    def compare(self, scene: Scene, key: str, body: Json, actual: Json) -> Step:
        spec = actual["spec"]
        drift = drifted(spec["labels"], {**body, "labels": own_labels(body["labels"])})
        starts = is_stopped(spec) and not is_stopped(body)
        reasons: list[Reason] = [
            differing(wanted, had, drift=drift and not starts, field=field)
            for field, (wanted, had) in _comparable(body, spec).items()
            if wanted != had and not (starts and field in HOW_MANY)
        ]
        otherwise = Action.START if starts else Action.KEEP
        action = Action.UPDATE if reasons else otherwise
        return Step(self.section, key, body["name"], action, tuple(reasons), body, actual)

    def make(self, transport: Transport, step: Step) -> Json:
        return settled(transport, lambda wait_s: calls.create(step.body, wait_s), calls.get)

    def replace(self, transport: Transport, step: Step) -> Json:
        self.delete(transport, step.name)
        return self.make(transport, step)

    def change(self, transport: Transport, step: Step) -> Json:
        assert step.actual is not None
        ref = step.actual["id"]
        body = {field: value for field, value in step.body.items() if field != "name"}
        return settled(transport, lambda wait_s: calls.update(ref, body, wait_s), calls.get)

    def delete(self, transport: Transport, name: str) -> None:
        gone(transport, lambda wait_s: calls.delete(name, wait_s=wait_s))


def is_stopped(spec: Json) -> bool:
    """Declared to have none, and not scaled by itself."""
    counts = spec["roles"].values() if spec["roles"] else [spec["replicas"]]
    return not spec["addresses"] and spec["scaling"] is None and not sum(counts)


def stopped(transport: Transport, body: Json) -> Json:
    """Without replicas, once those it has have ended what they have begun. How many it is to have the file knows."""
    spec = body["spec"]
    if spec["addresses"]:  # servers that are not ours to stop
        return body
    if not is_stopped(spec):
        none = {"scaling": None, "replicas": 0, "roles": dict.fromkeys(spec["roles"], 0)}
        transport.json(calls.update(body["id"], none))
    return transport.run(_emptied(body["id"], time.monotonic() + EMPTY_S_MAX + spec["drain"]))


def wait_until_it_serves(transport: Transport, body: Json, timeout_s: float) -> None:
    """With fewer replicas than wanted too. Raises DeadlineExceeded."""
    transport.run(_serving(body["id"], time.monotonic() + timeout_s))


def _serving(ref: str, deadline_s: float) -> flows.Flow[None]:
    while True:
        body = yield from flows.patiently(calls.get(ref))
        if body["status"] in SERVES:
            return
        if time.monotonic() > deadline_s:
            raise DeadlineExceeded(f"{body['name']} is {body['status']}: {body['reason']}")
        yield Pause(LOOK_EVERY_S)


def _emptied(ref: str, deadline_s: float) -> flows.Flow[Json]:
    while True:
        body = yield from flows.patiently(calls.get(ref))
        if not body["replicas"]:
            return body
        if time.monotonic() > deadline_s:
            raise DeadlineExceeded(f"{body['name']} still has {len(body['replicas'])} replicas that have not ended")
        yield Pause(LOOK_EVERY_S)


def _source(scene: Scene, source: str | None) -> str | None:
    return None if source is None else source_of(scene, source)


def _comparable(body: Json, spec: Json) -> Mapping[str, tuple[Any, Any]]:
    """Field -> as wanted, as it is. A field that the server does not know is as it was."""
    found: dict[str, tuple[Any, Any]] = {field: (body[field], spec[field]) for field in body if field in spec}
    found["image"] = (tagged(body["image"]) if body["image"] else None, spec["image"])
    found["labels"] = (own_labels(body["labels"]), own_labels(spec["labels"]))
    found["mounts"] = ([filled(each) for each in body["mounts"]], [filled(each) for each in spec["mounts"]])
    return found
