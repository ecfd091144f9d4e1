"""A sandbox's control group: who is in it, what it used, and how to freeze, kill and remove it, on cgroup v1 and v2."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from skerry.errors import Failed, TooLarge
from skerry.model.amounts import format_size

FREEZE_WAIT_S = 1.0
"""After this a snapshot is taken although some process is stuck in the kernel: it is atomic anyway."""
KILL_WAIT_S = 10.0
REMOVE_WAIT_S = 2.0
"""The kernel refuses to remove a group for a moment after its last process has gone."""
POLL_S = 0.001
USEC, NSEC = 1e-6, 1e-9
UNIFIED = "unified"


@dataclass(frozen=True)
class GroupUsage:
    cpu_s: float = 0.0
    memory_bytes: int = 0
    """Without file cache that the kernel can drop at once."""
    memory_peak_bytes: int = 0
    oom_kills: int = 0
    pids: int = 0


@dataclass(frozen=True)
class Ceilings:
    cpu_quota_us: int
    """Of processor time in each period."""
    cpu_period_us: int
    memory_bytes: int
    """Swap included: there is none besides."""
    pids: int


class Cgroups(Protocol):
    """All verbs are quiet about a group, or a part of one, that does not exist."""

    def path(self, name: str) -> str:
        """As the OCI configuration names it."""
        ...

    def names(self) -> list[str]: ...
    def pids(self, name: str) -> list[int]: ...
    def exists(self, name: str) -> bool: ...
    def usage(self, name: str) -> GroupUsage: ...
    def oom_kills(self, name: str) -> int: ...
    def dirty_bytes(self, name: str) -> int:
        """Written by the sandbox and not yet on disk."""
        ...

    async def freeze(self, name: str) -> bool:
        """False when some process could not be frozen in time."""
        ...

    def thaw(self, name: str) -> None: ...
    def squeeze(self, name: str) -> None:
        """Have the kernel drop what it can of the group's memory; takes as long as it takes."""
        ...

    def limit(self, name: str, held: Ceilings) -> None:
        """As crun did when it made the group; takes as long as the kernel needs to drop cached files. Raises TooLarge
        when more memory is in use: then all is set but that."""
        ...

    async def kill(self, name: str) -> None:
        """Until nobody is left; raises Failed when a process cannot be killed."""
        ...

    async def remove(self, name: str) -> None: ...
    async def remove_parent(self) -> None:
        """The group of all our groups, if it is empty."""
        ...


def detect(instance: str, root: Path = Path("/sys/fs/cgroup")) -> Cgroups:
    """The version this machine's controllers are on."""
    parent = f"skerry-{instance}"
    if (root / "cgroup.controllers").exists():
        return CgroupsV2(root, parent)
    if (root / "freezer").is_dir():
        return CgroupsV1(root, parent)
    raise Failed(
        "no cgroup hierarchy with a freezer was found: run `mount -t cgroup2 none /sys/fs/cgroup`",
        because=f"looked in {root}",
    )


class CgroupsV1:
    """One tree per controller; the group has the same path in each."""

    version = 1

    def __init__(self, root: Path, parent: str) -> None:
        self._root = root
        self._parent = parent

    def path(self, name: str) -> str:
        return f"/{self._parent}/{name}"

    def names(self) -> list[str]:
        return sorted({name for parent in self._trees() for name in _folders(parent)})

    def pids(self, name: str) -> list[int]:
        return _pids(self._folder("freezer", name) / "cgroup.procs")

    def exists(self, name: str) -> bool:
        return any((parent / name).is_dir() for parent in self._trees())

    def oom_kills(self, name: str) -> int:
        return _fields(self._folder("memory", name) / "memory.oom_control").get("oom_kill", 0)

    def dirty_bytes(self, name: str) -> int:
        found = _fields(self._folder("memory", name) / "memory.stat")
        return found.get("total_dirty", 0) + found.get("total_writeback", 0)

    def usage(self, name: str) -> GroupUsage:
        memory = self._folder("memory", name)
        cache = _fields(memory / "memory.stat").get("total_inactive_file", 0)
        return GroupUsage(
            cpu_s=_number(self._folder("cpuacct", name) / "cpuacct.usage") * NSEC,
            memory_bytes=max(0, _number(memory / "memory.usage_in_bytes") - cache),
            memory_peak_bytes=_number(memory / "memory.max_usage_in_bytes"),
            oom_kills=self.oom_kills(name),
            pids=_number(self._folder("pids", name) / "pids.current"),
        )

    async def freeze(self, name: str) -> bool:
        state = self._folder("freezer", name) / "freezer.state"
        return await _freeze(state, "FROZEN", lambda: _text(state) in ("FROZEN\n", ""))

    def thaw(self, name: str) -> None:
        _write(self._folder("freezer", name) / "freezer.state", "THAWED")

    def squeeze(self, name: str) -> None:
        _write(self._folder("memory", name) / "memory.force_empty", "0")

    def limit(self, name: str, held: Ceilings) -> None:
        _write(self._folder("cpu", name) / "cpu.cfs_quota_us", str(held.cpu_quota_us))
        _write(self._folder("pids", name) / "pids.max", str(held.pids))
        memory = self._folder("memory", name)
        # Swap's limit counts memory too and is never below memory's. Without swap accounting there is none.
        files = [memory / "memory.limit_in_bytes", memory / "memory.memsw.limit_in_bytes"]
        if held.memory_bytes > _number(files[0]):
            files.reverse()
        for file in files:
            if not _write(file, str(held.memory_bytes)):
                raise _too_little(self.usage(name), held)

    async def kill(self, name: str) -> None:
        # A process that crun is just moving in is in some trees and not yet in others.
        self.thaw(name)
        await _kill_all(lambda: {pid for tree in self._trees() for pid in _pids(tree / name / "cgroup.procs")})

    async def remove(self, name: str) -> None:
        for parent in self._trees():
            await _remove(parent / name)
        self._remove_shadow(name)

    async def remove_parent(self) -> None:
        if not self.names():
            for parent in self._trees():
                _remove_now(parent)
            self._remove_shadow()

    def _remove_shadow(self, *name: str) -> None:
        """crun 1.8 also makes the group below where an empty v2 hierarchy was mounted before the agent took it away:
        as plain folders and files, which nobody else would remove."""
        if not os.path.ismount(self._root / UNIFIED):
            shutil.rmtree(self._root.joinpath(UNIFIED, self._parent, *name), ignore_errors=True)

    def _trees(self) -> list[Path]:
        found = (name for name in _folders(self._root) if name != UNIFIED)
        return [parent for name in found if (parent := self._root / name / self._parent).is_dir()]

    def _folder(self, controller: str, name: str) -> Path:
        return self._root / controller / self._parent / name


class CgroupsV2:
    version = 2

    def __init__(self, root: Path, parent: str) -> None:
        self._root = root
        self._parent = parent

    def path(self, name: str) -> str:
        return f"/{self._parent}/{name}"

    def names(self) -> list[str]:
        return sorted(_folders(self._root / self._parent))

    def pids(self, name: str) -> list[int]:
        return _pids(self._folder(name) / "cgroup.procs")

    def exists(self, name: str) -> bool:
        return self._folder(name).is_dir()

    def oom_kills(self, name: str) -> int:
        return _fields(self._folder(name) / "memory.events").get("oom_kill", 0)

    def dirty_bytes(self, name: str) -> int:
        found = _fields(self._folder(name) / "memory.stat")
        return found.get("file_dirty", 0) + found.get("file_writeback", 0)

    def usage(self, name: str) -> GroupUsage:
        group = self._folder(name)
        memory_bytes = _number(group / "memory.current")
        cache = _fields(group / "memory.stat").get("inactive_file", 0)
        return GroupUsage(
            cpu_s=_fields(group / "cpu.stat").get("usage_usec", 0) * USEC,
            memory_bytes=max(0, memory_bytes - cache),
            memory_peak_bytes=_number(group / "memory.peak") or memory_bytes,  # memory.peak: Linux 5.19
            oom_kills=self.oom_kills(name),
            pids=_number(group / "pids.current"),
        )

    async def freeze(self, name: str) -> bool:
        group = self._folder(name)
        return await _freeze(
            group / "cgroup.freeze", "1", lambda: _fields(group / "cgroup.events").get("frozen", 1) == 1
        )

    def thaw(self, name: str) -> None:
        _write(self._folder(name) / "cgroup.freeze", "0")

    def squeeze(self, name: str) -> None:
        group = self._folder(name)
        _write(group / "memory.reclaim", str(_number(group / "memory.current")))  # Linux 5.19; no file before

    def limit(self, name: str, held: Ceilings) -> None:
        group = self._folder(name)
        _write(group / "cpu.max", f"{held.cpu_quota_us} {held.cpu_period_us}")
        _write(group / "pids.max", str(held.pids))
        # Asked first: below what cannot be dropped, this kernel would not refuse but kill.
        used = self.usage(name)
        if used.memory_bytes > held.memory_bytes:
            raise _too_little(used, held)
        _write(group / "memory.max", str(held.memory_bytes))

    async def kill(self, name: str) -> None:
        group = self._folder(name)
        self.thaw(name)
        _write(group / "cgroup.kill", "1")  # Linux 5.14; a no-op before, when the loop below does it all
        await _kill_all(lambda: _pids(group / "cgroup.procs"))

    async def remove(self, name: str) -> None:
        await _remove(self._folder(name))

    async def remove_parent(self) -> None:
        if not self.names():
            _remove_now(self._root / self._parent)

    def _folder(self, name: str) -> Path:
        return self._root / self._parent / name


class _Members(Protocol):
    def __call__(self) -> Iterable[int]: ...


class _Condition(Protocol):
    def __call__(self) -> bool: ...


async def _freeze(file: Path, word: str, frozen: _Condition) -> bool:
    _write(file, word)
    deadline_s = asyncio.get_running_loop().time() + FREEZE_WAIT_S
    while not frozen():
        if asyncio.get_running_loop().time() > deadline_s:
            return False
        await asyncio.sleep(POLL_S)
        _write(file, word)  # v1 wants to be asked again for processes that came in meanwhile
    return True


async def _kill_all(members: _Members) -> None:
    deadline_s = asyncio.get_running_loop().time() + KILL_WAIT_S
    while pids := set(members()):
        for pid in pids:
            _kill_and_reap(pid)
        if asyncio.get_running_loop().time() > deadline_s:
            raise Failed(
                "a process of the sandbox is stuck in the kernel and cannot be killed; trying again may help",
                because=f"pids {sorted(pids)[:20]}",
            )
        await asyncio.sleep(POLL_S)


def _kill_and_reap(pid: int) -> None:
    """As a member of our group it cannot be anybody else's. One that half a start left behind is our child, and stays
    in the group until it is reaped."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, os.WNOHANG)
    except (ProcessLookupError, ChildProcessError):
        pass


async def _remove(group: Path) -> None:
    deadline_s = asyncio.get_running_loop().time() + REMOVE_WAIT_S
    while not _remove_now(group):
        if asyncio.get_running_loop().time() > deadline_s:
            raise Failed(
                "a control group of the sandbox could not be removed; trying again may help", because=f"{group}"
            )
        await asyncio.sleep(POLL_S)


def _remove_now(group: Path) -> bool:
    try:
        os.rmdir(group)
    except FileNotFoundError:
        return True
    except OSError:
        for name in _folders(group):
            _remove_now(group / name)
        return False
    return True


def _folders(parent: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (FileNotFoundError, NotADirectoryError, OSError):  # ENODEV: the group went while it was read
        return ""


def _number(file: Path) -> int:
    text = _text(file).strip()
    return int(text) if text.isdigit() else 0


def _fields(file: Path) -> dict[str, int]:
    """`name number` lines."""
    found = (line.split() for line in _text(file).splitlines())
    return {words[0]: int(words[1]) for words in found if len(words) == 2 and words[1].isdigit()}


def _pids(file: Path) -> list[int]:
    # 0 stands for a process outside our pid namespace.
    return [int(word) for word in _text(file).split() if word != "0"]


def _too_little(used: GroupUsage, held: Ceilings) -> TooLarge:
    return TooLarge(
        f"memory: {format_size(held.memory_bytes)} is less than the {format_size(used.memory_bytes)} in use; "
        "it goes on with what it had, until its next start",
        field="memory",
    )


def _write(file: Path, text: str) -> bool:
    """False when the kernel refuses."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:  # no such group (any more), or this kernel has no such file
        return True
    try:
        os.write(fd, text.encode())
    except OSError as error:
        return error.errno == errno.ENODEV  # the group goes away
    finally:
        os.close(fd)
    return True
