"""What changed between two disks of one family. A btrfs snapshot keeps inode numbers and times, so a file that nobody
touched is equal in all of them, and one stat on each side tells; contents are never read."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from skerry.agent.files.openat2 import Fd, open_folder
from skerry.agent.files.views import readable
from skerry.errors import LimitReached, NotFound
from skerry.model.checkpoint import Change, Diff, PathChange

DIFF_PATHS_MAX = 10_000
FOLDER_ENTRIES_MAX = 1_000_000
"""Names of one directory are held in memory while it is compared."""
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}

Entries = dict[str, "os.DirEntry[str]"]


def diff(old_root: Path, new_root: Path, *, paths_max: int = DIFF_PATHS_MAX) -> Diff:
    """Paths added, removed and modified from old to new. A directory counts as modified when its own mode or owner
    changed, not when what is in it did."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        with Fd(os.open(old_root, flags)) as old, Fd(os.open(new_root, flags)) as new:
            comparison = _Comparison(old, new, paths_max)
            comparison.run()
    except FileNotFoundError as error:
        raise NotFound("one of the two disks is gone", because=str(error)) from None
    found = sorted(comparison.found)
    items = [PathChange(path=readable("/" + path), change=change) for path, change in found]
    return Diff(items=items, truncated=comparison.truncated)


class _Comparison:
    def __init__(self, old: Fd, new: Fd, paths_max: int) -> None:
        self._old = old
        self._new = new
        self._paths_max = paths_max
        self.found: list[tuple[str, Change]] = []
        self.truncated = False
        self._full = False

    def run(self) -> None:
        """Directories one after the other by path from the root, so that no descriptor is held per level."""
        waiting = [("", True, True)]
        while waiting and not self._full:
            path, in_old, in_new = waiting.pop()
            below = self._folder(path, in_old, in_new)
            waiting.extend(reversed(below))

    def _folder(self, path: str, in_old: bool, in_new: bool) -> list[tuple[str, bool, bool]]:
        old_fd = self._open(self._old, path) if in_old else None
        new_fd = self._open(self._new, path) if in_new else None
        try:
            return self._compare(path + "/" if path else "", entries_of(old_fd), entries_of(new_fd))
        finally:
            for fd in (old_fd, new_fd):
                if fd is not None:
                    fd.close()

    def _open(self, root: Fd, path: str) -> Fd | None:
        try:
            return open_folder(root.fileno(), path or ".")
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                self.truncated = True  # deeper than a path can name: neither could the answer
                return None
            if error.errno in _GONE:
                return None
            raise

    def _compare(self, prefix: str, old: Entries, new: Entries) -> list[tuple[str, bool, bool]]:
        below: list[tuple[str, bool, bool]] = []
        for name in sorted(old.keys() | new.keys()):
            path = prefix + name
            was, now = status_of(old.pop(name, None)), status_of(new.pop(name, None))
            was_folder = was is not None and stat.S_ISDIR(was.st_mode)
            now_folder = now is not None and stat.S_ISDIR(now.st_mode)
            change = _change(was, now)
            if change is not None and not self._add(path, change):
                return []
            if was_folder or now_folder:
                below.append((path, was_folder, now_folder))
        return below

    def _add(self, path: str, change: Change) -> bool:
        if len(self.found) >= self._paths_max:
            self.truncated = self._full = True
            return False
        self.found.append((path, change))
        return True


def entries_of(folder: Fd | None) -> Entries:
    if folder is None:
        return {}
    entries: Entries = {}
    with os.scandir(folder.fileno()) as found:
        for entry in found:
            entries[entry.name] = entry
            if len(entries) > FOLDER_ENTRIES_MAX:
                raise LimitReached(f"a directory has more than {FOLDER_ENTRIES_MAX} entries: it cannot be compared")
    return entries


def status_of(entry: os.DirEntry[str] | None) -> os.stat_result | None:
    if entry is None:
        return None
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _change(was: os.stat_result | None, now: os.stat_result | None) -> Change | None:
    if was is None or now is None:
        if was is now:
            return None
        return Change.ADDED if was is None else Change.REMOVED
    if (was.st_mode, was.st_uid, was.st_gid) != (now.st_mode, now.st_uid, now.st_gid):
        return Change.MODIFIED
    if stat.S_ISDIR(was.st_mode):
        return None
    # ctime last: a guest can set every other time, but not this one.
    same = was.st_ino == now.st_ino and was.st_ctime_ns == now.st_ctime_ns
    same = same and was.st_mtime_ns == now.st_mtime_ns and was.st_size == now.st_size
    return None if same and was.st_rdev == now.st_rdev else Change.MODIFIED
