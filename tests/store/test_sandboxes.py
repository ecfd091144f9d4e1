"""Sandboxes in the database: guarded moves, references, names, filters, paging."""

from __future__ import annotations

import asyncio

import pytest

from skerry.errors import AlreadyExists, Conflict, IllegalMove, Invalid, NotFound
from skerry.model.operation import OperationState
from skerry.model.sandbox import S, Sandbox
from skerry.store.store import Store
from skerry.store.transaction import PROJECT
from tests.store.records import add_sandbox

pytestmark = pytest.mark.anyio


async def get(store: Store, sandbox: Sandbox) -> Sandbox:
    async with store.read() as tx:
        found = await tx.sandboxes.get(sandbox.id)
    assert found is not None
    return found


async def test_record_comes_back_as_it_was_put(store: Store) -> None:
    put = await add_sandbox(store, "one", spec={"labels": {"a/b": "c"}, "memory": "64MiB", "env": {"X": "ü\n'\""}})
    assert await get(store, put) == put


async def test_ports_are_held_by_those_that_run_or_will(store: Store) -> None:
    def ports(number: int) -> dict[str, object]:
        return {"ports": [{"host": number, "guest": 80}, {"host": number, "guest": 53, "protocol": "udp"}]}

    for number, state in enumerate(S, 8000):
        await add_sandbox(store, f"box-{state.value}", state, spec=ports(number))
    await add_sandbox(store, "none", S.RUNNING)
    async with store.write() as tx:
        held = await tx.sandboxes.held_ports()
    free = {"stopped", "failed", "deleting", "deleted"}
    wanted = {f"box-{state.value}": number for number, state in enumerate(S, 8000) if state.value not in free}
    assert sorted((name, str(port)) for _, name, port in held) == sorted(
        (name, f"127.0.0.1:{number}{protocol}") for name, number in wanted.items() for protocol in ("", "/udp")
    )


async def test_move_writes_state_operation_and_event_together(store: Store) -> None:
    box = await add_sandbox(store, "one")
    async with store.write() as tx:
        starting = await tx.sandboxes.move(box, S.STARTING, "placed", changes={"node": "node-1"})
        assert starting is not None
        assert await tx.sandboxes.move(starting, S.RUNNING, "running", changes={"address": "10.0.0.2"}) is not None
    async with store.read() as tx:
        operation = await tx.operations.find(box.operation or "", PROJECT)
        events = await tx.events.list(PROJECT, target=box.id, limit=10)
    assert operation.state is OperationState.SUCCEEDED
    assert operation.finished_at is not None
    assert [event.kind for event in events] == ["created", "placed", "running"]


async def test_arriving_in_failure_fails_the_operation_with_the_reason(store: Store) -> None:
    box = await add_sandbox(store, "one")
    async with store.write() as tx:
        await tx.sandboxes.move(box, S.FAILED, "failed", changes={"reason": "no such image"})
    async with store.read() as tx:
        operation = await tx.operations.find(box.operation or "", PROJECT)
    assert (operation.state, operation.error) == (OperationState.FAILED, "no such image")


async def test_new_operation_ends_the_one_it_replaces(store: Store) -> None:
    box = await add_sandbox(store, "one")
    async with store.write() as tx:
        deleting = tx.operations.new("sandbox.delete", box.id, PROJECT)
        moved = await tx.sandboxes.move(box, S.DELETING, "deleting", operation=deleting, changes={"generation": 2})
    assert moved is not None
    assert moved.operation == deleting.id
    async with store.read() as tx:
        replaced = await tx.operations.find(box.operation or "", PROJECT)
    assert replaced.state is OperationState.FAILED
    assert "sandbox.delete" in (replaced.error or "")


async def test_outdated_writer_changes_nothing(store: Store) -> None:
    box = await add_sandbox(store, "one", S.STARTING)
    async with store.write() as tx:
        await tx.sandboxes.move(box, S.STOPPING, "stopping", changes={"generation": 2})
    async with store.write() as tx:
        assert await tx.sandboxes.move(box, S.RUNNING, "running") is None
    now = await get(store, box)
    assert (now.state, now.generation) == (S.STOPPING, 2)
    async with store.read() as tx:
        assert "running" not in [event.kind for event in await tx.events.list(PROJECT, target=box.id, limit=10)]


async def test_same_state_of_another_generation_is_outdated_too(store: Store) -> None:
    first = await add_sandbox(store, "one", S.RUNNING)
    async with store.write() as tx:
        again = await tx.sandboxes.move(first, S.STARTING, "lost", changes={"generation": 2})
        assert again is not None
        await tx.sandboxes.move(again, S.RUNNING, "running")
    async with store.write() as tx:
        assert await tx.sandboxes.move(first, S.STOPPED, "stopped") is None


async def test_missing_arrow_is_refused_before_the_database(store: Store) -> None:
    box = await add_sandbox(store, "one", S.STOPPED)
    with pytest.raises(IllegalMove, match="from stopped to running"):
        async with store.write() as tx:
            await tx.sandboxes.move(box, S.RUNNING, "running")


async def test_late_writer_keeps_what_others_changed_meanwhile(store: Store) -> None:
    box = await add_sandbox(store, "one", S.STARTING)
    async with store.write() as tx:
        await tx.sandboxes.change(
            box, lambda fresh: {"name": "two", "spec": fresh.spec.model_copy(update={"labels": {"x": "y"}})}
        )
    async with store.write() as tx:
        await tx.sandboxes.move(box, S.RUNNING, "running", changes={"address": "10.0.0.2"})
    now = await get(store, box)
    assert (now.name, now.spec.labels, now.address, now.state) == ("two", {"x": "y"}, "10.0.0.2", S.RUNNING)


async def test_raising_leaves_nothing_and_tells_nobody(store: Store) -> None:
    told: list[object] = []
    store.changes.listen(told.append)
    await add_sandbox(store, "taken")
    told.clear()

    async def half_done() -> None:
        async with store.write() as tx:
            await tx.operations.insert([tx.operations.new("x", "sb-000000000000", PROJECT)])
            await tx.sandboxes.insert([(await tx.sandboxes.find("taken", PROJECT)).model_copy(update={"id": "x"})], [])

    with pytest.raises(AlreadyExists):
        await half_done()
    async with store.read() as tx:
        assert (await tx.operations.list(PROJECT, target="sb-000000000000", limit=5)).items == []
    assert told == []
    await add_sandbox(store, "after")  # the connection was given back clean
    assert len(told) == 2


async def test_name_is_taken_until_deletion_begins(store: Store) -> None:
    box = await add_sandbox(store, "one")
    with pytest.raises(AlreadyExists, match="one is taken"):
        await add_sandbox(store, "one")
    async with store.write() as tx:
        await tx.sandboxes.move(box, S.DELETING, "deleting")
    second = await add_sandbox(store, "one")
    async with store.read() as tx:
        assert (await tx.sandboxes.find("one", PROJECT)).id == second.id
        assert (await tx.sandboxes.find(box.id, PROJECT)).state is S.DELETING


async def test_rename_to_a_taken_name_is_refused(store: Store) -> None:
    await add_sandbox(store, "one")
    two = await add_sandbox(store, "two")
    with pytest.raises(AlreadyExists):
        async with store.write() as tx:
            await tx.sandboxes.change(two, {"name": "one"})
    assert (await get(store, two)).name == "two"


async def test_two_creates_of_one_name_at_once_make_one(store: Store) -> None:
    done = await asyncio.gather(*(add_sandbox(store, "one") for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(each, Sandbox) for each in done) == 1
    assert sum(isinstance(each, Conflict) for each in done) == 7


async def test_two_movers_at_once_one_wins(store: Store) -> None:
    box = await add_sandbox(store, "one", S.STARTING)

    async def take(to: S) -> Sandbox | None:
        async with store.write() as tx:
            return await tx.sandboxes.move(box, to, to.value, changes={"reason": to.value})

    done = await asyncio.gather(*(take(to) for to in [S.RUNNING, S.FAILED] * 4))
    assert sum(each is not None for each in done) == 1


async def test_find_by_id_prefix_and_name(store: Store) -> None:
    first = await add_sandbox(store, "alpha", id="sb-abcd00000001")
    await add_sandbox(store, "beta", id="sb-abcd00000002")
    await add_sandbox(store, "abcd", id="sb-ffff00000003")
    async with store.read() as tx:
        find = tx.sandboxes.find
        assert (await find("sb-abcd00000001", PROJECT)) == first
        assert (await find("abcd00000001", PROJECT)) == first
        assert (await find("alpha", PROJECT)) == first
        assert (await find("sb-ffff", PROJECT)).name == "abcd"
        assert (await find("abcd", PROJECT)).name == "abcd"  # a name goes before a beginning
        with pytest.raises(Conflict, match=r"sb-abcd00000002 \(beta\), sb-abcd00000001 \(alpha\)"):
            await find("sb-abcd", PROJECT)
        for unknown in ("sb-abc", "nothing", "sb-abcd00000009", "%", "sb-", "", "x" * 300):
            with pytest.raises(NotFound):
                await find(unknown, PROJECT)


async def test_tombstone_is_told_by_id_only(store: Store) -> None:
    box = await add_sandbox(store, "one", S.DELETING)
    async with store.write() as tx:
        await tx.sandboxes.move(box, S.DELETED, "deleted")
    async with store.read() as tx:
        with pytest.raises(NotFound, match="was deleted"):
            await tx.sandboxes.find(box.id, PROJECT)
        with pytest.raises(NotFound, match="there is no sandbox 'one'"):
            await tx.sandboxes.find("one", PROJECT)


async def test_list_filters(store: Store) -> None:
    parent = await add_sandbox(store, "web-1", S.RUNNING, spec={"labels": {"team": "a", "dots.in/key": "x"}})
    await add_sandbox(store, "web-2", S.STOPPED, spec={"labels": {"team": "a"}}, parent=parent.id)
    await add_sandbox(store, "db-1", S.RUNNING, spec={"labels": {"team": 'quo"te'}})
    gone = await add_sandbox(store, "gone", S.DELETING)
    async with store.write() as tx:
        await tx.sandboxes.move(gone, S.DELETED, "deleted")

    async def names(**filters: object) -> list[str]:
        async with store.read() as tx:
            found = await tx.sandboxes.list(PROJECT, limit=10, **filters)  # type: ignore[arg-type]
        return [sandbox.name for sandbox in found.items]

    assert await names() == ["web-1", "web-2", "db-1"]
    assert await names(state=S.RUNNING) == ["web-1", "db-1"]
    assert await names(state=S.DELETED) == ["gone"]
    assert await names(labels={"team": "a"}) == ["web-1", "web-2"]
    assert await names(labels={"team": "a", "dots.in/key": "x"}) == ["web-1"]
    assert await names(labels={"team": 'quo"te'}) == ["db-1"]
    assert await names(labels={"none": "x"}) == []
    assert await names(name="web") == ["web-1", "web-2"]
    assert await names(name="w_b") == []
    assert await names(parent=parent.id) == ["web-2"]
    assert await names(image="debian:12", name="db") == ["db-1"]


async def test_pages_in_order_of_creation_whatever_happens_between(store: Store) -> None:
    made = [await add_sandbox(store, f"box-{number}") for number in range(7)]
    seen: list[str] = []
    token = None
    while True:
        async with store.read() as tx:
            page = await tx.sandboxes.list(PROJECT, limit=3, page_token=token)
        seen += [sandbox.name for sandbox in page.items]
        token = page.next_page_token
        if token is None:
            break
        async with store.write() as tx:  # one that was seen goes, one appears at the end
            await tx.sandboxes.move(made[len(seen) - 2], S.DELETING, "deleting")
        await add_sandbox(store, f"late-{len(seen)}")
    assert seen == [*(f"box-{number}" for number in range(7)), "late-3", "late-6"]
    async with store.read() as tx:
        for bad in ("x", "YWZ0ZXI6LTE", "YWZ0ZXI6", "ä"):
            with pytest.raises(Invalid, match="page_token"):
                await tx.sandboxes.list(PROJECT, limit=3, page_token=bad)


async def test_usage_counts_promises_of_those_with_processes(store: Store) -> None:
    big = {"cpu": 2, "memory": "1GiB"}
    await add_sandbox(store, "runs", S.RUNNING, node="node-1", spec=big)
    await add_sandbox(store, "stops", S.STOPPING, node="node-1", spec=big)
    await add_sandbox(store, "stopped", S.STOPPED, node="node-1", spec=big)
    await add_sandbox(store, "waits", S.PENDING, spec=big)
    async with store.read() as tx:
        assert await tx.sandboxes.usage() == {"node-1": (4.0, 2 * 1024**3, 3)}
