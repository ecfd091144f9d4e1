"""Queues of a file: rules that change at once, of a queue that is deleted only when nothing is in it any more."""

from __future__ import annotations

from typing import Any

from skerry.client.calls import queues as calls
from skerry.client.transport import Transport
from skerry.environment.kinds.asking import gone_at_once, labelled
from skerry.environment.kinds.contract import Action, Json, Reason, Scene, Step, differing, drifted
from skerry.model.labels import own_labels


class Queues:
    section, noun = "queues", "queue"
    deletes_left_over, deleted_last = True, True

    def read(self, transport: Transport, environment: str) -> dict[str, Json]:
        return labelled(transport, calls.list_page, environment)

    def body(self, scene: Scene, key: str) -> Json:
        declared = scene.section(self.section)[key]
        body: Json = {field: value for field, value in declared.items() if field != "external"}
        body["name"] = scene.name_of(self.section, key)
        return {**body, "labels": {**declared["labels"], **scene.labels(key, body)}}

    def compare(self, scene: Scene, key: str, body: Json, actual: Json) -> Step:
        spec = actual["spec"]
        drift = drifted(spec["labels"], {**body, "labels": own_labels(body["labels"])})
        reasons = tuple(
            differing(wanted, had, drift=drift, field=field)
            for field, (wanted, had) in _compared(body, spec).items()
            if wanted != had
        )
        return Step(self.section, key, body["name"], Action.UPDATE if reasons else Action.KEEP, reasons, body, actual)

    def make(self, transport: Transport, step: Step) -> Json:
        return transport.json(calls.create(step.name, _rules(step.body)))

    def replace(self, transport: Transport, step: Step) -> Json:
        raise NotImplementedError("everything of a queue changes in place")

    def change(self, transport: Transport, step: Step) -> Json:
        return transport.json(calls.update(step.name, _rules(step.body)))

    def delete(self, transport: Transport, name: str) -> None:
        """Refused by the server while there is work in it, whosever it is."""
        gone_at_once(transport, calls.delete(name))


def queue_name(scene: Scene, key: str) -> str:
    """On the server, of what a sandbox or a job names: a queue of the file by its key, else one of the cloud."""
    return scene.name_of("queues", key) if key in scene.section("queues") else key


def work_in(actual: Json) -> list[Reason]:
    """What would keep it from being deleted at this moment."""
    waiting, running = actual["pending"], actual["running"]
    say = f"{running} run and {waiting} wait in it now; it is deleted if they have left it by then"
    return [Reason(say)] if waiting or running else []


def _rules(body: Json) -> Json:
    return {field: value for field, value in body.items() if field != "name"}


def _compared(body: Json, spec: Json) -> dict[str, tuple[Any, Any]]:
    """Field -> as wanted, as it is."""
    found: dict[str, tuple[Any, Any]] = {field: (value, spec.get(field)) for field, value in _rules(body).items()}
    found["labels"] = (own_labels(body["labels"]), own_labels(spec["labels"]))
    return found
