"""What one request did and when, for whoever traces it: how long it waited, and each replica that was tried."""

from __future__ import annotations

import re
from random import Random

from skerry.gateway.services.head import Head

_LINE = re.compile(rb"(?im)^traceparent:[^\r\n]*\r\n")


class Attempt:
    __slots__ = ("because", "began_s", "ended_s", "id", "replica", "why")

    def __init__(self, id: str, replica: str, why: str, began_s: float) -> None:
        self.id = id
        self.replica = replica
        self.why = why
        self.began_s = began_s
        self.ended_s = 0.0
        """0: it is the last."""
        self.because = ""
        """Why another was tried."""


class Trace:
    __slots__ = ("_draw", "attempts", "id", "parent", "span")

    def __init__(self, head: Head, draw: Random) -> None:
        self._draw = draw
        self.id = head.trace or f"{draw.getrandbits(128) or 1:032x}"
        self.parent = head.span
        """The caller's span; empty: there is none."""
        self.span = self._new()
        self.attempts: list[Attempt] = []

    def _new(self) -> str:
        return f"{self._draw.getrandbits(64) or 1:016x}"

    def tries(self, replica: str, why: str, now_s: float) -> None:
        self.attempts.append(Attempt(self._new(), replica, why, now_s))

    def failed(self, because: str, now_s: float) -> None:
        """The last one: another is tried, or waited for."""
        if self.attempts and not self.attempts[-1].ended_s:
            self.attempts[-1].ended_s, self.attempts[-1].because = now_s, because

    def told(self, passed: bytes) -> bytes:
        """The head for a replica, by which what it does itself belongs to this attempt."""
        span = self.attempts[-1].id if self.attempts else self.span
        return _LINE.sub(b"", passed) + f"traceparent: 00-{self.id}-{span}-01\r\n".encode()
