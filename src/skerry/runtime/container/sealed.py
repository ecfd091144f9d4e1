"""A copy of a program in memory that nobody can change, by a name it can be started by.

crun must not be started from a file that a sandbox could reach through /proc/PID/exe and write to. Left to itself it
makes sure of that at every call: it mounts itself read-only and starts again, which costs a quarter of an exec. From a
sealed copy it sees that there is nothing to do. memfd_create(2), fcntl(2) F_ADD_SEALS.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

_MFD_EXEC = 0x10
_F_ADD_SEALS = 1033
_SEAL_ALL = 0x1 | 0x2 | 0x4 | 0x8  # no more seals, no shrinking, no growing, no writing


class SealedProgram:
    """Only this process and its children can start it, while it is open."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self.path = path

    @staticmethod
    def of(program: Path, folder: Path) -> SealedProgram | None:
        """A copy, started by its own name in `folder`, which is ours alone; None where the system forbids programs in
        memory."""
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        try:
            fd = _memory(program.name, flags)
        except OSError:
            return None
        try:
            with program.open("rb") as source, os.fdopen(os.dup(fd), "wb") as target:
                shutil.copyfileobj(source, target)
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEAL_ALL)
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = folder / program.name
            fresh = folder / f"{program.name}.new"
            fresh.unlink(missing_ok=True)
            # A link, so that the process bears the program's name. /proc/self is whoever starts it: it has our
            # descriptors until then. The link of an agent that died leads nowhere; ours takes its place.
            fresh.symlink_to(f"/proc/self/fd/{fd}")
            fresh.rename(path)
        except BaseException:
            os.close(fd)
            raise
        return SealedProgram(fd, path)

    def close(self) -> None:
        os.close(self._fd)


def _memory(name: str, flags: int) -> int:
    try:
        return os.memfd_create(name, flags | _MFD_EXEC)
    except OSError:
        return os.memfd_create(name, flags)  # before Linux 6.3 every one may be executed, and the flag is unknown
