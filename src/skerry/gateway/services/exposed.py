"""What an engine's metrics say, found in Prometheus' text without reading all of it: there are thousands of lines, each
second, of each replica."""

from __future__ import annotations

import re
from collections.abc import Iterator

from skerry.gateway.routing.contract import BLOCK_TOKENS

_LABEL = re.compile(rb'(\w+)="((?:[^"\\]|\\.)*)"')


def rows(text: bytes, name: str) -> Iterator[tuple[bytes, float]]:
    """Labels as they are written, and the value, of each row of a metric."""
    wanted = name.encode()
    at = text.find(wanted) if wanted else -1
    while at >= 0:
        end = text.find(b"\n", at)
        line = text[at + len(wanted) : end if end >= 0 else len(text)]
        if text[at - 1 : at] in (b"", b"\n") and line[:1] in (b"{", b" "):
            labels, _, value = line.rpartition(b"}")
            try:
                yield labels, float(value.split()[0])
            except (ValueError, IndexError):
                pass
        at = text.find(wanted, at + len(wanted))


def total(text: bytes, name: str) -> float:
    """Over all labels; 0 where there is none."""
    return sum(value for _, value in rows(text, name))


def share(text: bytes, name: str) -> float | None:
    """The mean over all the engine's ranks, each of which says its own; None where there is none."""
    values = [value for _, value in rows(text, name)]
    return sum(values) / len(values) if values else None


def is_counter(text: bytes, name: str) -> bool:
    """Whether it only grows. OpenMetrics leaves the end of its name out where it says so."""
    named = {name, name.removesuffix("_total")}
    return any(f"# TYPE {each} counter\n".encode() in text for each in named)


def cache_blocks(text: bytes, name: str) -> int:
    """Of `BLOCK_TOKENS` tokens, over all the engine's ranks; 0 where it does not say."""
    found = 0
    for labels, _ in rows(text, name):
        told = _read(labels)
        try:
            found += int(told["num_gpu_blocks"]) * int(told["block_size"]) // BLOCK_TOKENS
        except (KeyError, ValueError):
            continue
    return max(0, found)


def adapters(text: bytes, name: str) -> frozenset[str]:
    """Those that requests use now or wait for."""
    labels, _ = max(rows(text, name), key=lambda row: row[1], default=(b"", 0.0))
    told = _read(labels)
    names = f"{told.get('running_lora_adapters', '')},{told.get('waiting_lora_adapters', '')}".split(",")
    return frozenset(filter(None, map(str.strip, names)))


def _read(labels: bytes) -> dict[str, str]:
    return {key.decode(): value.decode("utf-8", "replace") for key, value in _LABEL.findall(labels)}
