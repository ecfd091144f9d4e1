"""How fast replicas read prompts, learned from when first tokens came.

The time from one first token to the next, or from when a prompt came where nobody was ahead of it, over its work: the
tokens that were not cached, and what `attention` adds to them. So what is learned is how fast it is now, also when who
begins has waited for long. Sums that fade rather than a mean of quotients: of prompts that were read together the first
to begin has all of the time.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

from skerry.gateway.routing.attention import Attention
from skerry.gateway.routing.contract import Ask, Candidate

FIRST_S_PER_TOKEN: Final = 1e-4
"""Before anything is known: ten thousand tokens a second. It only sets seconds beside one another."""
KEPT: Final = 0.98
"""Of what was learned, from one request to the next."""
TOKENS_LEAST: Final = 64
"""A request that needs less than this says nothing of how fast prompts are read."""
FLEET_SAMPLES: Final = 4.0
"""How many requests of its own a replica needs to count for as much as the others' mean."""
SENT_MAX: Final = 100_000


class Speeds:
    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._tokens: dict[str, float] = {}
        self._samples: dict[str, float] = {}
        self._all_seconds = 0.0
        self._all_tokens = 0.0
        self._began_s: dict[str, float] = {}
        """When the last first token came."""
        self._sent: OrderedDict[tuple[int, str], tuple[float, float]] = OrderedDict()
        """(request, replica) -> tokens of it to be read there, and pairs of them and those before."""
        self._attention = Attention()

    @property
    def tokens_per_pair(self) -> float:
        return self._attention.tokens_per_pair

    @property
    def fleet_s_per_token(self) -> float:
        return self._all_seconds / self._all_tokens if self._all_tokens else FIRST_S_PER_TOKEN

    def s_per_token(self, candidate: Candidate) -> float:
        if candidate.prefill_s_per_token > 0:
            return candidate.prefill_s_per_token
        tokens = self._tokens.get(candidate.id, 0.0)
        fleet = self.fleet_s_per_token
        if not tokens:
            return fleet
        samples = self._samples[candidate.id]
        own = self._seconds[candidate.id] / tokens
        return (own * samples + fleet * FLEET_SAMPLES) / (samples + FLEET_SAMPLES)

    def sent(self, ask: Ask, replica: str, tokens: float, pairs: float = 0.0) -> None:
        """`tokens`: of it, to be read there."""
        self._sent[id(ask), replica] = tokens, pairs
        if len(self._sent) > SENT_MAX:
            self._sent.popitem(last=False)

    def began(self, ask: Ask, replica: str, ttft_s: float, now_s: float) -> None:
        tokens, pairs = self._sent.pop((id(ask), replica), (0.0, 0.0))
        took_s = min(ttft_s, now_s - self._began_s.get(replica, -math.inf))
        self._began_s[replica] = now_s
        if ttft_s <= 0 or took_s < 0 or tokens < TOKENS_LEAST:
            return
        if self._seconds.get(replica, 0.0) > 0:
            self._attention.saw(tokens, pairs, took_s * self._tokens[replica] / self._seconds[replica])
        work = tokens + pairs * self.tokens_per_pair
        for kept in (self._seconds, self._tokens, self._samples):
            kept[replica] = kept.get(replica, 0.0) * KEPT
        self._seconds[replica] += took_s
        self._tokens[replica] += work
        self._samples[replica] += 1
        self._all_seconds = self._all_seconds * KEPT + took_s
        self._all_tokens = self._all_tokens * KEPT + work

    def ended(self, ask: Ask, replica: str) -> None:
        self._sent.pop((id(ask), replica), None)

    def gone(self, replica: str) -> None:
        for kept in (self._seconds, self._tokens, self._samples, self._began_s):
            kept.pop(replica, None)
        for key in [key for key in self._sent if key[1] == replica]:
            del self._sent[key]
