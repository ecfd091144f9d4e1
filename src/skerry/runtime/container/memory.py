"""Where what may hold secrets lies: in memory, whatever the machine's run folder is on."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from skerry.errors import Failed
from skerry.runtime.container.syscalls import file_system_of

SHARED_MEMORY = Path("/dev/shm")
"""The C library needs it to be a tmpfs, so it is one everywhere; others may write there."""
IN_MEMORY = frozenset({0x0102_1994, 0x8584_58F6})  # tmpfs, ramfs: statfs(2)


def is_in_memory(folder: Path) -> bool:
    return file_system_of(folder) in IN_MEMORY


def memory_folder(run_path: Path) -> Path:
    """What stands in for a run folder that is on a disk; the same for every program that has that run folder."""
    return SHARED_MEMORY / str(run_path.absolute()).strip("/").replace("/", "-")


def have_in_memory(run_path: Path, name: str) -> bool:
    """`run_path/name`, or a link by that name to a folder in memory. False: it stays on a disk."""
    own = run_path / name
    if is_in_memory(run_path):
        own.mkdir(exist_ok=True, mode=0o700)
        return True
    place = memory_folder(run_path)
    if own.is_dir() and not own.is_symlink():
        try:
            own.rmdir()
        except OSError:  # sandboxes that an earlier Skerry started still need it
            return False
    if not is_in_memory(SHARED_MEMORY):
        own.mkdir(exist_ok=True, mode=0o700)
        return False
    _make_private(place)
    (place / name).mkdir(exist_ok=True, mode=0o700)
    if not own.is_symlink() or own.readlink() != place / name:
        own.unlink(missing_ok=True)
        own.symlink_to(place / name)
    return True


def _make_private(place: Path) -> None:
    """Passable, since crun walks there as a guest's root. Somebody else may have been first, to read what we write."""
    place.mkdir(exist_ok=True, mode=0o711)
    found = os.lstat(place)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise Failed(f"{place} is another's; remove it: what may hold secrets is kept there, in memory")
    place.chmod(0o711)
