"""Volumes of a file. They are never deleted but where that was asked for: what is in them outlives sandboxes."""

from __future__ import annotations

from skerry.client.calls import volumes as calls
from skerry.client.transport import Transport
from skerry.environment.kinds.asking import gone, labelled, settled
from skerry.environment.kinds.contract import Action, Json, Reason, Scene, Step, differing, drifted
from skerry.model.labels import own_labels


class Volumes:
    section, noun = "volumes", "volume"
    deletes_left_over, deleted_last = False, False

    def read(self, transport: Transport, environment: str) -> dict[str, Json]:
        return labelled(transport, calls.list_page, environment)

    def body(self, scene: Scene, key: str) -> Json:
        declared = scene.section(self.section)[key]
        body: Json = {
            "name": scene.name_of(self.section, key),
            "size": declared["size"],
            "labels": declared["labels"],
        }
        return {**body, "labels": {**declared["labels"], **scene.labels(key, body)}}

    def compare(self, scene: Scene, key: str, body: Json, actual: Json) -> Step:
        drift = drifted(actual["labels"], {**body, "labels": own_labels(body["labels"])})
        reasons: list[Reason] = []
        if body["size"] != actual["size_bytes"]:
            reasons.append(differing(body["size"], actual["size_bytes"], drift=drift, field="size"))
        if own_labels(body["labels"]) != own_labels(actual["labels"]):
            reasons.append(Reason("labels differ", drift))
        action = Action.UPDATE if reasons else Action.KEEP
        return Step(self.section, key, body["name"], action, tuple(reasons), body, actual)

    def make(self, transport: Transport, step: Step) -> Json:
        return settled(transport, lambda wait_s: calls.create(**step.body, wait_s=wait_s), calls.get)

    def replace(self, transport: Transport, step: Step) -> Json:
        self.delete(transport, step.name)
        return self.make(transport, step)

    def change(self, transport: Transport, step: Step) -> Json:
        assert step.actual is not None
        ref, size, labels = step.actual["id"], step.body["size"], step.body["labels"]
        return settled(transport, lambda wait_s: calls.update(ref, size=size, labels=labels, wait_s=wait_s), calls.get)

    def delete(self, transport: Transport, name: str) -> None:
        gone(transport, lambda wait_s: calls.delete(name, wait_s))
