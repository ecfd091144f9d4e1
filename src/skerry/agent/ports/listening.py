"""Who listens on which port of a network namespace, as the kernel tells: no program of a guest is asked."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from skerry.agent.namespaces import inside
from skerry.model.port import Protocol

READ_BYTES_MAX = 1024 * 1024
"""Of each table, which begins with those that listen: a guest with many connections must not cost us more."""
_LISTEN = "0A"
_UNCONNECTED = "07"
_TABLES = (
    ("tcp", Protocol.TCP, _LISTEN),
    ("tcp6", Protocol.TCP, _LISTEN),
    ("udp", Protocol.UDP, _UNCONNECTED),
    ("udp6", Protocol.UDP, _UNCONNECTED),
)


class Listener(NamedTuple):
    ip: str
    port: int
    protocol: Protocol


def listeners_of(network: Path) -> list[Listener]:
    """Of the namespace that this file pins. Takes a thread's life; raises OSError."""
    found: list[Listener] = []
    inside(network, lambda: found.extend(listeners_here()))
    return found


def listeners_here() -> list[Listener]:
    """Of the namespace that this thread is in."""
    return [
        listener
        for name, protocol, state in _TABLES
        for listener in read_table(_text(Path("/proc/thread-self/net") / name), protocol, state)
    ]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(READ_BYTES_MAX).decode("ascii", "replace")
    except FileNotFoundError:  # a kernel without IPv6
        return ""


def read_table(text: str, protocol: Protocol, state: str) -> Iterable[Listener]:
    """The lines of /proc/net/tcp and its like that are in this state; a last line that is cut off is left out."""
    for line in text.split("\n")[1:]:
        parts = line.split()
        if len(parts) > 9 and parts[3] == state:
            address, _, port = parts[1].partition(":")
            yield Listener(_address(address), int(port, 16), protocol)


def _address(text: str) -> str:
    """Hexadecimal, in words of four bytes that are written as this machine keeps them: little end first."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))
