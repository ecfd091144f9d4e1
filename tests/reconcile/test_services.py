"""Services with a fake agent: whatever happens to replicas and to control, as many serve as are wanted, nobody is cut
off, and nothing is left of one that was deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from skerry.control.intents import cards, models, services
from skerry.control.service_routes import service_route
from skerry.errors import Conflict, Invalid, SkerryError
from skerry.model.guest_service import HealthState
from skerry.model.operation import OperationState
from skerry.model.replica import replica_id
from skerry.model.rollout import Phase, RolloutAction, RolloutRequest
from skerry.model.sandbox import S, Sandbox
from skerry.model.service import Health, ScaleRequest, Service, ServiceSpec, ServiceState
from skerry.model.service_update import ServiceUpdate
from skerry.model.traffic import ServiceRoute, ServiceTraffic, TrafficReport
from skerry.model.weights import ModelUpdate
from skerry.store.transaction import PROJECT
from tests.reconcile.conftest import Cloud

pytestmark = pytest.mark.anyio


REACH = ("10.0.0.0/24",)


class Desk:
    """What the tests ask of a cloud about its services."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    async def create(self, **spec: Any) -> Service:
        given = {"image": "debian:12", "command": ["serve"], "port": 80, "memory": "16MiB", "name": "web", "drain": 0}
        async with self.cloud.store.write() as tx:
            return await services.create(tx, ServiceSpec(**{**given, **spec}), owner="tester", reach=REACH)

    async def update(self, **wanted: Any) -> Service:
        async with self.cloud.store.write() as tx:
            return await services.update(
                tx, await tx.services.find("web", PROJECT), ServiceUpdate(**wanted), reach=REACH
            )

    async def scale(self, replicas: int) -> Service:
        async with self.cloud.store.write() as tx:
            asked = ScaleRequest(replicas=replicas)
            return await services.scale(tx, await tx.services.find("web", PROJECT), asked)

    async def roll(self, action: RolloutAction, revision: int | None = None) -> Service:
        async with self.cloud.store.write() as tx:
            asked = RolloutRequest(action=action, revision=revision)
            return await services.roll(tx, await tx.services.find("web", PROJECT), asked)

    async def delete(self) -> Service:
        async with self.cloud.store.write() as tx:
            return await services.delete(tx, await tx.services.find("web", PROJECT))

    async def get(self) -> Service:
        async with self.cloud.store.read() as tx:
            return await tx.services.find("web", PROJECT)

    async def boxes(self) -> list[Sandbox]:
        async with self.cloud.store.read() as tx:
            service = await tx.services.find("web", PROJECT)
            return [box for box in await tx.sandboxes.of_service(service.id) if box.state is not S.DELETING]

    async def route(self) -> ServiceRoute:
        async with self.cloud.store.read() as tx:
            service = await tx.services.find("web", PROJECT)
            return service_route(service, await tx.sandboxes.of_service(service.id), tx.now)

    async def until(self, done: Callable[[Service], bool]) -> Service:
        return await self.cloud.until(self.get, done)

    async def until_settled(self) -> Service:
        return await self.until(lambda service: service.operation is None)

    async def until_boxes(self, done: Callable[[Sequence[Sandbox]], bool]) -> Sequence[Sandbox]:
        return await self.cloud.until(self.boxes, done)

    def report(self, service: Service, **traffic: Any) -> None:
        assert self.cloud.control is not None
        told = ServiceTraffic(service=service.id, **traffic)
        self.cloud.control.traffic.note(TrafficReport(gateway="g", seconds=1, services=[told]))


def revisions(boxes: Sequence[Sandbox]) -> list[int]:
    return sorted(box.replica.revision for box in boxes if box.replica is not None)


@pytest.fixture
async def desk(cloud: Cloud) -> Desk:
    await cloud.image()
    return Desk(cloud)


async def test_it_gets_its_replicas_and_routes_lead_to_them(desk: Desk) -> None:
    made = await desk.create(replicas=2, env={"A": "b"})
    service = await desk.until_settled()
    assert (service.status, service.ready, service.serving) == (Health.HEALTHY, 2, 1)
    boxes = await desk.boxes()
    assert [box.id for box in boxes] == [replica_id(service.id, number) for number in (1, 2)]
    spec = desk.cloud.box(boxes[0]).order.spec
    assert spec.command == ["serve"]
    assert (spec.env["A"], spec.env["BACKEND_MODEL_NAME"], spec.env["SKERRY_REPLICA"]) == ("b", "web", "1")
    assert spec.health is not None
    assert (spec.health.tcp, spec.health.port) == (True, 80)
    route = await desk.route()
    assert {replica.url for replica in route.replicas} == {f"http://{boxes[0].address}:80"}
    assert [(replica.id, replica.weight) for replica in route.replicas] == [(box.id, 1.0) for box in boxes]
    operations = [each for each in await desk.cloud.operations() if each.target == made.id]
    assert [each.state for each in operations] == [OperationState.SUCCEEDED]


async def test_an_unhealthy_one_leaves_the_routes_and_a_lost_one_is_replaced(desk: Desk) -> None:
    await desk.create(replicas=2)
    await desk.until_settled()
    first, second = await desk.boxes()
    desk.cloud.agent.tell_health(first.id, HealthState.UNHEALTHY, "GET / was answered with 500")
    service = await desk.until(lambda service: service.status is Health.DEGRADED)
    assert service.reason == "1 of 2 replicas are healthy; GET / was answered with 500"
    assert [replica.id for replica in (await desk.route()).replicas] == [second.id]
    desk.cloud.agent.tell_health(first.id, HealthState.HEALTHY)
    await desk.until(lambda service: service.status is Health.HEALTHY)
    await desk.cloud.delete(second)
    await desk.until_boxes(lambda boxes: [box.id for box in boxes if box.started_at] != [first.id, second.id])
    boxes = await desk.until_boxes(lambda boxes: len([box for box in boxes if box.state is S.RUNNING]) == 2)
    assert replica_id(service.id, 3) in [box.id for box in boxes]


async def test_what_cannot_start_is_tried_again_more_and_more_seldom_and_said(desk: Desk) -> None:
    desk.cloud.agent.refuse["start"] = Conflict("port 80 is cursed")
    desk.cloud.agent.begin_as = HealthState.STARTING
    await desk.create(health={"initial_delay": 0, "interval": 0.5, "max_retries": 1})
    desk.cloud.agent.refuse.clear()
    service = await desk.until_settled()
    assert service.status is Health.UNHEALTHY
    assert service.reason == "it was not healthy within 1 s of its start"
    assert len(await desk.boxes()) == 1, "it stays, for whoever looks why"
    [operation] = [each for each in await desk.cloud.operations() if each.target == service.id]
    assert (operation.state, operation.error) == (OperationState.FAILED, service.reason)
    desk.cloud.agent.tell_health((await desk.boxes())[0].id, HealthState.HEALTHY)
    await desk.until(lambda service: service.status is Health.HEALTHY)


async def test_scaling_by_hand_takes_away_those_with_the_least_to_do(desk: Desk) -> None:
    service = await desk.create(replicas=3, drain=30)
    await desk.until_settled()
    first, second, third = await desk.boxes()
    desk.report(service, replicas={first.id: 1, second.id: 0, third.id: 5})
    await desk.scale(2)
    boxes = await desk.until_boxes(lambda boxes: any(box.replica and box.replica.draining_at for box in boxes))
    assert [box.id for box in boxes if box.replica and box.replica.draining_at] == [second.id]
    assert second.id not in [replica.id for replica in (await desk.route()).replicas]
    desk.report(service, replicas={second.id: 1})
    assert len(await desk.boxes()) == 3, "it has something to end"
    await desk.cloud.until(lambda: _gone(desk, service, second), lambda gone: gone)
    assert (await desk.get()).status is Health.HEALTHY


async def _gone(desk: Desk, service: Service, box: Sandbox) -> bool:
    desk.report(service, replicas={box.id: 0})
    return box.id not in [each.id for each in await desk.boxes()]


async def test_a_new_revision_takes_over_one_by_one_with_never_fewer_than_wanted(desk: Desk) -> None:
    await desk.create(replicas=3)
    await desk.until_settled()
    fewest = 9

    async def look() -> Service:
        nonlocal fewest
        fewest = min(fewest, len((await desk.route()).replicas))
        return await desk.get()

    await desk.update(env={"V": "2"})
    service = await desk.cloud.until(look, lambda service: service.operation is None)
    assert (service.serving, service.revision, service.rollout) == (2, 2, None)
    assert service.ready == 3, "and none of those that go"
    assert fewest == 3
    boxes = await desk.until_boxes(lambda boxes: len(boxes) == 3)
    assert revisions(boxes) == [2, 2, 2]
    await desk.roll(RolloutAction.ROLLBACK)
    service = await desk.until(lambda service: service.operation is None)
    assert (service.serving, service.spec.env) == (1, {})


async def test_a_rollout_that_does_not_become_healthy_stops_and_says_so(desk: Desk) -> None:
    await desk.create(replicas=2, health={"initial_delay": 0, "interval": 0.5, "max_retries": 1})
    await desk.until_settled()
    before = {box.id for box in await desk.boxes()}
    desk.cloud.agent.begin_as = HealthState.STARTING
    await desk.update(command=["broken"])
    service = await desk.until_settled()
    assert service.rollout is not None
    assert service.rollout.phase is Phase.STOPPED
    assert service.status is Health.HEALTHY
    assert {replica.id for replica in (await desk.route()).replicas} == before
    [failed] = [each for each in await desk.cloud.operations() if each.state is OperationState.FAILED]
    assert failed.error is not None
    assert "revision 2 does not become healthy" in failed.error
    await desk.roll(RolloutAction.ABORT)
    await desk.until(lambda service: service.operation is None and service.rollout is None)
    boxes = await desk.until_boxes(lambda boxes: {box.id for box in boxes} == before)
    assert revisions(boxes) == [1, 1]


async def test_a_canary_gets_its_share_until_it_is_promoted(desk: Desk) -> None:
    await desk.create(replicas=4, strategy={"type": "canary", "weight": 30})
    await desk.until_settled()
    await desk.update(env={"V": "2"})
    service = await desk.until(lambda service: service.rollout is not None and service.rollout.phase is Phase.READY)
    route = await desk.route()
    total = sum(replica.weight for replica in route.replicas)
    canary = [replica.weight for replica in route.replicas if replica.weight != 1.0]
    assert len(route.replicas) == 5
    assert sum(canary) / total == pytest.approx(0.3)
    await desk.roll(RolloutAction.PROMOTE)
    service = await desk.until(lambda service: service.rollout is None)
    assert service.serving == 2
    boxes = await desk.until_boxes(lambda boxes: len(boxes) == 4)
    assert revisions(boxes) == [2, 2, 2, 2]
    assert {replica.weight for replica in (await desk.route()).replicas} == {1.0}


async def test_the_other_colour_stands_without_traffic_until_it_is_promoted(desk: Desk) -> None:
    await desk.create(replicas=2, strategy={"type": "blue-green"})
    await desk.until_settled()
    await desk.update(env={"V": "2"})
    with pytest.raises(SkerryError, match="not ready"):
        await desk.roll(RolloutAction.PROMOTE)
    await desk.until(lambda service: service.rollout is not None and service.rollout.phase is Phase.READY)
    boxes = await desk.boxes()
    assert revisions(boxes) == [1, 1, 2, 2]
    by_id = {box.id: box for box in boxes}
    assert revisions([by_id[replica.id] for replica in (await desk.route()).replicas]) == [1, 1]
    await desk.roll(RolloutAction.PROMOTE)
    assert revisions([by_id[replica.id] for replica in (await desk.route()).replicas]) == [2, 2], "all at once"
    assert revisions(await desk.until_boxes(lambda boxes: len(boxes) == 2)) == [2, 2]


async def test_recreate_ends_all_before_it_begins_any(desk: Desk) -> None:
    await desk.create(replicas=2, strategy={"type": "recreate"})
    await desk.until_settled()
    most = 0

    async def look() -> Service:
        nonlocal most
        most = max(most, len({box.replica.revision for box in await desk.boxes() if box.replica is not None}))
        return await desk.get()

    await desk.update(env={"V": "2"})
    service = await desk.cloud.until(look, lambda service: service.operation is None)
    assert (service.serving, most) == (2, 1)


async def test_roles_have_numbers_of_their_own(desk: Desk) -> None:
    await desk.create(roles={"prefill": 1, "decode": 2}, engine="simulator")
    await desk.until_settled()
    assert sorted(replica.role.value for replica in (await desk.route()).replicas) == ["decode", "decode", "prefill"]
    await desk.update(roles={"prefill": 1, "decode": 1})
    await desk.until_boxes(lambda boxes: len(boxes) == 2)


async def test_servers_that_are_there_already_are_routed_to_at_once(desk: Desk) -> None:
    await desk.create(addresses=["http://10.0.0.5:8000"], image=None, command=None, port=None)
    service = await desk.get()
    assert service.status is Health.HEALTHY
    assert [replica.url for replica in (await desk.route()).replicas] == ["http://10.0.0.5:8000"]
    for refused in ("http://127.0.0.1:8000", "http://localhost:1", "http://10.0.1.5:8000"):
        with pytest.raises(Invalid, match=r"^addresses\[0\]: .* is not one that the operator lets services lead to"):
            await desk.update(addresses=[refused])
    await desk.update(addresses=["http://10.0.0.6:8000"])
    assert [replica.url for replica in (await desk.route()).replicas] == ["http://10.0.0.6:8000"]
    assert (await desk.get()).serving == 2
    await desk.delete()
    await desk.cloud.until(lambda: _state(desk, service), lambda state: state is ServiceState.DELETED)


async def _state(desk: Desk, service: Service) -> ServiceState:
    async with desk.cloud.store.read() as tx:
        found = await tx.services.get(service.id)
    assert found is not None
    return found.state


async def test_whenever_control_is_killed_there_are_never_too_many_and_in_the_end_enough(desk: Desk) -> None:
    service = await desk.create(replicas=3)
    most = 0
    for number in range(8):
        if number == 3:
            await desk.update(env={"V": "2"})
        await desk.cloud.kill_control()
        await desk.cloud.start_control()
        most = max(most, len(await desk.boxes()))
        if number == 5:
            box = (await desk.until_boxes(lambda boxes: any(box.state is S.RUNNING for box in boxes)))[0]
            await desk.cloud.delete(box)
    await desk.until(lambda service: service.rollout is None and service.status is Health.HEALTHY)
    boxes = await desk.until_boxes(lambda boxes: len(boxes) == 3)
    assert revisions(boxes) == [2, 2, 2]
    assert most <= 4, "three, and one that is surplus while replacing"
    numbers = [box.replica.number for box in boxes if box.replica is not None]
    assert len(set(numbers)) == 3
    await desk.delete()
    await desk.cloud.until(lambda: _state(desk, service), lambda state: state is ServiceState.DELETED)
    assert not [box for box in desk.cloud.agent.world.boxes if box in {each.id for each in boxes}]
    assert await desk.cloud.problems() == []


async def test_at_zero_one_is_kept_stopped_and_started_by_who_asks(desk: Desk) -> None:
    service = await desk.create(scaling={"minimum": 0, "maximum": 3, "idle": 1})
    await desk.until_settled()
    [box] = await desk.boxes()
    boxes = await desk.until_boxes(lambda boxes: [each.state for each in boxes] == [S.STOPPED])
    assert boxes[0].id == box.id, "it is stopped and not deleted: its disk is what took long to make"
    slept = await desk.get()
    assert (slept.wanted, slept.status, slept.reason) == (0, Health.HEALTHY, "it sleeps: the next request wakes it")
    assert slept.wanted_reason == "nobody has asked for it for 1 s"
    assert desk.cloud.control is not None
    scaling = desk.cloud.control.reconcilers.scale_services
    await desk.until(lambda service: scaling.why(service) == "nobody has asked for it")
    with pytest.raises(Conflict, match="replicas: service web is scaled by itself, from 0 to 3"):
        await desk.update(replicas=2)
    route = await desk.route()
    assert (route.replicas, route.wakes) == ([], True)
    for _ in range(3):
        desk.report(service, wanted=True, waiting=1)  # of several that are held
    await desk.until(lambda service: service.ready == 1)
    assert [each.id for each in await desk.boxes()] == [box.id]
    assert [replica.id for replica in (await desk.route()).replicas] == [box.id]


async def test_it_is_scaled_by_what_its_machine_and_its_engines_tell(desk: Desk) -> None:
    targets = [{"signal": "cpu", "value": 0.5}, {"signal": "custom", "value": 10, "metric": "jobs"}]
    scaling = {"minimum": 1, "maximum": 4, "window": 1, "panic_window": 1, "targets": targets}
    desk.cloud.agent.cores = 0.9
    await desk.create(scaling=scaling)
    await desk.until_settled()
    assert (await desk.route()).watched == ["custom:jobs"]
    scaled = await desk.until(lambda service: service.wanted >= 2)
    assert "over 1 s, 0.5 for each" in scaled.wanted_reason
    blind = await desk.until(lambda service: service.unknown is not None)
    assert blind.unknown == "custom:jobs is not known: no replica tells it where its engine has its metrics"

    def told(service: Service) -> bool:
        desk.report(service, seen={"custom:jobs": 31.0})
        return service.wanted == 4 and service.unknown is None

    await desk.until(told)


async def test_targets_that_nobody_can_tell_are_refused(desk: Desk) -> None:
    with pytest.raises(Invalid, match="its replicas have no gpu"):
        await desk.create(scaling={"targets": [{"signal": "gpu", "value": 0.5}]})
    with pytest.raises(Invalid, match="engine command does not tell how much of its KV cache is in use"):
        await desk.create(scaling={"targets": [{"signal": "cache", "value": 0.5}]})
    await desk.create()
    with pytest.raises(Invalid, match=r"scaling.targets\[1\].signal"):
        await desk.update(scaling={"targets": [{"signal": "cpu", "value": 1}, {"signal": "cache", "value": 0.5}]})


async def test_its_model_is_fetched_first_and_mounted_where_the_engine_looks(desk: Desk) -> None:
    desk.cloud.agent.slow_s["model"] = 0.3
    await desk.create(engine="vllm", model="hf://owner/tiny", command=None, port=None)
    service = await desk.until_settled()
    assert service.status is Health.HEALTHY
    [box] = await desk.boxes()
    spec = desk.cloud.box(box).order.spec
    assert [(mount.model, mount.target, mount.readonly) for mount in spec.mounts] == [("tiny", "/models/tiny", True)]
    assert spec.command is not None
    assert any(word.startswith("/models/tiny") for word in spec.command), spec.command
    async with desk.cloud.store.write() as tx:
        wanted = ModelUpdate(parameters={"temperature": 0.125})
        await cards.update(tx, await tx.models.find("tiny", PROJECT), wanted)
    await desk.until(lambda service: service.revision == service.serving == 2)
    [box] = await desk.until_boxes(lambda boxes: revisions(boxes) == [2])
    assert "0.125" in str(desk.cloud.box(box).order.spec.command), "what is said of it is taken up by a rollout"
    assert desk.cloud.agent.world.calls.count("model hf://owner/tiny") == 1
    async with desk.cloud.store.write() as tx:
        with pytest.raises(SkerryError, match="is used by"):
            await models.delete(tx, await tx.models.find("tiny", PROJECT))
