"""Models of a file: fetched where they are not here, and never deleted but where that was asked for, as volumes are."""

from __future__ import annotations

from typing import Any

from skerry.client.calls import models as calls
from skerry.client.transport import Transport
from skerry.environment.kinds.asking import gone, labelled, settled
from skerry.environment.kinds.contract import Action, Json, Reason, Scene, Step, differing, drifted
from skerry.errors import Failed
from skerry.model.labels import own_labels

SCHEME = "model://"
FETCH_S_MAX = 86_400.0
"""For terabytes over a slow line; an `up` that is ended goes on where it was when it is called again."""
SAID = ("template", "system", "parameters", "license")
"""Of its card; the record has the rest itself. Which secret lets us in is no part of what it is."""


class Models:
    section, noun = "models", "model"
    deletes_left_over, deleted_last = False, False

    def read(self, transport: Transport, environment: str) -> dict[str, Json]:
        return labelled(transport, calls.list_page, environment)

    def body(self, scene: Scene, key: str) -> Json:
        declared = scene.section(self.section)[key]
        body: Json = {**declared, "name": scene.name_of(self.section, key)}
        body["source"] = source_of(scene, declared["source"])
        body["adapters"] = [model_name(scene, each) for each in declared["adapters"]]
        return {**body, "labels": {**declared["labels"], **scene.labels(key, body)}}

    def compare(self, scene: Scene, key: str, body: Json, actual: Json) -> Step:
        """What it is made of cannot change in place: a model is mounted by those that are to find it as it was. What is
        said of it can, and nothing is fetched for that."""
        drift = drifted(actual["labels"], {**body, "labels": own_labels(body["labels"])})
        reasons = {
            field: differing(wanted, had, drift=drift, field=field)
            for field, (wanted, had) in _compared(body, actual).items()
            if wanted != had
        }
        action = Action.REPLACE if reasons else Action.KEEP
        if reasons and not reasons.keys() - set(SAID) and actual["own"] is not None:
            action = Action.UPDATE
        if actual["state"] == "failed":
            reasons, action = {"": Reason(f"it could not be fetched: {actual['reason']}")}, Action.CREATE
        elif not reasons and own_labels(body["labels"]) != own_labels(actual["labels"]):
            reasons, action = {"labels": Reason("labels differ", drift)}, Action.UPDATE
        return Step(self.section, key, body["name"], action, tuple(reasons.values()), body, actual)

    def make(self, transport: Transport, step: Step) -> Json:
        given = {field: value for field, value in step.body.items() if value is not None}
        made = settled(transport, lambda wait_s: calls.create(**given, wait_s=wait_s), calls.get, FETCH_S_MAX)
        if made["state"] == "failed":
            raise Failed(f"model {step.name} could not be fetched: {made['reason']}")
        return made

    def replace(self, transport: Transport, step: Step) -> Json:
        self.delete(transport, step.name)
        return self.make(transport, step)

    def change(self, transport: Transport, step: Step) -> Json:
        """Asked for once more, one that is the same takes the labels."""
        assert step.actual is not None
        said = {field: step.body[field] for field in SAID if step.body[field] != step.actual["said"][field]}
        if said:
            transport.json(calls.update(step.name, said))
        return self.make(transport, step)

    def delete(self, transport: Transport, name: str) -> None:
        gone(transport, lambda wait_s: calls.delete(name, wait_s))


def source_of(scene: Scene, source: str) -> str:
    """Where it names a model or a volume of the file, by its key, as everywhere."""
    if source.startswith(SCHEME):
        return SCHEME + model_name(scene, source.removeprefix(SCHEME))
    key, colon, path = source.partition(":")
    return f"{scene.name_of('volumes', key)}:{path}" if colon and key in scene.section("volumes") else source


def model_name(scene: Scene, key: str) -> str:
    """On the server: of a model of the file by its key, else of one that is there."""
    return scene.name_of("models", key) if key in scene.section("models") else key


def _compared(body: Json, actual: Json) -> dict[str, tuple[Any, Any]]:
    """Field -> as wanted, as it is."""
    found: dict[str, tuple[Any, Any]] = {
        field: (body[field], actual[field]) for field in ("source", "endpoint", "convert", "adapters")
    }
    return found | {field: (body[field], actual["said"][field]) for field in SAID}
