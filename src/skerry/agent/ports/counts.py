"""What went through one published port since it was opened."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    connections_total: int = 0
    received_bytes: int = 0
    """By the sandbox."""
    sent_bytes: int = 0

    def moved(self, count: int, *, inward: bool) -> None:
        if inward:
            self.received_bytes += count
        else:
            self.sent_bytes += count
