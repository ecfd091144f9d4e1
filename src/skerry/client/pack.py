"""A local file or tree as a tar stream, in constant memory, for uploads."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from skerry.errors import Invalid, NotFound

CHUNK_BYTES = 256 * 1024
_BLOCK = tarfile.BLOCKSIZE


def pack(
    source: Path,
    name: str,
    *,
    follow: bool = False,
    replaced: dict[str, bytes] | None = None,
    on_skip: Callable[[str], None] | None = None,
) -> Iterator[bytes]:
    """`source` under the name `name` ("": its content at the top). Owner is root, as for any file a user puts in.

    `follow`: a link given as `source` stands for what it points to; links inside a tree stay links.
    `replaced`: content to send instead of a file's own, by name in the tar.
    Sockets, pipes and devices are left out and told to `on_skip`. Raises NotFound before the first byte.
    """
    try:
        os.stat(source) if follow else os.lstat(source)
    except OSError as error:
        raise NotFound(f"{source}: {error.strerror}") from None
    return gathered(_stream(source, name, follow, replaced or {}, on_skip or (lambda said: None)))


def _stream(
    source: Path, name: str, follow: bool, replaced: dict[str, bytes], on_skip: Callable[[str], None]
) -> Iterator[bytes]:
    stack: list[tuple[str, str]] = [(os.path.realpath(source) if follow else str(source), name)]
    while stack:
        path, inner = stack.pop()
        found = os.lstat(path)
        info = tarfile.TarInfo(inner)
        info.mode = stat.S_IMODE(found.st_mode)
        info.mtime = int(found.st_mtime)
        if inner in replaced:
            info.size = len(replaced[inner])
            yield head(info) + replaced[inner] + padding(info.size)
        elif stat.S_ISDIR(found.st_mode):
            info.type = tarfile.DIRTYPE
            if inner:
                yield head(info)
            children = sorted(os.listdir(path), reverse=True)
            stack.extend((os.path.join(path, child), f"{inner}/{child}" if inner else child) for child in children)
        elif stat.S_ISLNK(found.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
            yield head(info)
        elif stat.S_ISREG(found.st_mode):
            yield from _file(path, info)
        else:
            on_skip(f"{path}: not a file, folder or link; left out")
    yield bytes(2 * _BLOCK)


def gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces, of which each costs a call of the system: a tree of small files has many."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= CHUNK_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def descriptor_chunks(descriptor: int) -> Iterator[bytes]:
    """What comes through an open descriptor, such as a pipe, as it comes."""
    while chunk := os.read(descriptor, CHUNK_BYTES):
        yield chunk


def head(info: tarfile.TarInfo) -> bytes:
    """The blocks that go before a member's data."""
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """What follows the data, up to a whole block."""
    return bytes(-size % _BLOCK)


def _file(path: str, info: tarfile.TarInfo) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        info.size = os.fstat(descriptor).st_size
        yield head(info)
        left = info.size
        while left:
            # A file that shrinks while it is read is filled up, one that grows is cut: the head has its size already.
            chunk = file.read(min(CHUNK_BYTES, left)) or bytes(min(CHUNK_BYTES, left))
            left -= len(chunk)
            yield chunk
        yield padding(info.size)
