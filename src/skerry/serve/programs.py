"""Whether each program runs, and when one that died is started again. No clock, no processes: told and asked."""

from __future__ import annotations

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 5.0
STEADY_AFTER_S = 30.0
"""A program that ran this long was well: its next death is answered at once again."""


class Program:
    def __init__(self, name: str, listening: int | None = None) -> None:
        self.name = name
        self.kind = name.partition("-")[0]
        """`gateway` of gateway-1."""
        self.listening = listening
        """Descriptor of the socket that it inherits; None: it has none."""
        self.pid: int | None = None
        self.ready = False
        self.turn = 0
        """How often others had been wanted in place of those that ran, when it was started."""
        self._started_s = 0.0
        self._backoff_s = BACKOFF_FIRST_S
        self.start_at_s: float | None = 0.0
        """When to start it; None while it runs or must not."""

    @property
    def running(self) -> bool:
        return self.pid is not None

    def started(self, pid: int, now_s: float, turn: int = 0) -> None:
        self.pid, self._started_s, self.start_at_s, self.turn = pid, now_s, None, turn

    def up_s(self, now_s: float) -> float:
        return now_s - self._started_s

    def ended(self, now_s: float, *, again: bool) -> None:
        self.pid, self.ready = None, False
        if not again:
            self.start_at_s = None
            return
        if self.up_s(now_s) >= STEADY_AFTER_S:
            self._backoff_s = BACKOFF_FIRST_S
        self.start_at_s = now_s + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_MAX_S)
