"""Ids: a short prefix that tells the noun, then 12 hex digits; and what is always there by its name."""

from __future__ import annotations

import re

PREFIX = {
    "sandbox": "sb",
    "checkpoint": "cp",
    "image": "im",
    "operation": "op",
    "key": "key",
    "node": "node",
    "exec": "ex",
    "request": "rq",
    "lease": "ls",
    "network": "net",
    "volume": "vol",
    "secret": "sec",
    "queue": "qu",
    "job": "job",
    "notice": "ntc",
    "service": "svc",
    "token": "tok",
    "model": "mod",
}
ID_PATTERN = re.compile(rf"(?:{'|'.join(PREFIX.values())})-[0-9a-f]{{12}}")
QUEUE_DEFAULT = "default"
"""The queue that is always there; all nodes are its members until it is told otherwise."""


def make_id(noun: str, chance: bytes) -> str:
    """`chance`: 6 random bytes from the caller, so that this stays pure. Returns e.g. sb-3f9a1c2b7d4e."""
    if len(chance) != 6:
        raise ValueError("6 random bytes are needed")
    return f"{PREFIX[noun]}-{chance.hex()}"
