"""Checkpoints, images, operations, events, keys, nodes, pruning and migrations in the database."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from skerry.errors import AlreadyExists, Failed, NotFound
from skerry.model.checkpoint import CheckpointState, Origin
from skerry.model.image import ImageState
from skerry.model.network import NetworkRequest
from skerry.model.node import Marks, Node, NodeState
from skerry.model.operation import OperationState
from skerry.model.policy import Rule
from skerry.model.sandbox import Network, S
from skerry.store import pruning
from skerry.store.changes import EVERY_EVENT
from skerry.store.database import Database
from skerry.store.keys import make_secret
from skerry.store.migrations import PLACEMENT_COLUMNS, migrate, newest_version
from skerry.store.store import Store
from skerry.store.tables import schema_version
from skerry.store.transaction import PROJECT
from tests.store.conftest import StillClock
from tests.store.records import DIGEST, add_checkpoint, add_image, add_sandbox

pytestmark = pytest.mark.anyio


async def test_checkpoint_numbers_are_never_given_twice(store: Store) -> None:
    box = await add_sandbox(store, "one", S.RUNNING)
    first, second = await add_checkpoint(store, box), await add_checkpoint(store, box)
    async with store.write() as tx:
        deleting = await tx.checkpoints.move(second, CheckpointState.DELETING, "deleting")
        assert deleting is not None
        await tx.checkpoints.move(deleting, CheckpointState.DELETED, "deleted")
    third = await add_checkpoint(store, box)
    assert [first.number, second.number, third.number] == [1, 2, 3]
    other = await add_checkpoint(store, await add_sandbox(store, "two", S.RUNNING))
    assert other.number == 1


async def test_checkpoint_references(store: Store) -> None:
    box, other = await add_sandbox(store, "one", S.RUNNING), await add_sandbox(store, "two", S.RUNNING)
    checkpoint, elsewhere = await add_checkpoint(store, box), await add_checkpoint(store, other)
    async with store.read() as tx:
        for ref in ("v1", "1", checkpoint.id, checkpoint.id[:9], checkpoint.id[3:]):
            assert (await tx.checkpoints.find_of(box.id, ref)).id == checkpoint.id
        for ref in ("v2", "0", elsewhere.id, "cp-", "x", "v", "-1", "v99999999999"):
            with pytest.raises(NotFound):
                await tx.checkpoints.find_of(box.id, ref)


async def test_checkpoint_that_a_fork_waits_for(store: Store) -> None:
    box = await add_sandbox(store, "one", S.RUNNING)
    wanted = await add_checkpoint(store, box, origin=Origin.FORK)
    unwanted = await add_checkpoint(store, box, origin=Origin.FORK)
    fork = await add_sandbox(store, "one-1", S.STARTING, source_checkpoint=wanted.id)
    async with store.read() as tx:
        assert await tx.sandboxes.waiting_for_checkpoint([wanted.id, unwanted.id]) == {wanted.id}
    async with store.write() as tx:
        await tx.sandboxes.move(fork, S.RUNNING, "running", changes={"started_at": tx.now})
    async with store.read() as tx:
        assert await tx.sandboxes.waiting_for_checkpoint([wanted.id, unwanted.id]) == set()


async def test_image_names_and_failed_ones(store: Store) -> None:
    failed = await add_image(store, "debian:12", ImageState.FAILED, digest=None)
    ready = await add_image(store, "debian:12")
    tagged = await add_image(store, "team/tools:latest")
    with pytest.raises(AlreadyExists):
        await add_image(store, "debian:12", ImageState.CREATING)
    async with store.read() as tx:
        assert (await tx.images.find("debian:12", PROJECT)).id == ready.id
        assert (await tx.images.find(failed.id, PROJECT)).id == failed.id
        assert (await tx.images.find("team/tools", PROJECT)).id == tagged.id
        assert (await tx.images.find(tagged.id[:8], PROJECT)).id == tagged.id
        for unknown in ("tools", "debian:13", "../x", "DEBIAN", ""):
            with pytest.raises(NotFound):
                await tx.images.find(unknown, PROJECT)
        assert {image.id for image in await tx.images.with_digest(DIGEST)} == {ready.id, tagged.id}


async def test_users_of_an_image(store: Store) -> None:
    await add_sandbox(store, "began", S.STOPPED, image_digest=DIGEST)
    await add_sandbox(store, "will", S.PENDING)
    async with store.read() as tx:
        assert sorted(await tx.sandboxes.users_of_image(DIGEST, "debian:12")) == ["began", "will"]
        assert await tx.sandboxes.users_of_image(None, "debian:12") == ["will"]
        assert await tx.sandboxes.users_by_digest() == {DIGEST: 1}


async def test_operation_ends_once(store: Store) -> None:
    box = await add_sandbox(store, "one")
    operation_id = box.operation or ""
    async with store.write() as tx:
        await tx.operations.progress(operation_id, {"step": "fetch", "done_bytes": 3})
        await tx.operations.finish(operation_id, "broke")
        await tx.operations.finish(operation_id, None)
        await tx.operations.progress(operation_id, {"step": "late"})
    async with store.read() as tx:
        ended = await tx.operations.find(operation_id, PROJECT)
        listed = await tx.operations.list(PROJECT, target=box.id, state=OperationState.FAILED, limit=5)
    assert (ended.state, ended.error, ended.progress["step"]) == (OperationState.FAILED, "broke", "fetch")
    assert listed.items == [ended]


async def test_watcher_of_events_misses_none(store: Store) -> None:
    """Numbers must become visible in their order: whoever has seen 7 never asks for 6 again."""
    seen: list[int] = []

    async def watch() -> None:
        with store.changes.watching(EVERY_EVENT) as changed:
            while len(seen) < 60:
                changed.clear()
                async with store.read() as tx:
                    found = await tx.events.list(PROJECT, after=seen[-1] if seen else 0, limit=100)
                seen.extend(event.sequence for event in found)
                if len(seen) < 60:
                    async with asyncio.timeout(10):
                        await changed.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        for number in range(60):
            group.create_task(add_sandbox(store, f"box-{number}"))
    assert len(set(seen)) == 60
    assert seen == sorted(seen)


async def test_events_are_filtered(store: Store) -> None:
    one = await add_sandbox(store, "one")
    await add_image(store, "debian:12")
    async with store.read() as tx:
        assert [event.name for event in await tx.events.list(PROJECT, noun="image", limit=5)] == ["debian:12"]
        (event,) = await tx.events.list(PROJECT, target=one.id, limit=5)
        assert (event.kind, event.name, event.at) == ("created", "one", tx.now)
        assert await tx.events.newest() == 2


async def test_keys_are_kept_hashed(store: Store, clock: StillClock) -> None:
    secret = make_secret(b"\1" * 32)
    async with store.write() as tx:
        key = await tx.keys.create("ci", PROJECT, secret)
    with pytest.raises(AlreadyExists):
        async with store.write() as tx:
            await tx.keys.create("ci", PROJECT, make_secret(b"\2" * 32))
    clock.move(90)
    async with store.write() as tx:
        await tx.keys.used(key.id)
    async with store.read() as tx:
        found = await tx.keys.with_secret(secret)
        assert found is not None
        assert (found.id, found.last_used_at) == (key.id, tx.now)
        assert await tx.keys.with_secret(secret[:-1] + "0") is None
        assert await tx.keys.with_secret("") is None
        listed = await tx.keys.list(PROJECT, limit=5)
        rows = str((await tx.connection.exec_driver_sql("SELECT * FROM keys")).all())
    assert [each.name for each in listed.items] == ["ci"]
    assert secret not in rows
    assert secret.removeprefix("sk_") not in rows
    async with store.write() as tx:
        assert await tx.keys.delete(key)
        assert not await tx.keys.delete(key)


async def test_node_is_written_by_who_saw_it_last(store: Store, clock: StillClock) -> None:
    node = Node(
        id="node-1",
        name="here",
        state=NodeState.READY,
        agent_socket="/run/a.sock",
        cpu=2,
        memory_bytes=1,
        disk_bytes=1,
        seen_at=clock.now(),
    )
    lost = node.model_copy(update={"state": NodeState.UNREACHABLE})
    async with store.write() as tx:
        assert await tx.nodes.put(node, None)
        assert await tx.nodes.put(lost, node)
        assert not await tx.nodes.put(lost, node)
    async with store.read() as tx:
        assert await tx.nodes.all() == [lost]
        assert await tx.nodes.by_socket("/run/a.sock") == lost
        assert await tx.nodes.by_socket("/other") is None


async def test_what_was_set_of_a_node_outlives_what_its_agent_says(store: Store, clock: StillClock) -> None:
    said = Node(
        id="node-1",
        name="here",
        state=NodeState.READY,
        agent_socket="/run/a.sock",
        cpu=2,
        memory_bytes=1,
        disk_bytes=1,
        own_labels={"rack": "a", "disk": "ssd"},
        own_taints=["gpu=only"],
        seen_at=clock.now(),
    )
    async with store.write() as tx:
        await tx.nodes.put(said, None)
        found = await tx.nodes.find("here")
        marks = Marks(labels={"rack": "b"}, taints={"team": "x"}, cordoned=True, draining=True)
        assert await tx.nodes.mark(found, marks, "draining") is not None
        assert await tx.nodes.mark(found, Marks(), "uncordoned") is None
    heard = said.model_copy(update={"cpu": 4, "own_labels": {"rack": "a"}})
    async with store.write() as tx:
        assert await tx.nodes.put(heard, said)
    async with store.read() as tx:
        [node] = await tx.nodes.all()
        assert (await tx.nodes.find("node-1")).node == node
        with pytest.raises(NotFound):
            await tx.nodes.find("node-2")
    assert (node.cpu, node.labels, node.taints) == (4, {"rack": "b"}, ["gpu=only", "team=x"])
    assert (node.own_labels, node.cordoned, node.draining, node.accepts) == ({"rack": "a"}, True, True, False)


async def test_tombstones_are_forgotten_by_age_and_number(
    store: Store, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "TOMBSTONES_MAX", 3)
    alive = await add_sandbox(store, "alive", S.RUNNING)
    for number in range(6):
        if number == 1:
            clock.move(pruning.TOMBSTONE_S_MAX)
        box = await add_sandbox(store, f"gone-{number}", S.DELETING)
        async with store.write() as tx:
            await tx.sandboxes.move(box, S.DELETED, "deleted")
        clock.move(1)
    async with store.write() as tx:
        await tx.pruning.tombstones()
    async with store.read() as tx:
        left = await tx.sandboxes.list(PROJECT, state=S.DELETED, limit=10)
        assert await tx.sandboxes.get(alive.id) is not None
    assert [sandbox.name for sandbox in left.items] == ["gone-3", "gone-4", "gone-5"]


async def test_events_and_operations_are_capped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "EVENTS_MAX", 4)
    monkeypatch.setattr(pruning, "OPERATIONS_MAX", 2)
    boxes = [await add_sandbox(store, f"box-{number}") for number in range(6)]
    async with store.write() as tx:
        for box in boxes[1:]:
            await tx.operations.finish(box.operation or "", None)
    async with store.write() as tx:
        await tx.pruning.events()
        await tx.pruning.operations()
    async with store.read() as tx:
        assert [event.sequence for event in await tx.events.list(PROJECT, limit=10)] == [3, 4, 5, 6]
        kept = [operation.target for operation in (await tx.operations.list(PROJECT, limit=10)).items]
    assert kept == [boxes[0].id, boxes[4].id, boxes[5].id]  # the first still runs


async def test_migration_is_repeatable_and_refuses_a_newer_database(database_url: str) -> None:
    database = Database(database_url)
    try:
        assert await migrate(database) == newest_version()
        assert await migrate(database) == newest_version()
        async with database.writing() as connection:
            await connection.execute(schema_version.insert().values(version=99))
        with pytest.raises(Failed, match="newer Skerry"):
            await migrate(database)
    finally:
        await database.close()


async def make_first_version(connection: AsyncConnection) -> None:
    """Take away from the newest tables what the first version's lacked."""
    for index, column in (
        ("sandboxes_unapplied", "applied"),
        ("sandboxes_publishing", "ports"),
        ("sandboxes_networked", "networks"),
        ("sandboxes_mounting", "volumes"),
        ("sandboxes_secrets", "secrets"),
        ("sandboxes_service", "service"),
        ("sandboxes_models", "models"),
    ):
        await connection.execute(text(f"DROP INDEX {index}"))
        await connection.execute(text(f"ALTER TABLE sandboxes DROP COLUMN {column}"))
    for table, column in (
        ("sandboxes", "queue"),
        ("sandboxes", "owner"),
        ("sandboxes", "asks"),
        ("nodes", "marks"),
        ("nodes", "marked"),
    ):
        await connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
    for index in ("sandboxes_job", "sandboxes_evicted"):
        await connection.execute(text(f"DROP INDEX {index}"))
    for column in PLACEMENT_COLUMNS:
        await connection.execute(text(f"ALTER TABLE sandboxes DROP COLUMN {column.split()[0]}"))
    of_services = (
        "services",
        "service_revisions",
        "tokens",
        "usage",
        "usage_reports",
        "taken",
        "held",
        "traffic_reports",
        "set_aside",
    )
    for table in (
        "networks",
        "volumes",
        "models",
        "secrets",
        "queues",
        "stays",
        "jobs",
        "tasks",
        "notices",
        *of_services,
    ):
        await connection.execute(text(f"DROP TABLE {table}"))
    await connection.execute(schema_version.delete())
    await connection.execute(schema_version.insert().values(version=1))


async def test_a_database_of_the_first_version_is_brought_to_this_one(database_url: str) -> None:
    database = Database(database_url)
    try:
        await migrate(database)
        async with database.writing() as connection:
            await make_first_version(connection)
        assert await migrate(database) == newest_version()
    finally:
        await database.close()
    store = Store(database_url, StillClock())
    await store.open()
    try:
        made = await add_sandbox(store, "one", S.RUNNING, applied=False)
        async with store.read() as tx:
            assert [box.id for box in await tx.sandboxes.unapplied(10, [])] == [made.id]
            assert await tx.sandboxes.unapplied(10, [made.id]) == []
            assert await tx.sandboxes.held_ports() == []
            assert await tx.sandboxes.members() == {}
            assert await tx.sandboxes.users_of_volumes() == {}
            assert (await tx.volumes.list(PROJECT, limit=10)).items == []
            assert await tx.sandboxes.users_of_models() == {}
            assert (await tx.models.list(PROJECT, limit=10)).items == []
        async with store.write() as tx:
            request = NetworkRequest(name="backend", subnet="10.77.0.0/24")
            network = await tx.networks.create(request, PROJECT)
            secret = await tx.secrets.set("token", PROJECT, b"v", None, lambda value, _: value.decode())
        async with store.read() as tx:
            assert await tx.networks.all() == [network]
            assert await tx.secrets.named(["token"], PROJECT) == {"token": secret}
    finally:
        await store.close()


async def test_ranges_of_an_older_database_become_rules(database_url: str) -> None:
    store = Store(database_url, StillClock())
    await store.open()
    box = await add_sandbox(store, "one", S.RUNNING)
    plain = await add_sandbox(store, "two", S.RUNNING)
    checkpoint = await add_checkpoint(store, box)
    await store.close()
    database = Database(database_url)
    try:
        async with database.writing() as connection:
            for table, record in (("sandboxes", box), ("checkpoints", checkpoint)):
                body = json.loads(record.model_dump_json())
                body["spec"]["network"] = {"enabled": True, "allow": ["10.1.0.0/16", "fd00::/8"]}
                where = {"body": json.dumps(body), "id": record.id}
                await connection.execute(text(f"UPDATE {table} SET body = :body WHERE id = :id"), where)
            await make_first_version(connection)
    finally:
        await database.close()
    store = Store(database_url, StillClock())
    await store.open()
    try:
        async with store.read() as tx:
            found = [await tx.sandboxes.get(box.id), await tx.checkpoints.get(checkpoint.id)]
            assert await tx.sandboxes.get(plain.id) == plain
        for record in found:
            assert record is not None
            assert record.spec.network == Network(rules=[Rule(cidr="10.1.0.0/16")])
    finally:
        await store.close()


async def test_two_programs_migrate_at_once(database_url: str) -> None:
    databases = [Database(database_url), Database(database_url)]
    try:
        assert await asyncio.gather(*(migrate(each) for each in databases)) == [newest_version()] * 2
    finally:
        for each in databases:
            await each.close()
