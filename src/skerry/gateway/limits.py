"""How much anybody may ask of the gateway: connections, callers that are held, and wakes by those we do not know."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Generator
from contextlib import contextmanager

from skerry.errors import LimitReached, Unavailable

CONNECTIONS_MAX = 9_000
"""Open at one time. Each may need a stream of the agent, which allows 10,000."""
HELD_MAX = 4_000
"""Callers that wait at one time for a sandbox to wake or a port to listen."""
HELD_PER_SANDBOX_MAX = 500
RETRY_S = 5.0

WAKES_PER_SANDBOX = 6
WAKE_EACH_SANDBOX_S = 10.0
"""A public sandbox may be woken six times in a row by people who show nothing, and then once in ten seconds."""
WAKES_PER_CLIENT = 12
WAKE_EACH_CLIENT_S = 5.0
"""The same for one address, over all sandboxes."""
REMEMBERED_MAX = 10_000
"""Sandboxes and addresses counted at one time; those with nothing to remember go first."""


class Held:
    def __init__(self, gateways: int = 1) -> None:
        """Of so many on this machine each has an equal part."""
        self._most = HELD_MAX // gateways
        self._most_here = HELD_PER_SANDBOX_MAX // gateways
        self._by_sandbox: dict[str, int] = {}
        self._count = 0

    @contextmanager
    def one(self, sandbox_id: str) -> Generator[None]:
        """Raises Unavailable."""
        here = self._by_sandbox.get(sandbox_id, 0)
        if self._count >= self._most or here >= self._most_here:
            raise Unavailable("too many callers already wait for this sandbox; try again", retry_after_s=RETRY_S)
        self._count += 1
        self._by_sandbox[sandbox_id] = here + 1
        try:
            yield
        finally:
            self._count -= 1
            self._by_sandbox[sandbox_id] -= 1
            if not self._by_sandbox[sandbox_id]:
                del self._by_sandbox[sandbox_id]


class Buckets:
    """`size` at once, and one more in every `each_s`. An entry is the moment at which a bucket is full again."""

    def __init__(self, size: int, each_s: float) -> None:
        self._size = size
        self._each_s = each_s
        self._full_at_s: dict[str, float] = {}

    def wait_s(self, name: str, now_s: float) -> float:
        """0: there is one to take."""
        full_at_s = max(self._full_at_s.get(name, 0.0), now_s)
        return max(0.0, full_at_s + self._each_s - now_s - self._size * self._each_s)

    def take(self, name: str, now_s: float) -> None:
        if len(self._full_at_s) >= REMEMBERED_MAX:
            self._full_at_s = {key: at_s for key, at_s in self._full_at_s.items() if at_s > now_s}
            if len(self._full_at_s) >= REMEMBERED_MAX:
                # Everybody is busy waking things: whoever is nearest to full is forgotten.
                del self._full_at_s[min(self._full_at_s, key=self._full_at_s.__getitem__)]
        self._full_at_s[name] = max(self._full_at_s.get(name, 0.0), now_s) + self._each_s


class WakeLimits:
    def __init__(self, monotonic_s: Callable[[], float], gateways: int = 1) -> None:
        self._monotonic_s = monotonic_s
        self._sandboxes = Buckets(max(1, WAKES_PER_SANDBOX // gateways), WAKE_EACH_SANDBOX_S * gateways)
        self._clients = Buckets(max(1, WAKES_PER_CLIENT // gateways), WAKE_EACH_CLIENT_S * gateways)

    def take(self, sandbox_id: str, client: str) -> None:
        """Raises LimitReached."""
        client = _owner_of(client)
        now_s = self._monotonic_s()
        wait_s = max(self._sandboxes.wait_s(sandbox_id, now_s), self._clients.wait_s(client, now_s))
        if wait_s > 0:
            say = "this sandbox sleeps, and was woken too often through its public URL; try again later"
            raise LimitReached(say, retry_after_s=wait_s)
        self._sandboxes.take(sandbox_id, now_s)
        self._clients.take(client, now_s)


def _owner_of(address: str) -> str:
    """Whoever has one IPv6 address has the 2**64 beside it."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
