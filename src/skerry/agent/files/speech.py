"""What the kernel says about a file, in words for the caller: one table from errno to our errors."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager

from skerry.agent.files.views import Parts, spell
from skerry.errors import (
    AlreadyExists,
    Conflict,
    Failed,
    Forbidden,
    InUse,
    Invalid,
    NoRoom,
    NotFound,
    SkerryError,
    Unavailable,
)

_WORDS: dict[int, tuple[type[SkerryError], str]] = {
    errno.ENOENT: (NotFound, "{path} does not exist"),
    errno.ENOTDIR: (NotFound, "{path}: a part of it is not a directory"),
    errno.EEXIST: (AlreadyExists, "{path} exists already"),
    errno.ENOTEMPTY: (Conflict, "{path} is a directory that is not empty"),
    errno.EISDIR: (Invalid, "{path} is a directory"),
    errno.ELOOP: (Invalid, "{path} leads through too many symlinks"),
    errno.ENAMETOOLONG: (Invalid, "{path}: a name has at most 255 bytes, a path 4096"),
    errno.EINVAL: (Invalid, "{path}: the file system does not allow this"),
    errno.EXDEV: (Invalid, "{path} is on another file system"),
    errno.EMLINK: (Invalid, "{path} has too many links"),
    errno.EFBIG: (Invalid, "{path} would be larger than the file system allows"),
    errno.EROFS: (Forbidden, "{path} is on a read-only file system"),
    errno.EPERM: (Forbidden, "{path} must not be changed: it is immutable or append-only"),
    errno.EACCES: (Forbidden, "{path} cannot be accessed"),
    errno.EBUSY: (InUse, "{path} is in use"),
    errno.EAGAIN: (Conflict, "{path} is busy or changes all the time; try again"),
    errno.ETXTBSY: (InUse, "{path} is being executed"),
    errno.ESTALE: (Conflict, "{path} went away meanwhile; try again"),
    errno.ENOSPC: (NoRoom, "the sandbox's disk is full"),
    errno.EDQUOT: (NoRoom, "the sandbox's disk, or its volume there, is full"),
    errno.EMFILE: (Unavailable, "too many files are open on this machine; try again"),
    errno.ENFILE: (Unavailable, "too many files are open on this machine; try again"),
}


def from_errno(error: OSError, path: str, field: str = "path") -> SkerryError:
    kind, words = _WORDS.get(error.errno or 0, (Failed, "{path}: the file system reported an error"))
    because = f"{path}: {error.strerror or error} ({errno.errorcode.get(error.errno or 0, '?')})"
    full = kind is NoRoom
    return kind(words.format(path=path), because=because, field=None if full else field)


@contextmanager
def speaking(path: Parts | str, field: str = "path") -> Generator[None]:
    """Turn the OSErrors of a block into our errors about that path."""
    try:
        yield
    except OSError as error:
        shown = path if isinstance(path, str) else spell(path)
        raise from_errno(error, shown, field) from error
