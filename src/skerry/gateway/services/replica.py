"""A replica as the gateway sees it: its kept connections, what it is doing, and whether it is left out for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from skerry.errors import SkerryError
from skerry.gateway.routing.contract import Candidate
from skerry.gateway.routing.told import Told
from skerry.gateway.services.answer import AnswerHeads
from skerry.gateway.services.upstream import Upstream
from skerry.model.service import Ejection
from skerry.model.traffic import RouteReplica

KEPT_MAX = 512
"""Connections kept to one replica while nobody uses them."""
EJECTED_TIMES_MAX = 10.0
"""So many times the ejection's seconds at most, however often it failed."""
WAKE_S_MAX = 60.0
"""Longer than the agent waits for a sandbox to wake and for its port to listen."""


class Replica:
    def __init__(self, route: RouteReplica, heads: AnswerHeads, streams_socket: str) -> None:
        self.id = route.id
        self.name = route.id.encode("latin-1", "replace")
        self.route = route
        place = urlsplit(route.url)
        self.host = place.hostname or ""
        self.port = place.port or 80
        self.candidate = Candidate(id=route.id, weight=route.weight, role=route.role.value)
        self.cache_use: float | None = None
        """Of its engine's KV cache, 0 to 1. None: it does not tell."""
        self.seen: dict[str, float] = {}
        """What of it is watched for the autoscaler, as its engine told last."""
        self.counters: dict[str, tuple[float, float]] = {}
        """(when, how much) of what is counted there, to tell by how much it grows."""
        self.told: Told | None = None
        """What its engine tells of its cache, where it does."""
        self.gone = False
        """It left the routes: what it does it ends, and it gets nothing new."""
        self.ejected_until_s = 0.0
        self.failures = 0
        """In a row."""
        self.half_open = False
        """It was left out, and has one request to show that it is well again."""
        self._times = 0
        """In a row that it was left out."""
        self._heads = heads
        self._streams_socket = streams_socket
        self._kept: list[Upstream] = []

    # Connections

    def take(self) -> Upstream | None:
        """One that was used before; the newest, which is the least likely to be closed on the other side."""
        while self._kept:
            upstream = self._kept.pop()
            if upstream.is_open:
                return upstream
        return None

    async def connect(self, timeout_s: float) -> Upstream:
        """Raises OSError, TimeoutError, SkerryError."""
        loop = asyncio.get_running_loop()
        if self.route.asleep:
            _, upstream = await loop.create_unix_connection(
                lambda: Upstream(self, self._heads, greets=True), self._streams_socket
            )
            try:
                await upstream.put_through(self.id, self.port, WAKE_S_MAX)
            except (OSError, TimeoutError, SkerryError):
                upstream.abort()
                raise
            return upstream
        async with asyncio.timeout(timeout_s):
            _, upstream = await loop.create_connection(lambda: Upstream(self, self._heads), self.host, self.port)
        return upstream

    def back(self, upstream: Upstream) -> None:
        if self.gone or len(self._kept) >= KEPT_MAX:
            upstream.abort()
        else:
            self._kept.append(upstream)

    def lost(self, upstream: Upstream) -> None:
        if upstream in self._kept:
            self._kept.remove(upstream)

    def close(self) -> None:
        """It is gone: connections that nobody uses are closed, the others end what they do."""
        self.gone = True
        kept, self._kept = self._kept, []
        for upstream in kept:
            upstream.abort()

    # How it does

    def is_free(self, limit: int) -> bool:
        """Whether it may be given one more; 0: there is no limit."""
        in_flight = self.candidate.in_flight
        return (not limit or in_flight < limit) and not (in_flight and self.half_open)

    def worked(self) -> None:
        self.failures = 0
        if self.half_open:
            self.half_open = False
            self._times = 0

    def failed(self, ejection: Ejection, now_s: float, may_go: Callable[[], bool]) -> bool:
        """Whether it is left out from now on."""
        self.failures += 1
        if not self.half_open and (self.failures < ejection.failures or not may_go()):
            return False
        seconds = min(ejection.seconds * 2**self._times, ejection.seconds * EJECTED_TIMES_MAX)
        self._times += 1
        self.half_open = False
        self.failures = 0
        self.ejected_until_s = now_s + seconds
        return True
