"""Read safetensors: a header of JSON, which may be hostile, and numbers behind it, of which none is read ahead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES_MAX = 100 * 1024 * 1024
DIMENSIONS_MAX = 4
Floats = NDArray[np.float32]

WIDTHS = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}


class Refused(Exception):
    """In one sentence, for the user."""


@dataclass(frozen=True)
class Tensor:
    file: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    at: int
    size_bytes: int

    def read(self) -> Floats:
        count = self.size_bytes // WIDTHS[self.kind]
        if self.kind == "BF16":  # the upper half of a float
            raw = np.fromfile(self.file, dtype="<u2", count=count, offset=self.at)
            return (raw.astype(np.uint32) << 16).view(np.float32).reshape(self.shape)
        kind = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}[self.kind]
        return np.fromfile(self.file, dtype=kind, count=count, offset=self.at).astype(np.float32).reshape(self.shape)


def tensors(folder: Path) -> Iterator[Tensor]:
    """Of all files in it, in the order of their names."""
    for path in sorted(folder.glob("*.safetensors")):
        yield from read_header(path)


def read_header(path: Path) -> list[Tensor]:
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(HEADER_BYTES_MAX, size_bytes - 8):
            raise Refused(f"{path.name} is no safetensors file: its header would be {length} bytes")
        try:
            header: Any = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise Refused(f"{path.name} is no safetensors file: its header is not JSON") from None
    if not isinstance(header, dict):
        raise Refused(f"{path.name} is no safetensors file: its header is no object")
    found = [
        _tensor(path, name, entry, 8 + length, size_bytes)
        for name, entry in cast(dict[str, Any], header).items()
        if name != "__metadata__"
    ]
    return sorted(found, key=lambda tensor: tensor.at)


def _tensor(path: Path, name: str, entry: Any, base: int, size_bytes: int) -> Tensor:
    try:
        kind, shape = str(entry["dtype"]), tuple(int(each) for each in entry["shape"])
        start, end = (int(each) for each in entry["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise Refused(f"{path.name}: its header says of {name[:80]!r} what is not understood") from None
    if kind not in WIDTHS:
        raise Refused(f"{path.name}: {name[:80]} is of type {kind[:20]}; {', '.join(WIDTHS)} can be converted")
    count = 1
    for each in shape:
        count *= each
    fits = 0 <= start <= end <= size_bytes - base and end - start == count * WIDTHS[kind]
    if not fits or len(shape) > DIMENSIONS_MAX or min(shape, default=0) < 0:
        raise Refused(f"{path.name}: {name[:80]} does not fit into its file")
    return Tensor(path, name, kind, shape, base + start, end - start)
