"""Be a user of a running sandbox, for file work: one thread that has taken that user's ids and sees the guest's root.

What such a thread opens, makes or removes is judged by the kernel as if the user did it: mode bits, read-only mounts,
the disk's quota and who owns what is made. The agent's own rights are gone from the thread for good, so that nothing
the guest puts in the way (a link, a device, a name that is swapped meanwhile) leads further than the user could go.
Root of the sandbox keeps the rights over files that it has inside, and those alone.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from skerry.errors import Conflict, Unsupported
from skerry.runtime.container.guest_tree import GuestTree
from skerry.runtime.container.oci import Identity
from skerry.runtime.container.processes import uid_base_of
from skerry.runtime.container.syscalls import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

T = TypeVar("T")

UMASK = 0o022
CLONE_FS = 0x200
_PR_SET_KEEPCAPS = 8
_CAPABILITY_VERSION = 0x2008_0522
FILE_CAPABILITIES = (0, 1, 3, 4)
"""CHOWN, DAC_OVERRIDE, FOWNER, FSETID: what root of a sandbox may do to its files. The kernel grants them over files
whose owner has an id, and what a sandbox's root cannot reach (another's disk) is not below its root."""
WITHIN = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS

# setgroups, setresgid, setresuid: the C library's own calls change every thread of the process.
_CALLS = {"x86_64": (116, 119, 117), "aarch64": (159, 149, 147)}
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class GuestIds:
    """`base` is what the host adds to every id of the sandbox."""

    base: int
    who: Identity


class GuestUser:
    """Functions given to `do` run in the thread, one after the other. Close it when its connection ends; it closes
    itself when the sandbox stops, since what runs there afterwards has another root."""

    @classmethod
    async def enter(cls, pid: int, user: str) -> GuestUser:
        """`pid`: the sandbox's main process, which nobody else has waited for yet. Raises Conflict when it has just
        ended, Invalid when the sandbox has no such user."""
        if platform.machine() not in _CALLS:
            raise Unsupported(f"files over SSH are not served on {platform.machine()}")
        root, ids, pidfd = await asyncio.to_thread(_look, pid, user)
        return cls(root, ids, pidfd)

    def __init__(self, root: int, ids: GuestIds, pidfd: int) -> None:
        """Takes over both descriptors; `pidfd` is of the main process."""
        self.ids = ids
        self._root = root
        self._pidfd = pidfd
        self._thread = ThreadPoolExecutor(1, "guest-user", initializer=_become, initargs=(ids,))
        asyncio.get_running_loop().add_reader(pidfd, self.close)
        self._files: set[int] = set()
        self._closed = False

    async def do(self, work: Callable[[int], T]) -> T:
        """`work` gets a descriptor of the guest's root. Raises what it raises, and Conflict once this is closed."""
        if self._closed:
            raise Conflict("the sandbox was stopped")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._root)

    async def open(self, work: Callable[[int], int]) -> int:
        """As `do`, for work that opens a file: it is closed by `release`, or at the latest with this."""
        return await self.do(lambda root: self._keep(work(root)))

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def open_count(self) -> int:
        return len(self._files)

    def release(self, fd: int) -> None:
        """Once nothing that was given to the thread uses it any more."""
        if not self._closed and fd in self._files:
            self._files.discard(fd)
            self._thread.submit(os.close, fd)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._thread.submit(self._close_all)
        self._thread.shutdown(wait=False)

    def _keep(self, fd: int) -> int:
        self._files.add(fd)
        return fd

    def _close_all(self) -> None:
        """The last that the thread does: until now something before it may have used, or opened, one of these."""
        for fd in (self._root, *self._files):
            os.close(fd)


def _look(pid: int, user: str) -> tuple[int, GuestIds, int]:
    path = Path(f"/proc/{pid}/root")
    opened: list[int] = []
    try:
        opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        opened.append(os.pidfd_open(pid))
        base = uid_base_of(pid)
        if base is None:
            raise ProcessLookupError
        with GuestTree(path) as tree:
            who = tree.identity(user, field="user")
    except BaseException as error:
        for fd in opened:
            os.close(fd)
        if isinstance(error, OSError):
            raise Conflict("the sandbox has just stopped", because=str(error)) from None
        raise
    return opened[0], GuestIds(base, who), opened[1]


def _become(ids: GuestIds) -> None:
    """Only the calling thread; there is no way back."""
    setgroups, setresgid, setresuid = _CALLS[platform.machine()]
    uid, gid = ids.base + ids.who.uid, ids.base + ids.who.gid
    groups = [ids.base + group for group in ids.who.groups]
    _check(_LIBC.unshare(CLONE_FS))  # a umask of its own
    os.umask(UMASK)
    _check(_LIBC.syscall(setgroups, len(groups), (ctypes.c_uint32 * len(groups))(*groups)))
    _check(_LIBC.syscall(setresgid, gid, gid, gid))
    is_root = ids.who.uid == 0
    if is_root:
        _check(_LIBC.prctl(_PR_SET_KEEPCAPS, ctypes.c_ulong(1), 0, 0, 0))
    _check(_LIBC.syscall(setresuid, uid, uid, uid))
    kept = sum(1 << number for number in FILE_CAPABILITIES) if is_root else 0
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _check(_LIBC.capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)))  # effective, permitted, inheritable


def _check(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def within(root: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open by a name as the guest would find it; links lead where they lead inside, and never out."""
    return openat2(root, path, flags, mode, WITHIN)
