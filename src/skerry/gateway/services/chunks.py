"""A body in chunks, passed on as it came: read only as far as it takes to know where it ends.

Streams of tokens are a chunk each. Looking at a chunk's size and passing all bytes on costs a fifth of taking the body
out of its chunks and putting it into new ones, and only what is written in the usual way is passed on so; anything
else (extensions, trailers, chunks cut by a read) is read in full and written anew.
"""

from __future__ import annotations

import re

_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")
_LINE_BYTES_MAX = 4096
_TRAILER_BYTES_MAX = 16 * 1024
LAST = b"0\r\n\r\n"

_sizes: dict[bytes, int] = {b"%x" % number: number for number in range(4096)}


def _size(line: bytes) -> int:
    """Raises ValueError. What `int` takes besides (signs, blanks, 0x, _) is no size."""
    if not _SIZE.fullmatch(line):
        raise ValueError("the size of a chunk is no number")
    return int(line, 16)


class Chunks:
    __slots__ = ("_buffer", "_left", "_plain", "_trailing", "over", "rest")

    def __init__(self, *, plain: bool = False) -> None:
        """`plain`: without chunks, for who does not speak HTTP/1.1."""
        self.over = False
        self.rest = False
        """More came than belongs to the body."""
        self._plain = plain
        self._buffer: bytes = b""
        """Of a line that is not whole."""
        self._left = 0
        """Of a chunk, the end of its line included."""
        self._trailing = -1
        """Bytes of trailers; -1: not there yet."""

    def feed(self, data: bytes) -> bytes:
        """What to write for it. Raises ValueError."""
        if self._left or self._buffer or self._plain or self._trailing >= 0:
            return self._read(data)
        at, whole = 0, len(data)
        while at < whole:
            end = data.find(b"\r\n", at, at + 10)
            if end < 0:
                break
            size = _sizes.get(data[at:end])
            if size is None:
                break
            if size == 0:
                if end + 4 == whole and data[end + 2 :] == b"\r\n":
                    self.over = True
                    return data
                break
            after = end + 4 + size
            if after > whole or data[after - 2 : after] != b"\r\n":
                break
            at = after
        else:
            return data
        return data[:at] + self._read(data[at:])

    def _read(self, data: bytes) -> bytes:
        out: list[bytes] = []
        data, self._buffer = self._buffer + data, b""
        at = 0
        while at < len(data) and not self.over:
            if self._left > 2:
                part = data[at : at + self._left - 2]
                at += len(part)
                self._left -= len(part)
                out.append(part if self._plain else b"%x\r\n%b\r\n" % (len(part), part))
                continue
            if self._left:
                if len(data) - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise ValueError("a chunk is longer than it says")
                at, self._left = at + 2, 0
                continue
            at = self._line(data, at)
            if at < 0:
                return b"".join(out)
        if self.over:
            self.rest = at < len(data)
            if not self._plain:
                out.append(LAST)
        else:
            self._buffer = data[at:]
        return b"".join(out)

    def _line(self, data: bytes, at: int) -> int:
        """A size, or a line after the last chunk; where the next thing begins, or -1 when the line is not whole."""
        end = data.find(b"\r\n", at)
        if end < 0:
            self._buffer = data[at:]
            if len(self._buffer) > _LINE_BYTES_MAX:
                raise ValueError("too long a line")
            return -1
        line = data[at:end]
        if self._trailing >= 0:
            self._trailing += len(line) + 2
            if self._trailing > _TRAILER_BYTES_MAX:
                raise ValueError("too many trailers")
            self.over = not line
        else:
            size = _size(line.partition(b";")[0].rstrip(b" \t"))
            if size:
                self._left = size + 2
            else:
                self._trailing = 0
        return end + 2


def wrapped(data: bytes) -> bytes:
    """As one chunk; nothing is none, since an empty one would be the last."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
