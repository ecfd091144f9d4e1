"""sglang-router's `cache_aware`, written anew from its description for simulated time; the real one only has real time.

`sglang-router launch --help`, 0.3.2: imbalanced is a difference of more than 64 requests in flight and a quotient of
more than 1.5; then the least loaded worker, and the tree learns. Else the worker whose tree has the longest match, if
that is more than 0.3 of the prompt; else the least loaded. Trees are cut every 60 s to 2^26 characters, of which a
token has about four. It matches characters; we match blocks of 16 tokens, which costs it at most 15 tokens a match.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from skerry.gateway.routing.contract import Ask, Candidate, Choice
from skerry.gateway.routing.memoryless import Memoryless
from skerry.gateway.routing.prefix_index import PrefixIndex

BALANCE_ABS: Final = 64
BALANCE_REL: Final = 1.5
THRESHOLD: Final = 0.3
TREE_BLOCKS: Final = 2**26 // 64


class CacheAware(Memoryless):
    name = "sglang cache_aware"

    def __init__(self) -> None:
        self._trees = PrefixIndex(2**30)

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        loads = [candidate.in_flight for candidate in candidates]
        for candidate in candidates:
            self._trees.sized(candidate.id, TREE_BLOCKS)
        found = self._trees.matched(ask.blocks)
        matched = [found.get(candidate.id, 0) for candidate in candidates]
        least = loads.index(min(loads))
        if max(loads) - min(loads) > BALANCE_ABS and max(loads) > min(loads) * BALANCE_REL:
            return Choice(least, "imbalanced", matched[least])
        longest = matched.index(max(matched))
        if ask.blocks and matched[longest] > THRESHOLD * len(ask.blocks):
            return Choice(longest, "prefix", matched[longest])
        return Choice(least, "least load", matched[least])

    def routed(self, ask: Ask, replica: str, now_s: float) -> None:
        self._trees.add(replica, ask.blocks)
