"""What a plan says has to be done: nothing where all is as declared, else the least that is enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.environment.kinds.contract import Action, Json, Scene
from skerry.environment.kinds.networks import Networks
from skerry.environment.kinds.sandboxes import Sandboxes
from skerry.environment.plan import check_owner, choose, make_plan
from skerry.environment.provision.work import StepFailed
from skerry.errors import Conflict, Invalid, NoRoom, told_of
from skerry.model.environment import Environment
from skerry.model.sandbox import SandboxSpec

FILE = Path("/srv/shop/skerry.yaml")
KINDS = (Networks(), Sandboxes())


def scene(**sections: Any) -> Scene:
    environment = Environment.model_validate({"name": "shop", **sections})
    return Scene(environment.model_dump(mode="json", by_alias=True), FILE)


def as_made(body: Json, **known: Any) -> Json:
    """What the server answers of a sandbox that was made so."""
    spec = SandboxSpec.model_validate(body).model_dump(mode="json")
    spec["image"] += "" if ":" in spec["image"] else ":latest"
    for number, port in enumerate(spec["ports"]):
        port["host"] = port["host"] or 20_000 + number
    for join in spec["networks"]:
        join["address"] = join["address"] or "10.77.0.200"
    return {"id": "sb-1", "name": spec["name"], "state": "running", "spec": spec, **known}


def compared(machine: Json, **changed: Any) -> tuple[Action, list[str]]:
    """The step for a sandbox made from `machine`, of which `changed` is the spec now."""
    declared = scene(sandboxes={"web": machine}, networks={"net": {}})
    kind = Sandboxes()
    body = kind.body(declared, "web")
    actual = as_made(body)
    actual["spec"] |= changed
    step = kind.compare(declared, "web", body, actual)
    return step.action, [reason.say for reason in step.reasons]


MACHINES = st.fixed_dictionaries(
    {"image": st.sampled_from(["debian:12", "debian", "team/app"])},
    optional={
        "cpu": st.sampled_from([0.5, 1, 2]),
        "memory": st.sampled_from(["512MiB", 10**9]),
        "command": st.just(["sleep", "1"]),
        "env": st.dictionaries(st.sampled_from("ABC"), st.text("xyz", max_size=3)),
        "labels": st.dictionaries(st.sampled_from("abc"), st.text("xyz", max_size=3)),
        "ports": st.lists(
            st.fixed_dictionaries({"guest": st.integers(1, 9)}, optional={"host": st.integers(8000, 8003)}),
            max_size=3,
            unique_by=lambda port: port.get("host", -port["guest"]),
        ),
        "networks": st.just([{"name": "net"}]),
        "idle": st.sampled_from(["30s", "never", 5]),
        "network": st.fixed_dictionaries({"default": st.sampled_from(["allow", "deny"])}),
        "services": st.just({"http": {"command": ["x"], "port": 80}}),
        "folders": st.lists(st.just({"source": ".", "target": "/workspace"}), max_size=1),
        "bandwidth": st.just({"up": "10Mbit"}),
    },
)


@given(MACHINES)
def test_what_was_made_as_declared_needs_nothing(machine: Json) -> None:
    assert compared(machine) == (Action.KEEP, [])


@pytest.mark.parametrize(
    ("changed", "action", "say"),
    [
        ({"memory": 2**29}, Action.UPDATE, "memory: 512MiB -> 1.0GiB"),
        ({"idle": 5.0}, Action.UPDATE, "idle: 5.0 -> none"),
        ({"env": {"A": "2"}}, Action.RESTART, "env.A: 2 -> none"),
        ({"image": "debian:13"}, Action.REPLACE, "image: debian:13 -> debian:12"),
        ({"labels": {"by": "hand"}}, Action.UPDATE, "labels.by: hand -> none"),
    ],
)
def test_what_differs_takes_the_least_that_is_enough(changed: Json, action: Action, say: str) -> None:
    assert compared({"image": "debian:12"}, **changed) == (action, [say])


PLACEMENT: Json = {
    "nodes": {"rack": "a"},
    "tolerations": ["team=vision"],
    "near": [{"labels": {"app": "db"}}],
    "away": [{"labels": {"app": "web"}, "required": False}],
    "spread": [{"topology": "rack"}],
}
RULES = SandboxSpec.model_validate({"image": "i", "placement": PLACEMENT}).placement.model_dump(mode="json")


@pytest.mark.parametrize(
    ("declared", "was", "action", "say"),
    [
        ({"queue": "lab"}, {"queue": "default"}, Action.UPDATE, "queue: default -> lab"),
        ({"tier": "mid"}, {"tier": "free"}, Action.UPDATE, "tier: free -> mid"),
        ({"priority": 80}, {"priority": 50}, Action.UPDATE, "priority: 50 -> 80"),
        ({"placement": PLACEMENT}, {}, Action.KEEP, None),
        (
            {"placement": PLACEMENT},
            {"placement": {**RULES, "tolerations": []}},
            Action.UPDATE,
            'placement.tolerations: [] -> ["team=vision"]',
        ),
        (
            {"placement": PLACEMENT},
            {"placement": {**RULES, "away": [], "spread": []}},
            Action.UPDATE,
            "placement: away, spread differ",
        ),
        (
            {"placement": PLACEMENT},
            {"placement": {**RULES, "nodes": {"rack": ["b"]}}},
            Action.UPDATE,
            'placement.nodes.rack: ["b"] -> ["a"]',
        ),
        ({"gpu": 2}, {"gpu": 0.5}, Action.RESTART, "gpu: 0.5 -> 2.0"),
        ({"gpu": 1, "gpu_kind": "h100"}, {"gpu_kind": []}, Action.RESTART, 'gpu_kind: [] -> ["h100"]'),
        ({"gpu": 1, "gpu_memory": "8GiB"}, {"gpu_memory": None}, Action.RESTART, "gpu_memory: none -> 8.0GiB"),
        ({"extras": {"license": 2}}, {"extras": {"license": 1}}, Action.RESTART, "extras.license: 1 -> 2"),
        ({"gpu": 1, "tier": "mid"}, {"gpu": 0.5, "tier": "free"}, Action.RESTART, "gpu: 0.5 -> 1.0"),
        ({}, {"gpu": 1.0}, Action.RESTART, "gpu: 1.0 -> 0.0"),
    ],
)
def test_what_it_asks_of_the_scheduler_never_costs_a_disk(
    declared: Json, was: Json, action: Action, say: str | None
) -> None:
    done, says = compared({"image": "debian:12", **declared}, **was)
    assert (done, says[:1]) == (action, [] if say is None else [say])


def test_drift_is_told_from_a_change_of_the_file() -> None:
    declared = scene(sandboxes={"web": {"image": "i:1", "memory": "1GiB"}})
    kind = Sandboxes()
    body = kind.body(declared, "web")
    by_hand = as_made(body)
    by_hand["spec"] |= {"memory": 2**29}
    assert [reason.drift for reason in kind.compare(declared, "web", body, by_hand).reasons] == [True]
    edited = kind.body(scene(sandboxes={"web": {"image": "i:1", "memory": "2GiB"}}), "web")
    assert [reason.drift for reason in kind.compare(declared, "web", edited, as_made(body)).reasons] == [False]


@pytest.mark.parametrize(
    ("known", "action"),
    [
        ({"state": "stopped", "exit": {"reason": "stopped", "code": 0}}, Action.START),
        ({"state": "stopped", "exit": {"reason": "exited", "code": 3}}, Action.START),
        ({"state": "stopped", "exit": {"reason": "exited", "code": 0}}, Action.KEEP),
        ({"state": "failed", "reason": "no room"}, Action.START),
        ({"state": "asleep"}, Action.KEEP),
    ],
)
def test_one_at_rest_is_started_unless_it_sleeps_or_has_done_its_work(known: Json, action: Action) -> None:
    declared = scene(sandboxes={"web": {"image": "i:1", "command": ["true"]}})
    body = Sandboxes().body(declared, "web")
    assert Sandboxes().compare(declared, "web", body, as_made(body, **known)).action is action


def test_a_plan_of_all_deletes_what_has_left_the_file_and_a_plan_of_some_does_not() -> None:
    declared = scene(sandboxes={"web": {"image": "i:1"}})
    gone = {"name": "shop-old", "spec": {"labels": {"skerry.member": "old"}}}
    actual = {"sandboxes": {"shop-old": gone}, "networks": {}}
    assert [(step.key, step.action) for step in make_plan(declared, KINDS, actual).steps] == [
        ("web", Action.CREATE),
        ("old", Action.DELETE),
    ]
    assert [step.key for step in make_plan(declared, KINDS, actual, ["web"]).steps] == ["web"]
    assert [step.key for step in make_plan(declared, KINDS, actual, left_out=["old"]).steps] == ["web"]


def test_a_volume_that_has_left_the_file_is_told_and_kept() -> None:
    declared = scene(sandboxes={"web": {"image": "i:1"}}, volumes={"data": {}})
    volumes = {name: {"name": name, "labels": {}} for name in ("shop-data", "shop-old")}
    plan = make_plan(declared, KINDS, {"volumes": volumes})
    assert (plan.kept, [step.key for step in plan.steps]) == ((("volumes", "shop-old"),), ["web"])
    assert make_plan(declared, KINDS, {"volumes": volumes}, ["web"]).kept == ()


def test_names_bring_what_they_depend_on_and_autostart_is_heeded() -> None:
    machine = {"image": "i:1"}
    declared = scene(
        sandboxes={
            "db": machine,
            "web": {**machine, "depends_on": {"db": "healthy"}},
            "tool": {**machine, "autostart": False},
        }
    )
    assert choose(declared, []) == {"db", "web"}
    assert choose(declared, ["web"]) == {"db", "web"}
    assert choose(declared, ["tool"]) == {"tool"}
    with pytest.raises(Invalid, match="did you mean 'web'"):
        choose(declared, ["wev"])


def test_another_file_of_the_same_name_is_refused() -> None:
    declared = scene(sandboxes={"web": {"image": "i:1"}})
    others = {"sandboxes": {"shop-web": {"spec": {"labels": {"skerry.file": "/elsewhere/skerry.yaml"}}}}}
    with pytest.raises(Conflict, match="/elsewhere/skerry"):
        check_owner(declared, others)
    check_owner(declared, {"sandboxes": {"shop-web": {"spec": {"labels": {"skerry.file": str(FILE)}}}}})


def test_an_error_keeps_its_kind_when_it_is_told_whose_it_is() -> None:
    failed = told_of("web", StepFailed("web", "deps", "it ended with code 1", Path("x.log")))
    assert (failed.code, failed.say.count("web: ")) == ("failed", 1)
    assert told_of("db", NoRoom("no room now", retry_after_s=5)).wire()["error"] == {
        "code": "no_room",
        "message": "db: no room now",
        "retry_after_s": 5,
    }
