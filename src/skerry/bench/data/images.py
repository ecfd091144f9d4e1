"""Pictures of a size, each another: a small mosaic by lot, as large as asked. What a server pays for is the size."""

from __future__ import annotations

import struct
import zlib

import numpy as np

TILES = 16


def png(width: int, height: int, chance: np.random.Generator) -> bytes:
    """True colour, 8 bits (PNG specification, third edition)."""
    tiles = chance.integers(256, size=(TILES, TILES, 3), dtype=np.uint8)
    picture = tiles[np.arange(height) * TILES // height][:, np.arange(width) * TILES // width]
    rows = np.zeros((height, 1 + width * 3), np.uint8)  # a row begins with its filter: none
    rows[:, 1:] = picture.reshape(height, width * 3)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(name, data) for name, data in parts)


def _part(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
