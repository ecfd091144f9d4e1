"""What each reconciler of sandboxes decides: refusals, waiting, losses, and that nobody waits for somebody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skerry.control.intents import images as image_intents
from skerry.control.intents.capacity import none_known
from skerry.errors import Conflict, Failed, Invalid, NoRoom, RestartNeeded
from skerry.model.checkpoint import CheckpointState
from skerry.model.image import ImageRequest, ImageState
from skerry.model.operation import OperationState
from skerry.model.sandbox import ExitReason, S
from skerry.model.sleep import Tier
from skerry.store.transaction import PROJECT
from tests.reconcile.conftest import Cloud
from tests.reconcile.fake_world import Fault
from tests.reconcile.test_convergence import verb_of

pytestmark = pytest.mark.anyio


async def test_refused_order_fails_with_the_agents_sentence(cloud: Cloud) -> None:
    await cloud.image()
    cloud.agent.refuse["start"] = Invalid("command: /nope cannot be started")
    box = await cloud.until_rest(await cloud.create("one"))
    assert (box.state, box.reason) == (S.FAILED, "command: /nope cannot be started")
    async with cloud.store.read() as tx:
        operation = await tx.operations.find(box.operation or "", PROJECT)
    assert (operation.state, operation.error) == (OperationState.FAILED, box.reason)
    del cloud.agent.refuse["start"]
    await cloud.start(box)
    again = await cloud.until_state(box, S.RUNNING)
    assert again.reason is None


async def test_failing_agent_is_given_time_and_then_up(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    async def tries() -> int:
        return sum(call.startswith("start") for call in cloud.agent.world.calls)

    await cloud.image()
    cloud.agent.refuse["start"] = Failed("crun was killed")
    one = await cloud.create("one")
    await cloud.until(tries, lambda found: found > 1)
    monkeypatch.setattr("skerry.control.reconcile.orders.TRIES_S_MAX", 0.0)
    box = await cloud.until_rest(one)
    assert (box.state, box.reason) == (S.FAILED, "crun was killed")


async def test_a_full_disk_is_not_waited_for(cloud: Cloud) -> None:
    await cloud.image()
    cloud.agent.refuse["start"] = NoRoom("the pool is below its reserve")
    box = await cloud.until_rest(await cloud.create("one"))
    assert (box.state, box.reason) == (S.FAILED, "the pool is below its reserve")
    assert sum(call.startswith("start") for call in cloud.agent.world.calls) == 1


async def test_slow_ones_hold_up_nobody(cloud: Cloud) -> None:
    """A slow start, a long stop and a slow pull go on while another sandbox comes up at once."""
    await cloud.image()
    stopping = await cloud.create("stopping")
    await cloud.until_state(stopping, S.RUNNING)
    slow = await cloud.create("slow")
    cloud.agent.slow_s[slow.id] = cloud.agent.slow_s[stopping.id] = 60.0
    cloud.agent.slow_s["docker://slow"] = 60.0
    await cloud.stop(stopping)
    async with cloud.store.write() as tx:
        await image_intents.request_image(tx, ImageRequest(name="slow", source="docker://slow"))
    await asyncio.sleep(0.1)
    quick = await cloud.create("quick")
    await cloud.until_state(quick, S.RUNNING)
    assert (await cloud.get(stopping)).state is S.STOPPING


async def test_ten_forks_start_together(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.create("one")
    await cloud.until_state(box, S.RUNNING)
    here, all_here = 0, asyncio.Event()

    async def together(request: Any, handler: Any) -> Any:
        nonlocal here
        if verb_of(request) == "start":
            here += 1
            if here == 10:
                all_here.set()
            await all_here.wait()
        return await handler(request)

    cloud.agent.between = together
    for fork in await cloud.fork(box, 10):
        await cloud.until_state(fork, S.RUNNING)


async def test_many_more_than_hands_all_come_up(cloud: Cloud) -> None:
    await cloud.image()
    cloud.agent.slow_s["start"] = 0.1
    boxes = [await cloud.create(f"box-{number}") for number in range(40)]
    for box in boxes:
        await cloud.until_state(box, S.RUNNING)
    assert all(box.starts == 1 for box in cloud.agent.world.boxes.values())


async def test_waits_for_its_image_and_fails_with_it(cloud: Cloud) -> None:
    fetched = asyncio.Event()

    async def slowly(request: Any, handler: Any) -> Any:
        if verb_of(request) == "image":
            await fetched.wait()
        return await handler(request)

    cloud.agent.between = slowly
    async with cloud.store.write() as tx:
        await image_intents.request_image(tx, ImageRequest(name="debian:12", source="docker://x"))
    box = await cloud.create("early")
    assert box.state is S.PENDING
    await asyncio.sleep(0.2)
    assert (await cloud.get(box)).state is S.PENDING
    fetched.set()
    await cloud.until_state(box, S.RUNNING)

    cloud.agent.refuse["image"] = Failed("manifest unknown")
    cloud.agent.slow_s["docker://y"] = 0.3
    async with cloud.store.write() as tx:
        bad = await image_intents.request_image(tx, ImageRequest(name="bad", source="docker://y"))
        waits = await _create_from(cloud, tx, "waits", "bad")
    failed = await cloud.until_rest(waits)
    assert failed.state is S.FAILED
    assert "manifest unknown" in (failed.reason or "")
    assert (await cloud.until_image(bad.id, ImageState.FAILED)).reason == "manifest unknown"


async def _create_from(cloud: Cloud, tx, name: str, image: str):  # type: ignore[no-untyped-def]
    from skerry.control.intents import sandboxes
    from skerry.model.sandbox import SandboxSpec

    return await sandboxes.create(
        tx, SandboxSpec(image=image, name=name), why_never=none_known, share=[], sandboxes_max=100
    )


@pytest.mark.parametrize("reason", [ExitReason.EXITED, ExitReason.OOM])
async def test_main_process_that_ends_stops_the_sandbox(cloud: Cloud, reason: ExitReason) -> None:
    await cloud.image()
    box = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    cloud.agent.end(box.id, 3, reason)
    stopped = await cloud.until_state(box, S.STOPPED)
    assert stopped.exit is not None
    assert (stopped.exit.reason, stopped.exit.code) == (reason, 3)


async def test_end_that_nobody_saw_is_found_on_reconnecting(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    await cloud.kill_control()
    cloud.agent.end(box.id, 7)
    await cloud.start_control()
    stopped = await cloud.until_state(box, S.STOPPED)
    assert stopped.exit is not None
    assert stopped.exit.code == 7


async def test_lost_sandbox_is_started_again_on_its_disk(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    cloud.box(box).disk.append("work")
    cloud.agent.lose(box.id)
    again = await cloud.until(lambda: cloud.get(box), lambda found: found.state is S.RUNNING and found.restarts == 1)
    assert again.generation == 2
    assert cloud.box(box).starts == 2
    assert cloud.box(box).disk[-1] == "work"


async def test_reboot_brings_back_what_ran_and_only_that(cloud: Cloud) -> None:
    await cloud.image()
    runs = await cloud.until_state(await cloud.create("runs"), S.RUNNING)
    rests = await cloud.until_state(await cloud.create("rests"), S.RUNNING)
    await cloud.stop(rests)
    await cloud.until_state(rests, S.STOPPED)
    await cloud.agent.stop()
    for box in cloud.agent.world.boxes.values():
        if box.presence.value == "running":
            cloud.agent.lose(box.order.sandbox_id)
    await cloud.agent.start()
    await cloud.until(lambda: cloud.get(runs), lambda found: found.state is S.RUNNING and found.restarts == 1)
    assert (await cloud.get(rests)).state is S.STOPPED


async def test_stop_reaches_a_machine_that_never_heard_of_it(cloud: Cloud) -> None:
    await cloud.image()
    cloud.agent.refuse["start"] = Conflict("busy")
    box = await cloud.until_state(await cloud.create("one"), S.STARTING)
    await cloud.stop(box)
    stopped = await cloud.until_state(box, S.STOPPED)
    assert stopped.started_at is None
    with pytest.raises(Conflict, match="never run"):
        await cloud.checkpoint(box)
    del cloud.agent.refuse["start"]
    await cloud.start(box)
    await cloud.until_state(box, S.RUNNING)


async def test_delete_from_every_state(cloud: Cloud) -> None:
    await cloud.image()
    cloud.agent.refuse["start"] = Conflict("busy")
    starting = await cloud.until_state(await cloud.create("starting"), S.STARTING)
    await cloud.delete(starting)
    await cloud.until_state(starting, S.DELETED)
    cloud.agent.refuse["start"] = Invalid("no")
    failed = await cloud.until_state(await cloud.create("failed"), S.FAILED)
    await cloud.delete(failed)
    await cloud.until_state(failed, S.DELETED)
    cloud.agent.refuse.clear()
    cloud.agent.slow_s["stop"] = 30
    stopping = await cloud.until_state(await cloud.create("stopping"), S.RUNNING)
    await cloud.stop(stopping)
    await asyncio.sleep(0.2)
    await cloud.delete(stopping)
    await cloud.until_state(stopping, S.DELETED)
    assert cloud.agent.world.boxes == {}


async def test_parent_deleted_while_forks_wait_keeps_their_checkpoint(cloud: Cloud) -> None:
    await cloud.image()
    parent = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    checkpoint = await cloud.until_checkpoint(await cloud.checkpoint(parent), CheckpointState.READY)
    cloud.agent.slow_s["start"] = 0.5
    forks = await cloud.fork(parent, 2, "v1")
    await cloud.delete(parent)
    for fork in forks:
        await cloud.until_state(fork, S.RUNNING)
    await cloud.until_state(parent, S.DELETED)
    await cloud.until_checkpoint(checkpoint, CheckpointState.DELETED)
    assert cloud.agent.world.checkpoints == {}


async def test_fork_whose_checkpoint_fails_fails(cloud: Cloud) -> None:
    await cloud.image()
    parent = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    cloud.agent.refuse["checkpoint"] = Invalid("cannot freeze")
    (fork,) = await cloud.fork(parent, 1)
    failed = await cloud.until_rest(fork)
    assert failed.state is S.FAILED
    assert "cannot freeze" in (failed.reason or "")


async def test_its_policy_starts_it_again_after_a_wait_that_grows(cloud: Cloud) -> None:
    await cloud.image()
    never = await cloud.until_state(await cloud.create("never"), S.RUNNING)
    well = await cloud.until_state(await cloud.create("well", restart="on-failure"), S.RUNNING)
    ever = await cloud.until_state(await cloud.create("ever", restart="always"), S.RUNNING)
    for box, code in ((never, 1), (well, 0)):
        cloud.agent.end(box.id, code)
    assert (
        (await cloud.until_state(never, S.STOPPED)).restarts == (await cloud.until_state(well, S.STOPPED)).restarts == 0
    )
    cloud.agent.end(ever.id, 0)
    waiting = await cloud.until_state(ever, S.STARTING)
    assert (waiting.exit and waiting.exit.code, waiting.failures, waiting.restarts) == (0, 1, 1)
    assert waiting.reason == "its main process ended with code 0; it is started again in 0.5 s"
    again = await cloud.until_state(ever, S.RUNNING)
    assert (again.exit, again.reason, again.starts_at, cloud.box(ever).starts) == (None, None, None, 2)
    assert str(again.started_at) >= str(waiting.starts_at), "not before its time"
    cloud.agent.end(ever.id, 137, ExitReason.OOM)
    assert (await cloud.until(lambda: cloud.get(ever), lambda found: found.failures == 2)).state is S.STARTING
    await cloud.kill_control()
    await cloud.start_control()
    assert (await cloud.until_state(ever, S.RUNNING)).restarts == 2


async def test_one_that_waits_to_be_started_is_stopped_or_started_at_once(cloud: Cloud) -> None:
    await cloud.image()
    boxes = [await cloud.create(f"box-{number}", restart="always") for number in range(20)]
    for box in boxes:
        await cloud.until_state(box, S.RUNNING)
        async with cloud.store.write() as tx:
            await tx.sandboxes.change(await cloud.get(box), {"failures": 6})
        cloud.agent.end(box.id, 1)
    for box in boxes:
        assert (await cloud.until_state(box, S.STARTING)).failures == 7
    late = await cloud.until_state(await cloud.create("late"), S.RUNNING)
    assert cloud.box(late).starts == 1, "those that wait hide nobody, though they are more than there are hands"
    await cloud.stop(boxes[0])
    ended = await cloud.until_state(boxes[0], S.STOPPED)
    assert (ended.reason, ended.exit and ended.exit.code) == (None, 1)
    await cloud.start(boxes[0])
    assert (await cloud.until_state(boxes[0], S.RUNNING)).failures == 0


async def test_fork_names_skip_those_taken(cloud: Cloud) -> None:
    await cloud.image()
    await cloud.until_state(await cloud.create("one-2"), S.RUNNING)
    parent = await cloud.until_state(
        await cloud.create("one", labels={"a": "1"}, protected=True, hostname="first"), S.RUNNING
    )
    forks = await cloud.fork(parent, 3)
    assert [fork.name for fork in forks] == ["one-1", "one-3", "one-4"]
    assert cloud.box(parent).order.hostname == "first"
    assert {(fork.spec.protected, fork.spec.hostname) for fork in forks} == {(False, None)}
    assert forks[0].spec.labels == {"a": "1"}
    for fork in forks:
        await cloud.until_state(fork, S.RUNNING)
        order = cloud.box(fork).order
        assert (order.fork, order.hostname) == (True, fork.name)


async def test_database_older_than_the_machine_takes_up_its_generation(cloud: Cloud) -> None:
    """Restored from a backup: what runs goes on, and can be ordered again."""
    await cloud.image()
    box = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    cloud.box(box).generation = 9
    await cloud.kill_control()
    await cloud.start_control()
    await cloud.until(lambda: cloud.get(box), lambda found: found.generation == 9)
    assert cloud.box(box).starts == 1
    await cloud.stop(box)
    await cloud.until_state(box, S.STOPPED)


async def test_sleep_is_noticed_in_both_directions_and_again_by_the_next_control(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.until_rest(await cloud.create("one"))
    cloud.agent.fall_asleep(box.id)
    asleep = await cloud.until_state(box, S.ASLEEP)
    assert asleep.asleep is not None
    assert asleep.asleep.tier is Tier.WARM
    cloud.agent.fall_asleep(box.id, Tier.COLD)
    await cloud.until(lambda: cloud.get(box), lambda found: found.asleep.tier is Tier.COLD)
    await cloud.kill_control()
    cloud.agent.wake_up(box.id)
    await cloud.start_control()
    awake = await cloud.until_state(box, S.RUNNING)
    assert (awake.asleep, awake.restarts, awake.generation) == (None, 0, box.generation)
    cloud.agent.fall_asleep(box.id)
    await cloud.until_state(box, S.ASLEEP)
    cloud.agent.end(box.id, code=3)
    stopped = await cloud.until_state(box, S.STOPPED)
    assert (stopped.asleep, stopped.exit.code if stopped.exit else None) == (None, 3)


async def test_change_of_a_running_sandbox_reaches_its_machine_through_every_failure(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.until_rest(await cloud.create("one"))
    cloud.agent.faults["start"] = [Fault.BEFORE, Fault.AFTER, Fault.ERROR]
    changed = await cloud.update(box, idle="30s")
    assert (changed.generation, changed.applied) == (box.generation + 1, False)
    told = await cloud.until(lambda: cloud.get(box), lambda found: found.applied)
    assert (told.state, cloud.box(box).order.spec.idle, cloud.box(box).starts) == (S.RUNNING, 30.0, 1)


async def test_change_that_its_machine_refuses_leaves_it_running_and_says_so(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.until_rest(await cloud.create("one"))
    cloud.agent.refuse["start"] = Invalid("network.rules[0]: cannot be")
    await cloud.update(box, idle="30s")
    told = await cloud.until(lambda: cloud.get(box), lambda found: found.applied)
    assert told.state is S.RUNNING
    async with cloud.store.read() as tx:
        said = [event.message for event in await tx.events.list(PROJECT, limit=50) if event.kind == "refused"]
    assert said == ["network.rules[0]: cannot be"]


async def test_change_of_one_that_has_just_ended_by_itself_does_not_start_it_again(cloud: Cloud) -> None:
    await cloud.image()
    told = asyncio.Event()

    async def told_before_asked(request: Any, handler: Any) -> Any:
        if request.path == "/reports" and "watch" not in request.query:
            await told.wait()
        answer = await handler(request)
        if request.method == "PUT":
            told.set()
        return answer

    for name, faults in (("noticed-first", 5), ("told-first", 0)):
        box = await cloud.until_rest(await cloud.create(name))
        cloud.agent.faults["start"] = [Fault.BEFORE] * faults
        cloud.agent.between = None if faults else told_before_asked
        cloud.agent.end(box.id, code=3)
        await cloud.update(box, idle="30s")
        ended = await cloud.until_state(box, S.STOPPED)
        cloud.agent.faults["start"], cloud.agent.between = [], None
        seen = await cloud.until(lambda box=box: cloud.get(box), lambda found: found.applied)
        assert (seen.state, seen.restarts, cloud.box(box).starts) == (S.STOPPED, 0, 1)
        assert (ended.exit.code if ended.exit else None) == 3
        await cloud.start(box)
        await cloud.until_state(box, S.RUNNING)
        assert (cloud.box(box).order.spec.idle, cloud.box(box).starts) == (30.0, 2)


async def test_change_of_a_stopped_sandbox_is_told_with_its_next_start(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.until_rest(await cloud.create("one"))
    await cloud.stop(box)
    stopped = await cloud.until_state(box, S.STOPPED)
    assert (await cloud.update(stopped, idle="never")).applied is True
    await cloud.start(stopped)
    await cloud.until_state(box, S.RUNNING)
    assert cloud.box(box).order.spec.idle == "never"


async def test_what_takes_a_restart_waits_for_one(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.until_rest(await cloud.create("one", command=["sleep", "9"]))
    wanted = {"command": None, "env": {"LEVEL": "debug"}, "network": {"enabled": False}}
    with pytest.raises(RestartNeeded, match="one is running, and its command, env, network can only change while"):
        await cloud.update(box, **wanted)
    assert await cloud.get(box) == box
    assert (await cloud.update(box, command=["sleep", "9"])).generation == box.generation  # as it is already
    await cloud.stop(box)
    stopped = await cloud.until_state(box, S.STOPPED)
    changed = await cloud.update(stopped, **wanted)
    assert (changed.generation, changed.applied, changed.state) == (stopped.generation + 1, True, S.STOPPED)
    await cloud.start(stopped)
    await cloud.until_state(box, S.RUNNING)
    spec = cloud.box(box).order.spec
    assert (spec.command, spec.env, spec.network.enabled) == (None, {"LEVEL": "debug"}, False)


async def test_restore_keeps_the_spec_of_today(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.until_rest(await cloud.create("one", env={"LEVEL": "info"}))
    await cloud.until_checkpoint(await cloud.checkpoint(box), CheckpointState.READY)
    await cloud.stop(box)
    await cloud.update(await cloud.until_state(box, S.STOPPED), env={"LEVEL": "debug"})
    await cloud.restore(box, "v1")
    assert (await cloud.until_state(box, S.RUNNING)).spec.env == {"LEVEL": "debug"}
    assert cloud.box(box).order.spec.env == {"LEVEL": "debug"}


async def test_one_that_waits_to_be_started_again_can_be_stopped(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    await cloud.stop(box)
    await cloud.until_state(box, S.STOPPED)
    await cloud.kill_control()  # nobody gives it a place
    waiting = await cloud.start(box)
    assert (waiting.state, waiting.node, waiting.placed_at) == (S.PENDING, box.node, None)
    assert (await cloud.stop(waiting)).state is S.STOPPED
    assert await cloud.failed_operations() == ["sandbox.start failed sandbox.stop was asked for meanwhile"]
    await cloud.start_control()
    await cloud.start(box)
    again = await cloud.until_state(box, S.RUNNING)
    assert (again.node, again.generation) == (box.node, 5)


async def test_a_stopped_one_is_restored_through_its_queue(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    cloud.box(box).disk.append("good")
    await cloud.until_checkpoint(await cloud.checkpoint(box), CheckpointState.READY)
    cloud.box(box).disk.append("wrecked")
    await cloud.stop(box)
    await cloud.until_state(box, S.STOPPED)
    assert (await cloud.restore(box, "v1")).state is S.PENDING
    await cloud.until_state(box, S.RUNNING)
    assert cloud.box(box).disk[-1] == "good"
