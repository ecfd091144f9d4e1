"""MessagePack, as far as KV events need it: nothing, truth, numbers, text, bytes, lists and maps."""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import Any, Final

DEPTH_MAX = 16


def pack(value: Any) -> bytes:
    out = bytearray()
    _pack(out, value)
    return bytes(out)


def _pack(out: bytearray, value: Any) -> None:
    if value is None:
        out.append(0xC0)
    elif isinstance(value, bool):
        out.append(0xC3 if value else 0xC2)
    elif isinstance(value, int):
        _integer(out, value)
    elif isinstance(value, float):
        out += b"\xcb" + struct.pack(">d", value)
    elif isinstance(value, str):
        data = value.encode()
        _head(out, len(data), 0xA0, 32, (0xD9, 0xDA, 0xDB))
        out += data
    elif isinstance(value, bytes):
        _head(out, len(value), 0, 0, (0xC4, 0xC5, 0xC6))
        out += value
    elif isinstance(value, dict):
        _head(out, len(value), 0x80, 16, (None, 0xDE, 0xDF))  # pyright: ignore[reportUnknownArgumentType]
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            _pack(out, key)
            _pack(out, item)
    else:
        _head(out, len(value), 0x90, 16, (None, 0xDC, 0xDD))
        for item in value:
            _pack(out, item)


def _integer(out: bytearray, value: int) -> None:
    if 0 <= value < 128:
        out.append(value)
    elif -32 <= value < 0:
        out.append(value + 256)
    elif 0 <= value < 1 << 32:
        out += b"\xce" + struct.pack(">I", value)
    elif value > 0:
        out += b"\xcf" + struct.pack(">Q", value)
    else:
        out += b"\xd3" + struct.pack(">q", value)


def _head(out: bytearray, size: int, fixed: int, below: int, kinds: tuple[int | None, int, int]) -> None:
    one, two, four = kinds
    if size < below:
        out.append(fixed | size)
    elif one is not None and size < 1 << 8:
        out += bytes((one, size))
    elif size < 1 << 16:
        out += bytes((two,)) + struct.pack(">H", size)
    else:
        out += bytes((four,)) + struct.pack(">I", size)


_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i",
    0xD3: ">q",
}  # fmt: skip
_SIZED = {
    0xC4: (">B", "bytes"), 0xC5: (">H", "bytes"), 0xC6: (">I", "bytes"),
    0xD9: (">B", "text"), 0xDA: (">H", "text"), 0xDB: (">I", "text"),
    0xDC: (">H", "list"), 0xDD: (">I", "list"), 0xDE: (">H", "map"), 0xDF: (">I", "map"),
}  # fmt: skip


_COUNT: Final = r"(?:[\x00-\x7f]|\xcc.|\xcd..|\xce....){%d}"


@lru_cache(maxsize=256)
def _counts(many: int) -> re.Pattern[bytes]:
    """Whole numbers up to four bytes: to be passed over some 30 times as fast as they are read."""
    return re.compile((_COUNT % many).encode("latin-1"), re.DOTALL)


def unpack(data: bytes, without: str = "") -> Any:
    """Raises ValueError where it is not whole, or of a kind that events have not. `without`: a key of maps whose value
    is not wanted, and is an empty list then if it was one of whole numbers."""
    try:
        value, end = _unpack(data, 0, 0, without)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"not MessagePack: {error}") from error
    if end != len(data):
        raise ValueError("more than one value")
    return value


def _unpack(data: bytes, at: int, depth: int, without: str) -> tuple[Any, int]:
    kind = data[at]
    at += 1
    if kind < 0x80:
        return kind, at
    if kind >= 0xE0:
        return kind - 256, at
    if kind < 0xC0:
        what, size = ("map", kind & 15) if kind < 0x90 else ("list", kind & 15) if kind < 0xA0 else ("text", kind & 31)
        return _items(data, at, what, size, depth, without)
    if kind in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[kind], at
    if (form := _NUMBERS.get(kind)) is not None:
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    if kind not in _SIZED:
        raise ValueError(f"a value of kind {kind:#x}")
    form, what = _SIZED[kind]
    size = struct.unpack_from(form, data, at)[0]
    return _items(data, at + struct.calcsize(form), what, size, depth, without)


def _items(data: bytes, at: int, what: str, size: int, depth: int, without: str) -> tuple[Any, int]:
    if depth > DEPTH_MAX or size > len(data) - at:
        raise ValueError("too deep, or longer than there is")
    if what in ("text", "bytes"):
        raw = data[at : at + size]
        return (raw.decode() if what == "text" else raw), at + size
    if what == "map":
        return _members(data, at, size, depth, without)
    values: list[Any] = []
    for _ in range(size):
        value, at = _unpack(data, at, depth + 1, without)
        values.append(value)
    return values, at


def _members(data: bytes, at: int, size: int, depth: int, without: str) -> tuple[dict[Any, Any], int]:
    found: dict[Any, Any] = {}
    for _ in range(size):
        key, at = _unpack(data, at, depth + 1, without)
        end = _past_counts(data, at) if without and key == without else 0
        if end:
            found[key], at = [], end
        else:
            found[key], at = _unpack(data, at, depth + 1, without)
    return found, at


def _past_counts(data: bytes, at: int) -> int:
    """Where a list of whole numbers ends; 0: it is none, or a short one."""
    form = {0xDC: ">H", 0xDD: ">I"}.get(data[at])
    if form is None:
        return 0
    size = struct.unpack_from(form, data, at + 1)[0]
    start = at + 1 + struct.calcsize(form)
    if size > len(data) - start:
        return 0
    found = _counts(size).match(data, start)
    return found.end() if found else 0
