"""Files beside `skerry.yaml`, read whole: a guest who may write that folder may have put anything in their place."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def read_whole(path: Path, bytes_max: int) -> bytes:
    """Raises OSError for what has no end or is waited for (a pipe, a socket, a device), and for what is too large."""
    return _content(os.open(path, _FILE), bytes_max)


def read_where_it_is(path: Path, bytes_max: int) -> tuple[str, bytes]:
    """The same, and its real path: what was read is there, whatever links were put on the way meanwhile."""
    real = os.path.realpath(path)
    return real, _content(open_without_links(Path(real), _FILE), bytes_max)


def open_without_links(place: Path, flags: int) -> int:
    """A path without links in it, opened so that none can appear in it meanwhile. Raises OSError."""
    *above, name = place.parts[1:] or ["."]
    folder = os.open("/", FOLDER)
    try:
        for part in above:
            below = os.open(part, FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)


def _content(descriptor: int, bytes_max: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a file")
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise OSError(errno.EFBIG, f"it is larger than {bytes_max} bytes")
    return data


def place_of(folder: Path, source: str) -> Path:
    """Where a path of a file in `folder` is, before any link is followed: `a/..` is nothing, whatever `a` is."""
    return Path(os.path.normpath(folder / os.path.expanduser(source)))
