"""Tar headers, read and written with bounded memory.

Ours and not tarfile's: measured on 50,000 members, tarfile needs 47 µs to read a header and 28 µs to write one, which
is longer than making the file, holds the interpreter lock that the agent's event loop needs, and reads a hostile
extended header of any size into memory. Reads v7, ustar, GNU long names and pax; writes ustar with pax where needed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO

from skerry.agent.files.views import readable
from skerry.errors import Invalid

BLOCK_BYTES = 512
EXTENDED_BYTES_MAX = 1024 * 1024
"""Of one long name or pax header. Names have at most 4096 bytes; the rest is room for foreign attributes."""
EXTENDED_IN_A_ROW_MAX = 16
SKIP_BYTES = 256 * 1024
END = bytes(2 * BLOCK_BYTES)
TIME_S_MAX = 253_402_300_799  # the end of the year 9999
NS = 1_000_000_000
_KEYS = frozenset({"path", "linkpath", "size", "uid", "gid", "mtime", "GNU.sparse"})
_GLOBAL_KEYS = frozenset({"uid", "gid", "mtime"})

_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_OCTAL_7_MAX = 0o7777777
_OCTAL_11_MAX = 0o77777777777


class Kind(Enum):
    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHARACTER_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    FOLDER = b"5"
    PIPE = b"6"


@dataclass(slots=True)
class Member:
    name: str
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size_bytes: int = 0
    modified_ns: int = 0
    """Written in whole seconds, as tar without pax has it."""
    target: str = ""
    """Of a symlink its text, of a hard link the name of another member."""


def padding(size_bytes: int) -> int:
    return -size_bytes % BLOCK_BYTES


def header(member: Member) -> bytes:
    """The blocks that go before the member's data."""
    name = os.fsencode(member.name) + (b"/" if member.kind is Kind.FOLDER else b"")
    target = os.fsencode(member.target)
    extended: dict[bytes, bytes] = {}
    prefix = b""
    if len(name) > 100:
        cut = name.rfind(b"/", 0, min(156, len(name) - 1))
        if cut > 0 and len(name) - cut - 1 <= 100:
            prefix, name = name[:cut], name[cut + 1 :]
        else:
            extended[b"path"] = name
    if len(target) > 100:
        extended[b"linkpath"] = target
    modified_s = min(max(member.modified_ns // NS, 0), _OCTAL_11_MAX)
    for key, value, value_max in (
        (b"uid", member.uid, _OCTAL_7_MAX),
        (b"gid", member.gid, _OCTAL_7_MAX),
        (b"size", member.size_bytes, _OCTAL_11_MAX),
    ):
        if value > value_max:
            extended[key] = b"%d" % value
    blocks = _block(
        name[:100],
        member.mode,
        member.uid if member.uid <= _OCTAL_7_MAX else 0,
        member.gid if member.gid <= _OCTAL_7_MAX else 0,
        member.size_bytes if member.size_bytes <= _OCTAL_11_MAX else 0,
        modified_s,
        member.kind.value,
        target[:100],
        prefix,
    )
    return _extension(extended) + blocks if extended else blocks


def _block(
    name: bytes, mode: int, uid: int, gid: int, size: int, modified_s: int, kind: bytes, target: bytes, prefix: bytes
) -> bytes:
    block = _HEADER.pack(
        name,
        b"%07o" % mode,
        b"%07o" % uid,
        b"%07o" % gid,
        b"%011o" % size,
        b"%011o" % modified_s,
        b"        ",
        kind,
        target,
        b"ustar",
        b"00",
        b"",
        b"",
        b"",
        b"",
        prefix,
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _extension(records: dict[bytes, bytes]) -> bytes:
    body = b""
    if any(not _is_utf8(value) for value in records.values()):
        body = _record(b"hdrcharset", b"BINARY")
    body += b"".join(_record(key, value) for key, value in records.items())
    first = _block(b"././@PaxHeader", 0o644, 0, 0, len(body), 0, b"x", b"", b"")
    return first + body + bytes(padding(len(body)))


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _record(key: bytes, value: bytes) -> bytes:
    """LENGTH KEY=VALUE\\n, where LENGTH counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


class Reader:
    """Members of a tar stream, one after the other. What is not read of a member's data is skipped."""

    def __init__(self, stream: BinaryIO) -> None:
        self._read: Callable[[int], bytes] = stream.read
        self._left_bytes = 0
        self._padding_bytes = 0
        self._global: dict[str, str] = {}
        self.last_name = ""

    def next(self) -> Member | None:
        """None at the end of the archive. Raises Invalid when it is damaged or cut off."""
        self._skip()
        records: dict[str, str] = dict(self._global)
        for _ in range(EXTENDED_IN_A_ROW_MAX):
            block = self._read(BLOCK_BYTES)
            if not block and not self.last_name:
                raise Invalid("the body is not a tar archive: it is empty")
            if not block or block == END[:BLOCK_BYTES]:
                return None
            if len(block) < BLOCK_BYTES:
                raise self._cut_off()
            kind = block[156:157]
            if kind in b"xXgLK":
                self._extend(kind, self._extended(block), records)
                continue
            member = self._member(block, records)
            self.last_name = member.name or "."
            self._left_bytes = member.size_bytes
            self._padding_bytes = padding(member.size_bytes)
            return member
        raise Invalid("the archive has too many extended headers in a row")

    def read(self, size_bytes: int) -> bytes:
        """Up to that much of the present member's data; empty at its end."""
        wanted = min(size_bytes, self._left_bytes)
        if not wanted:
            return b""
        data = self._read(wanted)
        if len(data) < wanted:
            raise self._cut_off()
        self._left_bytes -= wanted
        return data

    def _skip(self) -> None:
        while self._left_bytes:
            self.read(SKIP_BYTES)
        if self._padding_bytes:
            if len(self._read(self._padding_bytes)) < self._padding_bytes:
                raise self._cut_off()
            self._padding_bytes = 0

    def _cut_off(self) -> Invalid:
        where = f"in the middle of {readable(self.last_name)}" if self.last_name else "in its first header"
        return Invalid(f"the archive ends {where}")

    def _extended(self, block: bytes) -> bytes:
        self._check(block)
        size = _number(block[124:136])
        if size > EXTENDED_BYTES_MAX:
            raise Invalid(f"the archive has an extended header over {EXTENDED_BYTES_MAX} bytes")
        body = self._read(size + padding(size))
        if len(body) < size + padding(size):
            raise self._cut_off()
        return body[:size]

    def _extend(self, kind: bytes, body: bytes, records: dict[str, str]) -> None:
        if kind == b"L":
            records["path"] = os.fsdecode(body.split(b"\0", 1)[0])
        elif kind == b"K":
            records["linkpath"] = os.fsdecode(body.split(b"\0", 1)[0])
        else:
            found = _records(body)
            records.update(found)
            if kind == b"g":
                self._global.update({key: value for key, value in found.items() if key in _GLOBAL_KEYS})

    def _check(self, block: bytes) -> None:
        if sum(block) - sum(block[148:156]) + 256 != _number(block[148:156]):
            if self.last_name:
                raise Invalid(f"the archive is damaged after {readable(self.last_name)}")
            raise Invalid("the body is not a tar archive, plain or gzip")

    def _member(self, block: bytes, records: dict[str, str]) -> Member:
        self._check(block)
        kind_byte = block[156:157]
        name = _text(block[:100])
        if block[257:263] == b"ustar\0" and block[345]:
            name = f"{_text(block[345:500])}/{name}"
        name = records.get("path", name)
        if kind_byte in (b"\0", b"7"):
            kind_byte = b"0"
        if kind_byte == b"S" or "GNU.sparse" in records:
            raise Invalid(f"{readable(name)}: sparse members are not supported; make the archive without --sparse")
        try:
            kind = Kind(kind_byte)
        except ValueError:
            raise Invalid(f"{readable(name)}: members of type {kind_byte!r} are not supported") from None
        if kind is Kind.FILE and name.endswith("/"):
            kind = Kind.FOLDER  # as v7 tar wrote directories
        size = _decimal(records["size"]) if "size" in records else _number(block[124:136])
        return Member(
            name=name,
            kind=kind,
            mode=_number(block[100:108]) & 0o7777,
            uid=_decimal(records["uid"]) if "uid" in records else _number(block[108:116]),
            gid=_decimal(records["gid"]) if "gid" in records else _number(block[116:124]),
            size_bytes=size if kind is Kind.FILE else 0,
            modified_ns=_moment(records["mtime"]) if "mtime" in records else _in_time(_number(block[136:148])) * NS,
            target=records.get("linkpath") or _text(block[157:257]),
        )


def _text(field: bytes) -> str:
    return os.fsdecode(field.split(b"\0", 1)[0])


def _number(field: bytes) -> int:
    """Octal text, or GNU's base 256 for what is too large for it; never negative."""
    if field[0] & 0x80:
        return 0 if field[0] == 0xFF else int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip()
    if not digits:
        return 0
    try:
        return int(digits, 8)
    except ValueError:
        raise Invalid("the body is not a tar archive, or its headers are damaged") from None


def _decimal(text: str) -> int:
    """A pax number: decimal, where times may have a fraction; never negative, at most 19 digits."""
    whole = text.partition(".")[0]
    if not whole.lstrip("-").isdecimal() or len(whole) > 20:
        raise Invalid(f"the archive has a damaged number in a pax header: {readable(text[:40])}")
    return max(int(whole), 0)


def _moment(text: str) -> int:
    """A pax time, in nanoseconds: what follows the ninth digit after the point is left out."""
    second, fraction = _in_time(_decimal(text)), text.partition(".")[2][:9]
    has_fraction = fraction.isascii() and fraction.isdecimal() and not text.startswith("-")
    return second * NS + (int(f"{fraction:0<9}") if has_fraction else 0)


def _in_time(second: int) -> int:
    return min(second, TIME_S_MAX)


def _records(body: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(body) and body[at]:
        space = body.find(b" ", at, at + 12)
        length = body[at:space] if space > 0 else b""
        end = at + int(length) if length.isdigit() else at
        equals = body.find(b"=", space, end)
        if end <= at or end > len(body) or equals < 0:
            raise Invalid("the archive has a damaged pax header")
        key = os.fsdecode(body[space + 1 : equals])
        key = "GNU.sparse" if key.startswith("GNU.sparse.") else key
        if key in _KEYS:
            found[key] = os.fsdecode(body[equals + 1 : end - 1])
        at = end
    return found
