"""session: all requests of a session to one replica, and to the next in its own order where that one has too much.

Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2018), over weighted rendezvous hashing rather
than a ring: each session has an order of all replicas in which only what has come or gone moves, with no state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from skerry.gateway.routing.contract import Ask, Candidate, Choice
from skerry.gateway.routing.load import least, load
from skerry.gateway.routing.memoryless import Memoryless
from skerry.gateway.routing.turns import Turns, share

BOUND: Final = 1.25
"""Times the mean load that a replica takes at most. Less moves more sessions, more lets loads differ."""


def _rank(session: bytes, candidate: Candidate) -> float:
    """Lower is earlier. So drawn, the first is each with a chance as its weight says."""
    drawn = int.from_bytes(blake2b(candidate.id.encode(), digest_size=8, key=session).digest()) + 1
    return -math.log(drawn / (2**64 + 1)) / share(candidate)


class Session(Memoryless):
    name = "session"

    def __init__(self) -> None:
        self._turns = Turns()

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        key = ask.session or ask.client
        if not key:
            at = least(candidates, self._turns)
            self._turns.take(candidates[at])
            return Choice(at, "no session, least load")
        session = blake2b(key.encode(), digest_size=32).digest()
        order = sorted(range(len(candidates)), key=lambda i: (_rank(session, candidates[i]), candidates[i].id))
        weights = sum(share(candidate) for candidate in candidates)
        in_flight = sum(load(candidate) * share(candidate) for candidate in candidates) + 1
        most = BOUND * in_flight / weights
        for place, at in enumerate(order):
            if load(candidates[at]) < max(most, 1 / share(candidates[at])):
                return Choice(
                    at, "its session's" if not place else f"its session's number {place + 1}, others are full"
                )
        return Choice(order[0], "its session's")

    def gone(self, replica: str) -> None:
        self._turns.gone(replica)
