"""Queues of a file: what it may say, who means which, what changes in place, and when one goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skerry.environment.kinds.catalog import KINDS
from skerry.environment.kinds.contract import Action, Json, Scene
from skerry.environment.kinds.jobs import Jobs
from skerry.environment.kinds.queues import Queues
from skerry.environment.kinds.sandboxes import Sandboxes
from skerry.environment.load import load
from skerry.environment.needed import check_needed
from skerry.environment.plan import Plan, make_plan
from skerry.environment.problems import Problems
from skerry.errors import NotFound
from skerry.model.queue import QueueSpec, QueueUpdate

TEXT = """
name: shop
queues:
  lab:
    nodes: {rack: a}
    policy: fifo
    aging_s: null
    preemption: false
    labels: [team=vision]
    quotas: [{project: default, limit: {memory: 64GiB}}]
  batch: {name: night}
  gpus: {name: gpu-nodes, external: true}
sandboxes:
  web: {image: "debian:12", queue: lab, folders: []}
  db: {image: "debian:12", folders: []}
jobs:
  train: {image: "debian:12", command: "true", queue: batch}
  infer: {image: "debian:12", command: "true", queue: gpus}
  other: {image: "debian:12", command: "true", queue: elsewhere, autostart: false}
"""


def loaded(tmp_path: Path, text: str = TEXT) -> Scene:
    file = tmp_path / "skerry.yaml"
    file.write_text(text)
    environment = load([file], environ={}).environment
    return Scene(environment.model_dump(mode="json", by_alias=True), file)


def there(scene: Scene, *keys: str, **known: Any) -> dict[str, Json]:
    """What the server answers of queues that were made so."""
    found: dict[str, Json] = {}
    for key in keys:
        spec = QueueSpec.model_validate(Queues().body(scene, key)).model_dump(mode="json")
        found[spec["name"]] = {"id": "qu-1", "name": spec["name"], "spec": spec, "pending": 0, "running": 0, **known}
    return found


def planned(scene: Scene, queues: dict[str, Json]) -> Plan:
    return make_plan(scene, KINDS, {"queues": queues})


def of_queues(plan: Plan) -> list[tuple[str, Action, list[str]]]:
    steps = [step for step in plan.changes if step.section == "queues"]
    return [(step.name, step.action, [reason.say for reason in step.reasons]) for step in steps]


def test_each_means_a_queue_of_the_file_or_one_of_the_cloud_and_waits_for_it(tmp_path: Path) -> None:
    scene = loaded(tmp_path)
    assert [Sandboxes().body(scene, key)["queue"] for key in ("web", "db")] == ["shop-lab", "default"]
    assert [Jobs().body(scene, key)["queue"] for key in ("train", "infer", "other")] == [
        "night",
        "gpu-nodes",
        "elsewhere",
    ]
    plan = planned(scene, {})
    assert of_queues(plan) == [("shop-lab", Action.CREATE, []), ("night", Action.CREATE, [])]
    assert plan.waits["sandboxes", "web"] == {("queues", "lab"): "made"}
    assert plan.waits["jobs", "train"] == {("queues", "batch"): "made"}
    assert plan.waits["jobs", "infer"] == {}, "it is there, and not ours to make"


def test_what_differs_changes_in_place_and_by_hand_is_drift(tmp_path: Path) -> None:
    scene = loaded(tmp_path)
    assert of_queues(planned(scene, there(scene, "lab", "batch"))) == []
    was = there(scene, "lab", "batch")
    changed = loaded(tmp_path, TEXT.replace("rack: a", "rack: [a, b]").replace("preemption: false", "half_life_s: 1h"))
    (step,) = [step for step in planned(changed, was).changes if step.section == "queues"]
    assert (step.action, [reason.drift for reason in step.reasons]) == (Action.UPDATE, [False] * 3)
    assert [reason.say for reason in step.reasons] == [
        'nodes.rack: ["a"] -> ["a", "b"]',
        "half_life_s: 86400.0 -> 3600.0",
        "preemption.enabled: False -> True",
    ]
    by_hand = there(scene, "lab", "batch")
    by_hand["shop-lab"]["spec"]["aging_s"] = 60.0
    (step,) = [step for step in planned(scene, by_hand).changes if step.section == "queues"]
    assert [(reason.say, reason.drift) for reason in step.reasons] == [("aging_s: 60.0 -> none", True)]
    body = {field: value for field, value in step.body.items() if field != "name"}
    after = QueueUpdate.model_validate(body).spec_after(QueueSpec.model_validate(by_hand["shop-lab"]["spec"]))
    assert after.aging_s is None, "what is sent puts it back"


def test_what_has_left_the_file_is_deleted_last_and_not_silently(tmp_path: Path) -> None:
    scene = loaded(tmp_path)
    less = loaded(tmp_path, TEXT.replace("  batch: {name: night}\n", "").replace("queue: batch", "queue: lab"))
    plan = planned(less, there(scene, "lab", "batch", pending=3, running=1))
    assert [step.name for step in plan.destructive] == ["night"]
    assert of_queues(plan)[-1][2] == [
        "it is not in skerry.yaml any more",
        "1 run and 3 wait in it now; it is deleted if they have left it by then",
    ]
    assert [kind.section for kind in KINDS if kind.deleted_last] == ["queues"]


def test_a_queue_that_is_nowhere_is_told_before_anything_is_done(tmp_path: Path) -> None:
    class Cloud:
        def run(self, flow: Any) -> list[Any]:
            return [{"name": "default"}, {"name": "gpu-nodes"}, {"name": "elsewhere-2"}]

    def check(text: str) -> None:
        scene = loaded(tmp_path, text)
        check_needed(Cloud(), make_plan(scene, KINDS, {}))  # pyright: ignore[reportArgumentType]

    check(TEXT)  # `other` is not to be submitted
    with pytest.raises(
        NotFound, match=r"^jobs.other.queue: there is no queue elsewhere; did you mean 'elsewhere-2'\?$"
    ):
        check(TEXT.replace(", autostart: false", ""))
    with pytest.raises(
        NotFound, match=r"^sandboxes.db.queue: there is no queue vision; declare it in queues, or make it with: "
    ):
        check(TEXT.replace('db: {image: "debian:12"', 'db: {image: "debian:12", queue: vision'))
    with pytest.raises(NotFound, match="did you mean 'lab'"):
        check(TEXT.replace("queue: lab", "queue: labs"))


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("policy: fifo", "policy: first", "skerry.yaml:6: queues.lab.policy: 'first' is not allowed"),
        (
            "policy: fifo",
            "polcy: fifo",
            "skerry.yaml:6: queues.lab.polcy: there is no such field; did you mean policy?",
        ),
        ("memory: 64GiB", "memory: much", "skerry.yaml:10: queues.lab.quotas[0].limit.memory: "),
        ("  batch: {", "  default: {", "queues.default: default is the cloud's own, and always there"),
        ("name: night", "name: default", "queues.batch.name: default is the cloud's own"),
        ("name: night", "name: shop-lab", "queues.batch: lab is called 'shop-lab' too"),
        (
            "external: true",
            "external: true, policy: fifo",
            "an external queue has the rules that it has; take away: po",
        ),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, was: str, now: str, says: str) -> None:
    with pytest.raises(Problems, match=r"skerry.yaml:[0-9]+: queues") as caught:
        loaded(tmp_path, TEXT.replace(was, now))
    assert says in str(caught.value), caught.value
