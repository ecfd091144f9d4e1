"""Volumes in the database: whose a name is, who mounts what, and when an operation on one has ended."""

from __future__ import annotations

import os
from typing import Any

import pytest

from skerry.errors import AlreadyExists
from skerry.model.identity import make_id
from skerry.model.operation import OperationState
from skerry.model.sandbox import S
from skerry.model.volume import Volume, VolumeState
from skerry.store.store import Store
from skerry.store.transaction import PROJECT, Transaction
from tests.store.records import add_sandbox

pytestmark = pytest.mark.anyio
_V = VolumeState


async def add_volume(tx: Transaction, name: str, state: VolumeState = _V.READY, **fields: Any) -> Volume:
    volume_id = make_id("volume", os.urandom(6))
    operation = tx.operations.new("volume.create", volume_id, PROJECT)
    volume = Volume(
        id=volume_id,
        project=PROJECT,
        name=name,
        state=state,
        size_bytes=1 << 30,
        operation=operation.id,
        created_at=tx.now,
        updated_at=tx.now,
        **fields,
    )
    await tx.volumes.insert([volume], [operation])
    return volume


async def test_a_name_is_free_again_when_its_volume_goes_or_could_not_be_made(store: Store) -> None:
    async with store.write() as tx:
        first = await add_volume(tx, "data")
        await add_volume(tx, "broken", _V.FAILED, reason="no room")
        await add_volume(tx, "broken")
        assert [volume.name for volume in await tx.volumes.failed_named("broken", PROJECT)] == ["broken"]
    with pytest.raises(AlreadyExists):
        async with store.write() as tx:
            await add_volume(tx, "data", _V.RESIZING)
    async with store.write() as tx:
        assert await tx.volumes.move(first, _V.DELETING, "deleting") is not None
        second = await add_volume(tx, "data")
        assert (await tx.volumes.find("data", PROJECT)).id == second.id
        assert await tx.volumes.count_living() == 4


async def test_volumes_are_listed_by_label_and_by_the_beginning_of_their_name(store: Store) -> None:
    async with store.write() as tx:
        await tx.volumes.lock_all()
        await add_volume(tx, "data-1", labels={"a": "1", "b": "2"})
        copy = await add_volume(tx, "data-2", _V.CREATING, labels={"a": "1"}, source="vol-000000000001")
        await add_volume(tx, "other", labels={"a": "2"})
    async with store.read() as tx:

        async def names(**filters: Any) -> list[str]:
            return [volume.name for volume in (await tx.volumes.list(PROJECT, limit=10, **filters)).items]

        assert await names(labels={"a": "1"}) == ["data-1", "data-2"]
        assert await names(labels={"a": "1", "b": "2"}) == ["data-1"]
        assert await names(name="data") == ["data-1", "data-2"]
        assert [volume.id for volume in await tx.volumes.copies_under_way("vol-000000000001")] == [copy.id]
        assert await tx.volumes.copies_under_way(copy.id) == []


async def test_users_are_all_that_are_not_deleted(store: Store) -> None:
    for state in (S.RUNNING, S.STOPPED, S.FAILED, S.DELETING, S.DELETED):
        await add_sandbox(store, state.value, state, volumes={"data": "vol-1", "more": "vol-2"})
    await add_sandbox(store, "without", S.RUNNING)
    async with store.read() as tx:
        users = await tx.sandboxes.users_of_volumes()
    assert users == {key: ["running", "stopped", "failed", "deleting"] for key in ("vol-1", "vol-2")}


async def test_a_refused_resize_fails_its_operation_and_not_the_volume(store: Store) -> None:
    async with store.write() as tx:
        volume = await add_volume(tx, "data")
        operation = tx.operations.new("volume.resize", volume.id, PROJECT)
        resizing = await tx.volumes.move(volume, _V.RESIZING, "resizing", operation=operation)
        assert resizing is not None
        settled = await tx.volumes.move(resizing, _V.READY, "resize refused", changes={"reason": "it holds more"})
        assert settled is not None
        found = await tx.operations.find(operation.id, PROJECT)
    assert (found.state, found.error) == (OperationState.FAILED, "it holds more")
