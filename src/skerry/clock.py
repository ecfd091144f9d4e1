"""Time as an argument: everything that decides by time is given a Clock, so that a test can hold it still."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall time, UTC, for what people read and for records."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never jump, for deadlines inside one process."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()
