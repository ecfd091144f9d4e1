"""Decisions on services, whatever happens in whatever order: never too many, and in the end as many as are wanted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.control.reconcile.services.decide import decide
from skerry.control.reconcile.services.facts import Facts, Plan
from skerry.model.guest_service import HealthState, HealthStatus
from skerry.model.replica import ReplicaOf, replica_id
from skerry.model.rollout import Phase, RolloutStatus
from skerry.model.sandbox import S, Sandbox, SandboxSpec
from skerry.model.scaling import Scaling
from skerry.model.service import Health, Service, ServiceSpec, ServiceState
from skerry.model.serving import start_s, told

BEGAN = datetime(2026, 11, 27, tzinfo=UTC)
SPEC = ServiceSpec(name="web", image="x", command=["serve"], port=80, drain=0, replicas=3)


class World:
    """A service and its sandboxes, to which plans are done at once."""

    def __init__(self) -> None:
        self.now = BEGAN
        self.boxes: dict[str, Sandbox] = {}
        self.service = Service(
            id="svc-000000000001", project="default", name="web", state=ServiceState.ACTIVE, spec=SPEC, wanted=3,
            created_at=BEGAN, updated_at=BEGAN,
        )  # fmt: skip

    def step(self) -> Plan:
        self.now += timedelta(seconds=1)
        plan = decide(Facts(self.service, list(self.boxes.values()), {}, frozenset(), self.now))
        gone = {box.id for box in plan.delete}
        for box in plan.healthy:
            self._replica(box.id, healthy_at=self.now)
        for box in plan.drain:
            self._replica(box.id, draining_at=self.now)
        self.boxes = {key: box for key, box in self.boxes.items() if key not in gone}
        for revision, _ in plan.make:
            self._make(revision)
        self.service = self.service.model_copy(update=plan.changes)
        return plan

    def _make(self, revision: int) -> None:
        number = self.service.made + 1
        self.service = self.service.model_copy(update={"made": number})
        box = Sandbox(
            id=replica_id(self.service.id, number), project="default", name=f"r-{number}", state=S.RUNNING,
            spec=SandboxSpec(image="x"), generation=1, address="10.0.0.1", started_at=self.now,
            replica=ReplicaOf(service=self.service.id, number=number, revision=revision, ready_s=1e9),
            created_at=self.now, updated_at=self.now,
        )  # fmt: skip
        assert box.id not in self.boxes
        self.boxes[box.id] = box

    def _replica(self, box_id: str, **changes: Any) -> None:
        box = self.boxes[box_id]
        assert box.replica is not None
        self.boxes[box_id] = box.model_copy(update={"replica": box.replica.model_copy(update=changes)})

    def say(self, box_id: str, state: HealthState) -> None:
        told = HealthStatus(state=state, since=self.now)
        self.boxes[box_id] = self.boxes[box_id].model_copy(update={"health": told})

    def live(self) -> list[Sandbox]:
        there = [box for box in self.boxes.values() if box.replica and box.replica.draining_at is None]
        return [box for box in there if box.state is S.RUNNING]

    def resume(self) -> None:
        """By hand, as the intent does it."""
        rollout = self.service.rollout
        assert rollout is not None
        for box in self.boxes.values():
            if box.replica and box.replica.revision == rollout.revision and box.replica.healthy_at is None:
                self._replica(box.id, draining_at=self.now)
        going = rollout.model_copy(update={"phase": Phase.GOING_ON})
        self.service = self.service.model_copy(update={"rollout": going})

    def update(self) -> None:
        number = self.service.revision + 1
        rollout = RolloutStatus(type=SPEC.strategy.type, revision=number, since=self.now)
        self.service = self.service.model_copy(update={"revision": number, "rollout": rollout})

    def scale(self, count: int) -> None:
        self.service = self.service.model_copy(update={"wanted": count})


EVENTS = st.lists(
    st.tuples(st.sampled_from(["well", "ill", "lose", "update", "scale", "again"]), st.integers(0, 5)), max_size=30
)


@settings(max_examples=40, deadline=None)
@given(events=EVENTS)
def test_never_too_many_and_in_the_end_as_many_as_are_wanted(events: list[tuple[str, int]]) -> None:
    world = World()
    most = 3
    for event, number in events:
        there = sorted(world.boxes)
        if event == "update":
            world.update()
        elif event == "scale":
            world.scale(number)
            most = max(most, number)
        elif event == "again":
            world.step()
        elif there:
            chosen = there[number % len(there)]
            if event == "lose":
                box = world.boxes[chosen]
                world.boxes[chosen] = box.model_copy(update={"state": S.STOPPED, "health": None})
            else:
                world.say(chosen, HealthState.HEALTHY if event == "well" else HealthState.UNHEALTHY)
        world.step()
        assert len(world.live()) <= 2 * most + 1, "a rollout that stopped leaves the new ones beside the old"
    for _ in range(400):
        for box in world.live():
            if box.state is S.RUNNING:
                world.say(box.id, HealthState.HEALTHY)
        if world.step().does_nothing() and world.service.rollout is None:
            break
        if world.service.rollout is not None and world.service.rollout.phase is Phase.STOPPED:
            world.resume()
    live = world.live()
    assert len(live) == world.service.wanted
    assert {box.replica.revision for box in live if box.replica} <= {world.service.revision}
    assert world.service.status is (Health.HEALTHY if world.service.wanted else Health.UNHEALTHY)


def test_how_long_new_ones_took_is_remembered_and_of_woken_ones_it_is_not() -> None:
    world = World()
    world.step()
    first, second, third = world.live()
    for box in (first, second):
        world.say(box.id, HealthState.HEALTHY)
    world._replica(third.id, woken=True)
    world.say(third.id, HealthState.HEALTHY)
    world.now += timedelta(seconds=6)
    world.step()
    assert world.service.starts_s == [7.0, 7.0]
    assert start_s(world.service) == 7.0
    scaled = world.service.model_copy(update={"spec": SPEC.model_copy(update={"scaling": Scaling()})})
    said = "A new replica takes 7 s until it is healthy: 9 of 10 of the last 2 took no longer."
    assert said in told(scaled, [])
    world.step()
    assert world.service.starts_s == [7.0, 7.0], "once for each"
    many = world.service.model_copy(update={"starts_s": [float(each) for each in range(1, 21)]})
    assert start_s(many) == 18.0


def test_a_fork_that_does_not_become_healthy_stops_no_rollout() -> None:
    world = World()
    for _ in range(3):
        world.step()
        for box_id in world.boxes:
            world.say(box_id, HealthState.HEALTHY)
    world.update()
    world.step()
    [new] = [box for box in world.live() if box.replica and box.replica.revision == 2]
    world.boxes[new.id] = new.model_copy(update={"source_checkpoint": "cp-000000000001"})
    world._replica(new.id, ready_s=0.5)
    world.say(new.id, HealthState.STARTING)
    plan = world.step()
    assert [box.id for box in plan.delete] == [new.id]
    assert world.service.failures == 1
    assert world.service.rollout is not None
    assert world.service.rollout.phase is Phase.GOING_ON
    for _ in range(2):
        world.step()
    [another] = [box for box in world.live() if box.replica and box.replica.revision == 2]
    assert another.id != new.id
