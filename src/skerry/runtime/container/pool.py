"""Where disks live: images, disks, checkpoints, volumes as subvolumes of one btrfs, each verb whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

from skerry.errors import Failed, Invalid, NoRoom, NotFound
from skerry.model.amounts import format_size
from skerry.runtime.container import btrfs, loop
from skerry.runtime.container.syscalls import (
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NOSUID,
    MS_REMOUNT,
    exchange,
    mount,
    umount,
)

MIB = 1024**2
LOW_ROOM_RETRY_S = 30.0
"""A caller that got NoRoom may come again after this; deleted disks are really gone by then."""
CLEANING_WAIT_S = 0.5
CLOSE_WAIT_S = 10.0
FOLDERS = ("images", "disks", "checkpoints", "volumes", "incoming", "trash")

log = logging.getLogger(__name__)


class Pool:
    """All names are given by the caller and safe as file names; a digest's `:` is written `-`.

    incoming/ holds what is being made and trash/ what is being deleted: both are emptied by open(), so whatever a
    crash left half done is gone. Nothing else is ever half done: a snapshot appears whole, a restore swaps two names.
    """

    def __init__(
        self, *, pool_path: Path | None, loop_file: Path, mount_point: Path, size_bytes: int | None, reserve_bytes: int
    ) -> None:
        self._given = pool_path
        self._loop_file = loop_file
        self._root = mount_point
        self._size_bytes = size_bytes
        self._reserve_bytes = reserve_bytes
        self._imports: dict[str, asyncio.Lock] = {}
        self._deleting = asyncio.Lock()  # one thread at a time is enough for deletions
        self._tasks: set[asyncio.Task[None]] = set()
        self.quota: btrfs.QuotaKind = "simple"

    async def open(self) -> None:
        """Mount the pool, making it first if there is none. Call it in the agent's own mount namespace."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        if os.geteuid() != 0:
            raise Failed("the pool can only be opened by root: run `sudo skerry serve`")
        self._root.mkdir(parents=True, exist_ok=True)
        if self._given is not None:
            self._bind(self._given)
        else:
            self._mount_loop()
        try:
            self.quota = btrfs.enable_quota(self._root)
        except OSError as error:
            raise Failed("btrfs quotas could not be switched on for the pool", because=str(error)) from None
        for name in FOLDERS:
            folder = self._root / name
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)  # disks hold files that are set-uid inside their sandbox
        for name in ("incoming", "trash"):
            for entry in self._names(name):
                self._erase(self._root / name / entry)
        if self._given is None:  # accounts on somebody else's filesystem are not ours to judge
            alive = (self._root / name / entry for name in FOLDERS for entry in self._names(name))
            keep = {btrfs.subvolume_id(path) for path in alive if btrfs.is_subvolume(path)}
            btrfs.drop_empty_qgroups(self._root, keep)

    def _mount_loop(self) -> None:
        grown = loop.make_file(self._loop_file, self._size_bytes)
        with loop.attached(self._loop_file) as device:
            self._unmount()
            try:
                # nodiscard: a discard would punch holes into the file and so give up what was allocated in advance.
                mount(device, self._root, "btrfs", MS_NOATIME | MS_NODEV, "nodiscard")
            except OSError as error:
                if error.errno == errno.ENODEV:
                    raise Failed("this kernel has no btrfs: run `modprobe btrfs`", because=str(error)) from None
                raise Failed(f"the pool {self._loop_file} cannot be mounted", because=str(error)) from None
            if grown or self._size_bytes is not None:
                btrfs.resize_to_device(self._root)

    def _bind(self, given: Path) -> None:
        if not given.is_dir() or not btrfs.is_btrfs(given):
            raise Failed(
                f"{given} is not a folder on btrfs: unset SKERRY_POOL_PATH to use a file, or run "
                f"`mkfs.btrfs DEVICE && mount DEVICE {given}`"
            )
        self._unmount()
        mount(given, self._root, None, MS_BIND)
        mount(None, self._root, None, MS_REMOUNT | MS_BIND | MS_NODEV | MS_NOSUID | MS_NOATIME)

    def _unmount(self) -> None:
        """What an earlier open() in this mount namespace left; running sandboxes hold their own view of it."""
        while os.path.ismount(self._root) and umount(self._root, lazy=True):
            pass

    async def close(self) -> None:
        """Unmount; running sandboxes keep their disks, and with the last of them the loop device goes too."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_WAIT_S)
        await asyncio.to_thread(self._unmount)

    # Images

    async def import_image(self, digest: str, unpack: Callable[[Path], Awaitable[None]]) -> int:
        """Let `unpack` fill an empty folder, then publish it read-only under its digest; its size in bytes."""
        async with self._imports.setdefault(digest, asyncio.Lock()):
            target = self._image(digest)
            if target.exists():
                return await asyncio.to_thread(_tree_bytes, target)
            await self._require_room()
            draft = self._incoming(target.name)
            try:
                btrfs.subvolume_create(draft)
                draft.chmod(0o755)
                await unpack(draft)
                size_bytes = await asyncio.to_thread(_tree_bytes, draft)
                # The snapshot is what makes it durable, read-only and visible, in one step.
                await self._snapshot(draft, target, readonly=True)
                return size_bytes
            except OSError as error:
                raise _translated(error) from error
            finally:
                self._discard(draft)

    def _image(self, digest: str) -> Path:
        return self._root / "images" / digest.replace(":", "-", 1)

    def image_path(self, digest: str) -> Path:
        return self._existing(self._image(digest), f"no image {digest} on this machine")

    async def images(self) -> list[str]:
        return sorted(name.replace("-", ":", 1) for name in self._names("images"))

    async def delete_image(self, digest: str) -> None:
        self._discard(self._image(digest))

    # Disks

    async def create_disk(
        self, sandbox_id: str, source_image: str | None, source_checkpoint: str | None, limit_bytes: int | None = None
    ) -> bool:
        """A writable copy of exactly one source; False if the sandbox has its disk already."""
        if source_image is None and source_checkpoint is None:
            raise ValueError("a disk needs an image or a checkpoint to start from")
        target = self._root / "disks" / sandbox_id
        made = False
        # The source is looked for only when it is needed: a fork's checkpoint may be gone when the fork starts again.
        if not target.exists():
            image = self.image_path(source_image) if source_image is not None else None
            source = image or self.checkpoint_path(str(source_checkpoint))
            await self._require_room()
            made = await self._snapshot(source, target, readonly=False)
        if limit_bytes is not None:
            await self.set_limit(sandbox_id, limit_bytes)
        return made

    async def set_limit(self, sandbox_id: str, limit_bytes: int | None) -> None:
        """What the sandbox may write on top of what it started from."""
        btrfs.set_limit(self.disk_path(sandbox_id), limit_bytes)

    def disk_path(self, sandbox_id: str) -> Path:
        return self._existing(self._root / "disks" / sandbox_id, f"sandbox {sandbox_id} has no disk")

    async def disks(self) -> list[str]:
        return self._names("disks")

    async def delete_disk(self, sandbox_id: str) -> None:
        self._discard(self._root / "disks" / sandbox_id)

    async def disk_usage(self, sandbox_id: str) -> int:
        """Bytes charged to the sandbox, by the kernel's count of some seconds ago."""
        return btrfs.usage_bytes(self.disk_path(sandbox_id))

    # Checkpoints

    async def flush(self, sandbox_id: str) -> None:
        """Write out what this disk has in memory, and only this one, so that a snapshot right after it is quick."""
        scratch = self._incoming(sandbox_id)
        await self._snapshot(self.disk_path(sandbox_id), scratch, readonly=False)
        self._discard(scratch)

    async def snapshot(self, sandbox_id: str, checkpoint_id: str) -> None:
        target = self._root / "checkpoints" / checkpoint_id
        if not target.exists():
            source = self.disk_path(sandbox_id)
            await self._require_room()
            await self._snapshot(source, target, readonly=True)

    def checkpoint_path(self, checkpoint_id: str) -> Path:
        return self._existing(self._root / "checkpoints" / checkpoint_id, f"no checkpoint {checkpoint_id} here")

    async def checkpoints(self) -> list[str]:
        return self._names("checkpoints")

    async def delete_checkpoint(self, checkpoint_id: str) -> None:
        self._discard(self._root / "checkpoints" / checkpoint_id)

    async def restore(self, sandbox_id: str, checkpoint_id: str, limit_bytes: int | None) -> None:
        """Swap the disk of a stopped sandbox for a copy of the checkpoint. Allowed when room is low: it frees some."""
        source = self.checkpoint_path(checkpoint_id)
        disk = self._root / "disks" / sandbox_id
        fresh = self._incoming(sandbox_id)
        try:
            await self._snapshot(source, fresh, readonly=False)
            btrfs.set_limit(fresh, limit_bytes)
            try:
                exchange(fresh, disk)
            except FileNotFoundError:
                os.rename(fresh, disk)  # it never got a disk
            await _to_the_end(lambda: _flush_folder(disk.parent))
        finally:
            self._discard(fresh)

    # Volumes

    async def create_volume(
        self, volume_id: str, source: str | None, limit_bytes: int | None, *, readonly: bool = False
    ) -> None:
        """An empty folder of the guests' root, or a copy of another; the limit is set last, and again if repeated."""
        target = self._root / "volumes" / volume_id
        if not target.exists():
            origin = self.volume_path(source) if source is not None else None
            await self._require_room()
            if origin is not None:
                await self._snapshot(origin, target, readonly=readonly)
            else:
                await self._empty_volume(target)
        if limit_bytes is not None:
            btrfs.set_limit(target, limit_bytes)

    async def _empty_volume(self, target: Path) -> None:
        draft = self._incoming(target.name)
        try:
            btrfs.subvolume_create(draft)
            draft.chmod(0o755)
            await self._snapshot(draft, target, readonly=False)  # durable and visible, in one step
        except OSError as error:
            raise _translated(error) from error
        finally:
            self._discard(draft)

    async def resize_volume(self, volume_id: str, limit_bytes: int) -> None:
        path = self.volume_path(volume_id)
        await asyncio.to_thread(btrfs.sync, self._root)  # what is not written yet is not counted yet
        used_bytes = btrfs.usage_bytes(path)
        if used_bytes > limit_bytes:
            raise Invalid(f"size: the volume holds {format_size(used_bytes)} already", field="size")
        btrfs.set_limit(path, limit_bytes)

    def volume_path(self, volume_id: str) -> Path:
        return self._existing(self._root / "volumes" / volume_id, f"this machine has no volume {volume_id}")

    async def volumes(self) -> dict[str, int]:
        """Id -> bytes charged to it, by the kernel's count of some seconds ago."""
        return {name: btrfs.usage_bytes(self._root / "volumes" / name) for name in self._names("volumes")}

    async def delete_volume(self, volume_id: str) -> None:
        self._discard(self._root / "volumes" / volume_id)

    async def room(self) -> tuple[int, int]:
        """(bytes in all, bytes free)."""
        room = os.statvfs(self._root)
        return room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize

    # Inside

    async def _require_room(self) -> None:
        for is_last in (False, True):
            _, free_bytes = await self.room()
            if free_bytes >= self._reserve_bytes:
                return
            if not is_last:  # the kernel may not have come to freeing what was deleted: this wakes it
                await asyncio.to_thread(btrfs.sync, self._root)
                await asyncio.sleep(CLEANING_WAIT_S)
        raise NoRoom(
            f"the disk pool has {free_bytes // MIB} MiB left and keeps {self._reserve_bytes // MIB} MiB in reserve: "  # pyright: ignore[reportPossiblyUnbound]
            "delete checkpoints, sandboxes or images, or raise pool_size",
            retry_after_s=LOW_ROOM_RETRY_S,
        )

    async def _snapshot(self, source: Path, target: Path, *, readonly: bool) -> bool:
        try:
            await _to_the_end(lambda: btrfs.snapshot(source, target, readonly=readonly))
        except FileExistsError:
            return False
        except OSError as error:
            raise _translated(error) from error
        return True

    def _existing(self, path: Path, otherwise: str) -> Path:
        if not path.is_dir():
            raise NotFound(otherwise)
        return path

    def _names(self, folder: str) -> list[str]:
        return sorted(os.listdir(self._root / folder))

    def _incoming(self, name: str) -> Path:
        return self._root / "incoming" / f"{name}.{secrets.token_hex(4)}"

    def _discard(self, path: Path) -> None:
        """Gone from its place at once, deleted in the background: that takes up to 0.1 s for a tree in use."""
        grave = self._root / "trash" / f"{path.name}.{secrets.token_hex(4)}"
        try:
            os.rename(path, grave)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            btrfs.set_readonly(path, readonly=False)  # the kernel does not move a read-only subvolume
            os.rename(path, grave)
        task = asyncio.get_running_loop().create_task(self._bury(grave))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bury(self, grave: Path) -> None:
        async with self._deleting:
            await asyncio.to_thread(self._erase, grave)

    def _erase(self, path: Path) -> None:
        """A failure is left for the next open(): what is in trash/ harms nobody."""
        try:
            if btrfs.is_subvolume(path):
                btrfs.subvolume_delete(path)
            else:
                subprocess.run(["rm", "-rf", "--one-file-system", "--", os.fspath(path)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            log.warning("could not delete %s: %s", path, error)


async def _to_the_end(work: Callable[[], None]) -> None:
    """In a thread; a caller that is cancelled goes on only when it has ended, so that it can clean up after it."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _translated(error: OSError) -> NoRoom | Failed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom("the disk pool is full", because=str(error), retry_after_s=LOW_ROOM_RETRY_S)
    return Failed("the disk pool refused", because=str(error))


def _flush_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _tree_bytes(top: Path) -> int:
    """Disk blocks below a folder, a file with several names once."""
    total = 0
    seen: set[int] = set()
    folders: list[str] = [os.fspath(top)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            total += sum(_entry_bytes(entry, seen, folders) for entry in entries)
    return total


def _entry_bytes(entry: os.DirEntry[str], seen: set[int], folders: list[str]) -> int:
    about = entry.stat(follow_symlinks=False)
    if entry.is_dir(follow_symlinks=False):
        folders.append(entry.path)
    elif about.st_nlink > 1:
        if about.st_ino in seen:
            return 0
        seen.add(about.st_ino)
    return about.st_blocks * 512
