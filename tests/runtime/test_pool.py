"""The pool on a real btrfs in a loop file: limits hold, verbs are whole, a killed agent leaves nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path

import pytest

from skerry.errors import Failed, Invalid, NoRoom, NotFound
from skerry.runtime.container import btrfs, loop
from skerry.runtime.container.pool import FOLDERS, Pool
from skerry.runtime.container.syscalls import unshare_mount_namespace

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

MIB = 1024**2
POOL_BYTES = 512 * MIB
DIGEST = "sha256:" + "a" * 64
Use = Callable[[Pool], Coroutine[None, None, None]]


@pytest.fixture(scope="module", autouse=True)
def _own_mounts() -> None:
    unshare_mount_namespace()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    assert attached_to(tmp_path / "pool.img") == [], "the loop device outlived its pool"


def pool_in(home: Path, *, reserve_bytes: int = 16 * MIB, size_bytes: int | None = POOL_BYTES) -> Pool:
    return Pool(
        pool_path=None,
        loop_file=home / "pool.img",
        mount_point=home / "mnt",
        size_bytes=size_bytes,
        reserve_bytes=reserve_bytes,
    )


def using(pool: Pool, use: Use) -> None:
    async def run() -> None:
        await pool.open()
        try:
            await use(pool)
        finally:
            await pool.close()

    asyncio.run(run())


def attached_to(file: Path) -> list[str]:
    return subprocess.run(["losetup", "-j", file], capture_output=True, text=True, check=True).stdout.splitlines()


def unpack_of(files: dict[str, bytes]) -> Callable[[Path], Awaitable[None]]:
    async def unpack(folder: Path) -> None:
        for name, data in files.items():
            (folder / name).write_bytes(data)

    return unpack


async def with_disk(pool: Pool, sandbox_id: str = "sb-1", limit_bytes: int | None = None) -> Path:
    await pool.import_image(DIGEST, unpack_of({"origin": b"image"}))
    await pool.create_disk(sandbox_id, DIGEST, None, limit_bytes)
    return pool.disk_path(sandbox_id)


def fill(file: Path, length_bytes: int) -> int | None:
    """Write that much; the errno that stopped it."""
    with file.open("wb", buffering=0) as opened:
        for _ in range(length_bytes // MIB):
            try:
                opened.write(os.urandom(MIB))
            except OSError as error:
                return error.errno
        try:
            os.fsync(opened.fileno())
        except OSError as error:
            return error.errno
    return None


async def emptied(folder: Path) -> None:
    async with asyncio.timeout(30):
        while os.listdir(folder):  # noqa: ASYNC110 — nobody tells us
            await asyncio.sleep(0.01)


def test_an_image_is_whole_read_only_and_unpacked_once(home: Path) -> None:
    calls: list[Path] = []

    async def unpack(folder: Path) -> None:
        calls.append(folder)
        await asyncio.sleep(0.01)
        (folder / "one").write_bytes(b"x" * 100_000)
        os.link(folder / "one", folder / "same")

    async def use(pool: Pool) -> None:
        sizes = await asyncio.gather(pool.import_image(DIGEST, unpack), pool.import_image(DIGEST, unpack))
        assert len(calls) == 1
        assert sizes[0] == sizes[1]
        assert 100_000 <= sizes[0] < 110_000, "a file with two names counts once"
        assert await pool.images() == [DIGEST]
        with pytest.raises(OSError, match="Read-only"):
            (pool.image_path(DIGEST) / "two").touch()
        await pool.delete_image(DIGEST)
        await pool.delete_image(DIGEST)
        assert await pool.images() == []
        with pytest.raises(NotFound):
            pool.image_path(DIGEST)

    using(pool_in(home), use)


@pytest.mark.parametrize("how", ["failure", "cancel"])
def test_an_interrupted_import_leaves_nothing(home: Path, how: str) -> None:
    async def unpack(folder: Path) -> None:
        (folder / "half").write_bytes(b"x" * 100)
        if how == "failure":
            raise NotFound("the registry went away")
        await asyncio.sleep(60)

    async def use(pool: Pool) -> None:
        task = asyncio.create_task(pool.import_image(DIGEST, unpack))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, NotFound)):
            await task
        assert os.listdir(home / "mnt/incoming") == []
        await emptied(home / "mnt/trash")
        assert await pool.images() == []

    using(pool_in(home), use)


def test_a_disk_comes_from_one_source_and_is_made_once(home: Path) -> None:
    async def use(pool: Pool) -> None:
        disk = await with_disk(pool)
        (disk / "mine").write_text("kept")
        assert await pool.create_disk("sb-1", DIGEST, None, 10 * MIB) is False
        assert (disk / "mine").read_text() == "kept"
        with pytest.raises(NotFound):
            await pool.create_disk("sb-2", "sha256:none", None, None)
        with pytest.raises(NotFound):
            await pool.create_disk("sb-2", None, "cp-none", None)
        assert await pool.disks() == ["sb-1"]
        with pytest.raises(NotFound):
            pool.disk_path("sb-2")

    using(pool_in(home), use)


def test_a_disk_limit_holds_for_root_and_hurts_nobody_else(home: Path) -> None:
    async def use(pool: Pool) -> None:
        full = await with_disk(pool, "sb-full", 20 * MIB)
        other = await with_disk(pool, "sb-other", 20 * MIB)
        assert fill(full / "big", 40 * MIB) == errno.EDQUOT
        assert fill(other / "small", 8 * MIB) is None
        await pool.set_limit("sb-full", 60 * MIB)  # works through a full disk
        assert fill(full / "more", 8 * MIB) is None
        (full / "big").unlink()
        (full / "more").unlink()
        btrfs.sync(full)
        assert await pool.disk_usage("sb-full") < MIB
        assert 8 * MIB <= await pool.disk_usage("sb-other") < 10 * MIB

    using(pool_in(home), use)


def test_a_volume_is_limited_copied_and_resized_down_to_what_it_holds(home: Path) -> None:
    async def use(pool: Pool) -> None:
        await pool.create_volume("vol-1", None, 32 * MIB)
        volume = pool.volume_path("vol-1")
        assert (volume.stat().st_uid, stat.S_IMODE(volume.stat().st_mode)) == (0, 0o755)
        assert fill(volume / "data", 64 * MIB) == errno.EDQUOT
        (volume / "data").unlink()
        assert fill(volume / "data", 20 * MIB) is None
        with pytest.raises(Invalid, match=r"holds 20\.\dMiB"):
            await pool.resize_volume("vol-1", 16 * MIB)
        await pool.resize_volume("vol-1", 24 * MIB)
        assert fill(volume / "more", 8 * MIB) == errno.EDQUOT
        await pool.create_volume("vol-2", "vol-1", 24 * MIB)
        assert fill(pool.volume_path("vol-2") / "other", 32 * MIB) == errno.EDQUOT
        await pool.create_volume("vol-3", "vol-1", None, readonly=True)
        with pytest.raises(OSError, match="Read-only"):
            (pool.volume_path("vol-3") / "data").unlink()
        for name in ("vol-1", "vol-2", "vol-3"):
            await pool.delete_volume(name)
        assert await pool.volumes() == {}
        with pytest.raises(NoRoom):
            await pool_in(home, reserve_bytes=POOL_BYTES).create_volume("vol-4", None, 32 * MIB)

    using(pool_in(home), use)


def test_what_a_checkpoint_keeps_is_charged_to_its_sandbox_and_a_fork_starts_at_nothing(home: Path) -> None:
    async def use(pool: Pool) -> None:
        if pool.quota == "full":
            pytest.skip("full quotas count what is shared as well")
        disk = await with_disk(pool, limit_bytes=40 * MIB)
        assert fill(disk / "data", 16 * MIB) is None
        await pool.snapshot("sb-1", "cp-1")
        (disk / "data").unlink()
        btrfs.sync(disk)
        assert await pool.disk_usage("sb-1") >= 16 * MIB
        await pool.create_disk("sb-fork", None, "cp-1", 20 * MIB)
        assert await pool.disk_usage("sb-fork") < MIB
        assert fill(pool.disk_path("sb-fork") / "new", 16 * MIB) is None
        assert fill(pool.disk_path("sb-fork") / "newer", 16 * MIB) == errno.EDQUOT

    using(pool_in(home), use)


def test_a_checkpoint_is_read_only_and_repeating_it_changes_nothing(home: Path) -> None:
    async def use(pool: Pool) -> None:
        disk = await with_disk(pool)
        (disk / "state").write_text("first")
        await pool.snapshot("sb-1", "cp-1")
        (disk / "state").write_text("second")
        await pool.snapshot("sb-1", "cp-1")
        await pool.flush("sb-1")
        kept = pool.checkpoint_path("cp-1")
        assert (kept / "state").read_text() == "first"
        with pytest.raises(OSError, match="Read-only"):
            (kept / "state").write_text("third")
        assert await pool.checkpoints() == ["cp-1"]
        await pool.delete_checkpoint("cp-1")
        await pool.delete_checkpoint("cp-1")
        assert await pool.checkpoints() == []
        await emptied(home / "mnt/trash")

    using(pool_in(home), use)


def test_a_restore_is_never_between_two_disks(home: Path) -> None:
    missing: list[str] = []
    done = threading.Event()

    def watch(marker: Path) -> None:
        while not done.is_set():
            if not marker.exists():
                missing.append("the disk was not there")

    async def use(pool: Pool) -> None:
        disk = await with_disk(pool)
        await pool.snapshot("sb-1", "cp-1")
        watcher = threading.Thread(target=watch, args=(disk / "origin",))
        watcher.start()
        try:
            for _ in range(20):
                (disk / "wreck").write_text("wrecked")
                await pool.restore("sb-1", "cp-1", 20 * MIB)
                assert not (disk / "wreck").exists()
        finally:
            done.set()
            watcher.join()
        assert missing == []
        assert fill(disk / "big", 40 * MIB) == errno.EDQUOT, "the new disk has the limit too"
        with pytest.raises(NotFound):
            await pool.restore("sb-1", "cp-none", None)
        assert os.listdir(home / "mnt/incoming") == []

    using(pool_in(home), use)


def test_a_deleted_disk_goes_whatever_the_guest_made_of_it(home: Path) -> None:
    async def use(pool: Pool) -> None:
        disk = await with_disk(pool)
        (disk / "stubborn").touch()
        subprocess.run(["chattr", "+i", disk / "stubborn"], check=True)
        (disk / "deep").mkdir()
        btrfs.subvolume_create(disk / "deep/nested")
        btrfs.subvolume_create(disk / "deep/nested/further")
        btrfs.set_readonly(disk / "deep/nested", readonly=True)
        btrfs.set_readonly(disk, readonly=True)
        await pool.delete_disk("sb-1")
        assert await pool.disks() == []
        await emptied(home / "mnt/trash")

    using(pool_in(home), use)


def test_a_killed_agent_leaves_nothing_half_done(home: Path) -> None:
    """The child dies in the middle of an import while a sandbox of its goes on using the pool."""
    script = f"""
import asyncio, os, subprocess, sys
from pathlib import Path
from skerry.runtime.container import btrfs
from skerry.runtime.container.pool import Pool
from skerry.runtime.container.syscalls import unshare_mount_namespace
async def unpack(folder):
    (folder / "origin").write_bytes(b"image")
async def hang(folder):
    (folder / "half").touch()
    btrfs.subvolume_create(Path({str(home)!r}, "mnt/trash/dead"))
    disk = pool.disk_path("sb-1")
    subprocess.Popen(["sleep", "30"], cwd=disk, stdout=subprocess.DEVNULL)
    print("hanging", flush=True)
    await asyncio.sleep(60)
async def main():
    await pool.open()
    await pool.import_image("sha256:one", unpack)
    await pool.create_disk("sb-1", "sha256:one", None, None)
    await pool.import_image("sha256:two", hang)
unshare_mount_namespace()
pool = Pool(pool_path=None, loop_file=Path({str(home)!r}, "pool.img"), mount_point=Path({str(home)!r}, "mnt"),
            size_bytes={POOL_BYTES}, reserve_bytes=0)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, process_group=0) as agent:
        assert agent.stdout is not None
        try:
            assert agent.stdout.readline() == b"hanging\n"
            agent.kill()
            agent.wait()

            async def use(pool: Pool) -> None:
                assert len(attached_to(home / "pool.img")) == 1, "one file on two devices would be destroyed"
                assert await pool.images() == ["sha256:one"]
                assert await pool.disks() == ["sb-1"]
                assert (pool.disk_path("sb-1") / "origin").read_bytes() == b"image"
                assert os.listdir(home / "mnt/incoming") == os.listdir(home / "mnt/trash") == []

            using(pool_in(home), use)
        finally:
            os.killpg(agent.pid, 9)  # the sandbox
    deadline_s = time.monotonic() + 30
    while attached_to(home / "pool.img") and time.monotonic() < deadline_s:
        time.sleep(0.05)


def test_opening_twice_is_fine_and_a_pool_can_grow(home: Path) -> None:
    async def use(pool: Pool) -> None:
        disk = await with_disk(pool)
        await pool.open()
        assert disk.is_dir()
        assert (await pool.room())[0] == POOL_BYTES

    using(pool_in(home), use)

    async def bigger(pool: Pool) -> None:
        assert (await pool.room())[0] == 2 * POOL_BYTES
        assert await pool.disks() == ["sb-1"]

    using(pool_in(home, size_bytes=2 * POOL_BYTES), bigger)


def test_an_account_that_goes_while_it_is_looked_at_is_gone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer kernels forget the account of a deleted disk by themselves, at a moment of their own."""

    async def use(pool: Pool) -> None:
        for filesystem in list(btrfs.SYSFS.iterdir()):
            (tmp_path / "sysfs" / filesystem.name / "qgroups/0_9999").mkdir(parents=True)
        monkeypatch.setattr(btrfs, "SYSFS", tmp_path / "sysfs")
        assert btrfs.drop_empty_qgroups((await with_disk(pool)).parent, set()) == 0

    using(pool_in(home), use)


def test_below_its_reserve_nothing_is_made_but_what_frees_room(home: Path) -> None:
    async def use(pool: Pool) -> None:
        disk = await with_disk(pool)
        await pool.snapshot("sb-1", "cp-1")
        full = pool_in(home, reserve_bytes=POOL_BYTES)
        for attempt in (full.create_disk("sb-2", DIGEST, None), full.snapshot("sb-1", "cp-2")):
            with pytest.raises(NoRoom) as refused:
                await attempt
            assert refused.value.retry_after_s
        (disk / "junk").touch()
        await full.restore("sb-1", "cp-1", None)
        assert not (disk / "junk").exists()

    using(pool_in(home), use)


def test_a_btrfs_folder_can_be_given_in_place_of_a_file(home: Path, tmp_path: Path) -> None:
    async def use(outer: Pool) -> None:
        given = tmp_path / "mnt/given"
        given.mkdir()
        pool = Pool(
            pool_path=given, loop_file=home / "none.img", mount_point=home / "bound", size_bytes=None, reserve_bytes=0
        )
        await pool.open()
        await with_disk(pool, limit_bytes=16 * MIB)
        assert sorted(os.listdir(given)) == sorted(FOLDERS)
        assert fill(pool.disk_path("sb-1") / "big", 32 * MIB) == errno.EDQUOT
        await pool.close()
        assert os.listdir(home / "bound") == []
        assert not (home / "none.img").exists()

    using(pool_in(home), use)


def test_what_cannot_work_is_said_with_what_mends_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    not_btrfs = Pool(
        pool_path=Path("/proc"), loop_file=home / "x", mount_point=home / "m", size_bytes=None, reserve_bytes=0
    )
    with pytest.raises(Failed, match="SKERRY_POOL_PATH"):
        asyncio.run(not_btrfs.open())
    with pytest.raises(NoRoom, match="SKERRY_POOL_SIZE"):
        asyncio.run(pool_in(home, size_bytes=1 << 50).open())
    assert not (home / "pool.img").exists()
    assert not (home / "pool.img.new").exists()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Failed, match="root"):
        asyncio.run(pool_in(home).open())


def test_the_default_size_is_a_quarter_within_bounds() -> None:
    gib = 1024**3
    assert loop.default_size_bytes(80 * gib) == 20 * gib
    assert loop.default_size_bytes(5 * gib) == 4 * gib
    assert loop.default_size_bytes(8000 * gib) == 256 * gib
