"""What one sandbox was last used for and what keeps it awake: pure bookkeeping, with time as an argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from skerry.errors import LimitReached, NotFound
from skerry.model.sleep import LEASES_MAX, Lease


@dataclass(frozen=True)
class Moment:
    """The same instant on both clocks: one that never jumps, to count by, and one that people read."""

    at: datetime
    s: float


@dataclass
class Diary:
    """A hold keeps the sandbox awake for as long as something goes on, a lease for as long as it was asked for, a touch
    for the idle time."""

    active: Moment
    active_by: str | None = None
    woken: Moment | None = None
    woken_by: str | None = None
    cpu_s: float = 0.0
    """What it had used when its idle time began anew."""
    _holds: dict[int, str] = field(default_factory=dict[int, str])
    _leases: dict[str, Lease] = field(default_factory=dict[str, Lease])
    _holds_taken: int = 0

    def touch(self, now: Moment, by: str) -> None:
        self.active, self.active_by = now, by

    def hold(self, now: Moment, by: str) -> int:
        """A ticket, to be given to `release`."""
        self.touch(now, by)
        self._holds_taken += 1
        self._holds[self._holds_taken] = by
        return self._holds_taken

    def release(self, ticket: int, now: Moment) -> None:
        by = self._holds.pop(ticket, None)
        if by is not None:
            self.touch(now, by)

    def grant(self, lease: Lease, now: datetime) -> None:
        """Raises LimitReached."""
        self.expire(now)
        if len(self._leases) >= LEASES_MAX:
            raise LimitReached(f"this sandbox already has {LEASES_MAX} leases; end one, or let one run out")
        self._leases[lease.id] = lease

    def end(self, lease_id: str) -> Lease:
        """Raises NotFound."""
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            raise NotFound(f"this sandbox has no lease {lease_id}; it may have run out")
        return lease

    def expire(self, now: datetime) -> None:
        for lease in [lease for lease in self._leases.values() if lease.until <= now]:
            del self._leases[lease.id]

    def leases(self) -> list[Lease]:
        return sorted(self._leases.values(), key=lambda lease: lease.until)

    def kept_awake_by(self, now: datetime) -> list[str]:
        self.expire(now)
        leases = [f"lease: {lease.note}" if lease.note else f"lease {lease.id}" for lease in self.leases()]
        return [*dict.fromkeys(self._holds.values()), *leases]

    def idle_since_s(self, now: Moment) -> float | None:
        """Since when, by the clock that never jumps, nothing has happened; None while something keeps it awake."""
        self.expire(now.at)
        return None if self._holds or self._leases else self.active.s

    def sleeps_at(self, now: Moment, idle_s: float | None) -> datetime | None:
        """When it falls asleep if nothing more happens."""
        if idle_s is None or self._holds:
            return None
        asleep_at = now.at + timedelta(seconds=max(0.0, self.active.s + idle_s - now.s))
        return max([asleep_at, *(lease.until for lease in self._leases.values())])
