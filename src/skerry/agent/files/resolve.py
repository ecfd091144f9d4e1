"""Finding what a guest's path means, as the guest would, without ever leaving the guest's trees.

The kernel looks names up only through plain folders (openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS); a symlink
is read and followed here, as text against the guest's root. So a link can lead into a mounted host folder and out
again exactly as in the guest, and whatever the guest swaps meanwhile, every descriptor is below one of its own roots.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from types import TracebackType

from skerry.agent.files.openat2 import RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, Fd, openat2
from skerry.agent.files.speech import speaking
from skerry.agent.files.views import HIDDEN, Parts, View, spell, split
from skerry.errors import Forbidden, Invalid, NotFound
from skerry.runtime.contract import HostMount

SYMLINKS_MAX = 40
"""As many as Linux follows in one path."""
LOOKUPS_MAX = 16_384
"""Names looked up one by one in one path. Links made of '..' could otherwise keep us busy for minutes."""


@dataclass
class Area:
    """One root: the disk or a host folder."""

    fd: Fd
    prefix: Parts
    readonly: bool


@dataclass
class Spot:
    """Where a path led. Everything that is done there is done through these descriptors."""

    area: Area
    parts: Parts
    """The real place: no symlink in it when it was found."""
    parent: Fd | None
    """Its folder; None for the root of an area."""
    fd: Fd | None
    """Pins the thing itself (O_PATH); None where nothing is."""

    @property
    def name(self) -> str:
        return self.parts[-1]

    def status(self) -> os.stat_result:
        if self.fd is None:
            raise NotFound(f"{spell(self.parts)} does not exist", field="path")
        return os.fstat(self.fd.fileno())

    def is_symlink(self) -> bool:
        return self.fd is not None and stat.S_ISLNK(os.fstat(self.fd.fileno()).st_mode)

    def is_folder(self) -> bool:
        return self.fd is not None and stat.S_ISDIR(os.fstat(self.fd.fileno()).st_mode)

    def folder(self) -> Fd:
        if self.parent is None:
            raise Invalid(f"{spell(self.parts)} is the root of a file system", field="path")
        return self.parent

    def close(self) -> None:
        for fd in (self.parent, self.fd):
            if fd is not None:
                fd.close()

    def __enter__(self) -> Spot:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Resolver:
    """One view, opened. Used by one request in one thread at a time."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._mounts: dict[Parts, HostMount] = {split(mount.target): mount for mount in view.mounts}
        self._depths = sorted({len(target) for target in self._mounts}, reverse=True)
        self._areas: dict[Parts, Area] = {}

    def close(self) -> None:
        for area in self._areas.values():
            area.fd.close()
        self._areas.clear()

    def __enter__(self) -> Resolver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def mounts_below(self, parts: Parts) -> list[Parts]:
        """Targets of host folders at this place or below it."""
        return [target for target in self._mounts if target[: len(parts)] == parts]

    def find(self, parts: Parts, *, follow: bool, write: bool = False) -> Spot:
        """What is at that path, or its folder and no `fd` where nothing is. `follow` the last name if it is a symlink.

        Raises NotFound when a folder on the way is missing, Forbidden when `write` may not be.
        """
        asked, links, lookups = parts, 0, _Budget(LOOKUPS_MAX)
        with speaking(asked):
            while links <= SYMLINKS_MAX:
                lookups.spend(1)
                spot = None if ".." in parts else self._direct(self._area(parts, write=write), parts)
                if spot is not None and not (follow and spot.is_symlink()):
                    return spot
                if spot is not None:
                    spot.close()
                area = self._area(parts, write=write)
                parts, followed = self._expand(area, parts, follow=follow, lookups=lookups)
                links += followed
            raise OSError(errno.ELOOP, "too many symlinks")

    def _area(self, parts: Parts, *, write: bool) -> Area:
        """The root that the longest mount target picks. '..' is never part of a target."""
        if parts and parts[0] in HIDDEN:
            if write:
                raise Forbidden(f"/{parts[0]} belongs to the kernel: its files cannot be written", field="path")
            raise NotFound(f"/{parts[0]} exists only inside the running sandbox: use exec to read it", field="path")
        prefix = next((parts[:n] for n in self._depths if n <= len(parts) and parts[:n] in self._mounts), ())
        area = self._areas.get(prefix)
        if area is None:
            area = self._areas[prefix] = self._open_area(prefix)
        if write and area.readonly:
            what = f"{spell(prefix)} is mounted read-only" if prefix else "this disk is read-only"
            raise Forbidden(f"{what}: nothing in it can be changed", field="path")
        return area

    def _open_area(self, prefix: Parts) -> Area:
        flags = os.O_PATH | os.O_DIRECTORY
        mount = self._mounts.get(prefix)
        try:
            if mount is None:
                return Area(Fd(os.open(self._view.root, flags | os.O_CLOEXEC)), prefix, self._view.readonly)
            # From the host's root, but no symlink: the last parts of a shared folder may be another guest's work.
            with Fd(os.open("/", flags | os.O_CLOEXEC)) as top:
                source = os.path.relpath(mount.source, "/")
                fd = openat2(top.fileno(), source, flags, resolve=RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
            return Area(fd, prefix, mount.readonly or self._view.readonly)
        except OSError as error:
            where = f"the host folder of {spell(prefix)} is gone, or reached through a symlink" if mount else ""
            raise NotFound(where or "the disk is gone", because=f"{error}") from error

    def _direct(self, area: Area, parts: Parts) -> Spot | None:
        """The place if no symlink is on the way to it; None if one is."""
        inside = parts[len(area.prefix) :]
        if not inside:
            return Spot(area, parts, None, Fd(os.dup(area.fd.fileno())))
        try:
            path = "/".join(inside[:-1]) or "."
            parent = openat2(area.fd.fileno(), path, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise
        try:
            fd = openat2(parent.fileno(), inside[-1], os.O_PATH | os.O_NOFOLLOW)
        except FileNotFoundError:
            fd = None
        except BaseException:
            parent.close()
            raise
        return Spot(area, parts, parent, fd)

    def _expand(self, area: Area, parts: Parts, *, follow: bool, lookups: _Budget) -> tuple[Parts, int]:
        """The path with its first '..' or symlink worked in, and 1 if it was a symlink. All before it are folders."""
        at = area.fd
        for index in range(len(area.prefix), len(parts)):
            name = parts[index]
            if name == "..":
                return parts[: max(index - 1, 0)] + parts[index + 1 :], 0
            lookups.spend(1)
            at = openat2(at.fileno(), name, os.O_PATH | os.O_NOFOLLOW)
            last = index == len(parts) - 1
            if stat.S_ISLNK(os.fstat(at.fileno()).st_mode) and (follow or not last):
                text = os.readlink("", dir_fd=at.fileno())
                before = () if text.startswith("/") else parts[:index]
                return before + split(text) + parts[index + 1 :], 1
        return parts, 0


class _Budget:
    def __init__(self, left: int) -> None:
        self._left = left

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise OSError(errno.ELOOP, "too many lookups")
