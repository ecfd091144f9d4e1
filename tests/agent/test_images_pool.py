"""Images in the real pool: unpacked into a subvolume, and a commit that shares its blocks with the sandbox's disk."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import tarfile
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from skerry.agent.images.catalog import ImageEntry
from skerry.agent.images.store import ImageStore
from skerry.errors import SkerryError
from skerry.runtime.container.pool import Pool
from skerry.runtime.container.syscalls import unshare_mount_namespace
from skerry.runtime.contract import Runtime
from tests.agent.images_machine import Told, describe, entry, small_rootfs, tar_folder, tar_of, write_layout

pytestmark = pytest.mark.system

MIB = 1024**2
WORK_BYTES = 64 * MIB


class PoolRuntime(Pool):
    """Nothing runs, so a checkpoint is a snapshot."""

    async def checkpoint(self, sandbox_id: str, checkpoint_id: str) -> float:
        await self.snapshot(sandbox_id, checkpoint_id)
        return 0.0


async def _load(store: ImageStore, layout: Path, archive: Path) -> ImageEntry:
    async def chunks() -> AsyncIterator[bytes]:
        yield tar_folder(layout, archive).read_bytes()

    upload = await store.receive("im-1", chunks(), None)
    try:
        return await store.load(upload, Told())
    finally:
        await upload.close()


async def _life(folder: Path) -> None:
    pool = PoolRuntime(
        pool_path=None,
        loop_file=folder / "pool.img",
        mount_point=folder / "pool",
        size_bytes=512 * MIB,
        reserve_bytes=MIB,
    )
    await pool.open()
    store = ImageStore(runtime=cast(Runtime, pool), data_dir=folder / "data", digest_of_sandbox=lambda _: first.digest)
    await store.open()
    write_layout(folder / "layout", [small_rootfs()])
    first = await _load(store, folder / "layout", folder / "image.tar")
    assert (pool.image_path(first.digest) / "home/me/file").stat().st_uid == 1000

    escape = tar_of(entry("etc/x"), entry(".wh..."), entry("d", type=tarfile.SYMTYPE, linkname="/"))
    write_layout(folder / "hostile", [small_rootfs(), escape])
    with pytest.raises(SkerryError):
        await _load(store, folder / "hostile", folder / "hostile.tar")
    assert {one.name for one in (folder / "pool").iterdir()} >= {"images", "disks", "checkpoints", "incoming", "trash"}
    assert list((folder / "pool/incoming").iterdir()) == []

    await pool.create_disk("sb-1", first.digest, None)
    (pool.disk_path("sb-1") / "work").write_bytes(os.urandom(WORK_BYTES))
    subprocess.run(["sync", "-f", pool.disk_path("sb-1")], check=True)
    _, before_bytes = await pool.room()
    second = await store.commit("im-2", "sb-1", "", Told())
    subprocess.run(["sync", "-f", pool.disk_path("sb-1")], check=True)
    _, after_bytes = await pool.room()
    assert before_bytes - after_bytes < WORK_BYTES // 4  # shared, not copied
    assert second.config == first.config
    assert describe(pool.image_path(second.digest)) == describe(pool.disk_path("sb-1"))
    assert await pool.checkpoints() == []

    await store.delete(first.digest)
    assert await pool.images() == [second.digest]
    await store.close()
    await pool.close()


def _in_own_namespace(folder: Path) -> None:
    unshare_mount_namespace()
    try:
        asyncio.run(_life(folder))
    except BaseException:
        traceback.print_exc()
        raise SystemExit(1) from None


def test_images_live_in_the_pool(tmp_path: Path) -> None:
    agent = multiprocessing.get_context("spawn").Process(target=_in_own_namespace, args=(tmp_path,))
    agent.start()
    agent.join(60)
    assert agent.exitcode == 0
    listed = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in listed
    (tmp_path / "pool.img").unlink()
