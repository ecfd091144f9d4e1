"""What steps printed, kept beside the file: .skerry/logs/MEMBER/STEP.log, of the last run of each.

The folder of the file is mostly bound into a sandbox, whose guest may have put links there: each name on the way is
opened by itself and never through a link, and a log is always a new file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from skerry.environment.trees.ignore import OWN
from skerry.errors import Conflict, NotFound

LOG_BYTES_MAX = 16 * 1024 * 1024
"""Of one log; what a step prints beyond it is shown and not kept."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def log_place(folder: Path, member: str, step: str) -> Path:
    return folder / OWN / "logs" / member / f"{step}.log"


class StepLog:
    """Begun anew. Close it, or leave its `with` block."""

    def __init__(self, folder: Path, member: str, step: str) -> None:
        self.place = log_place(folder, member, step)
        self._left = LOG_BYTES_MAX
        with _opened(folder, member, make=True) as number, _speaking(self.place):
            with suppress(FileNotFoundError):
                os.unlink(self.place.name, dir_fd=number)
            self._file = os.fdopen(os.open(self.place.name, _NEW, 0o600, dir_fd=number), "wb")

    def write(self, line: str) -> None:
        data = line.encode(errors="replace") + b"\n"
        if 0 < self._left < len(data):
            data = b"(more was printed than is kept here)\n"
            self._left = len(data)
        if self._left >= len(data):
            self._file.write(data)
            self._file.flush()
            self._left -= len(data)

    def __enter__(self) -> StepLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_log(folder: Path, member: str, step: str) -> str:
    """What a step printed when it ran last. Raises NotFound when it has not run from this folder."""
    place = log_place(folder, member, step)
    try:
        with _opened(folder, member, make=False) as number:
            file = os.fdopen(os.open(place.name, _READ, dir_fd=number), "rb")
    except FileNotFoundError:
        raise NotFound(f"{step} of {member} has not run from {folder}: there is no {place}") from None
    except OSError as error:
        raise Conflict(f"cannot read {place}: {error.strerror}") from None
    with file:
        return file.read(LOG_BYTES_MAX).decode(errors="replace")


def logged_steps(folder: Path, member: str) -> list[str]:
    """Steps that have a log, the one that ran last at the end."""
    try:
        with _opened(folder, member, make=False) as number:
            found = [
                (os.stat(name, dir_fd=number, follow_symlinks=False), name)
                for name in os.listdir(number)
                if name.endswith(".log")
            ]
    except OSError:
        return []
    ours = [(status.st_mtime_ns, name) for status, name in found if stat.S_ISREG(status.st_mode)]
    return [name.removesuffix(".log") for _, name in sorted(ours)]


@contextmanager
def _opened(folder: Path, member: str, *, make: bool) -> Generator[int]:
    """The folder of one member's logs."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in (OWN, "logs", member):
            if make:
                with suppress(FileExistsError), _speaking(folder / OWN):
                    os.mkdir(name, 0o700, dir_fd=number)
                with _speaking(folder / OWN):
                    below = os.open(name, _FOLDER, dir_fd=number)
            else:
                below = os.open(name, _FOLDER, dir_fd=number)
            os.close(number)
            number = below
            if name == OWN and make:
                _keep_out_of_git(number)
        yield number
    finally:
        os.close(number)


def _keep_out_of_git(folder: int) -> None:
    with suppress(OSError):  # it is there already
        descriptor = os.open(".gitignore", _NEW, 0o600, dir_fd=folder)
        os.write(descriptor, b"*\n")
        os.close(descriptor)


@contextmanager
def _speaking(place: Path) -> Generator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise Conflict(f"cannot write {place}, where the output of steps is kept: {error.strerror}") from None
