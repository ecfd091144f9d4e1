"""How much longer a token takes for those before it, learned from when first tokens came: attention makes reading a
prompt of 100,000 tokens three times as long as its tokens say.

Work is counted in tokens: those that are to be read, and for each pair of such a token and one before it
`tokens_per_pair` more. That is the model's, the same for all replicas; how long a token takes is each one's own. Least
squares over requests, weighted by their lengths and fading, with little weight given to what short prompts say.
"""

from __future__ import annotations

from typing import Final

from skerry.gateway.routing.contract import Ask
from skerry.gateway.routing.spans import tokens_of

KEPT: Final = 0.995
"""Of what was learned, from one request to the next."""
UNUSUAL: Final = 3.0
"""Times what was expected, or one of so many: it found less in a cache than was thought, or waited for room."""
EXPECTED_LEAST: Final = 1e-5
"""For what is unusual, as long as nothing is known: an 8B model on one H100 has 4e-5."""
SHRUNK: Final = 0.05
"""Of all tokens: as if so many more, with `TOKENS` before each, had taken no longer. Short prompts say nothing."""
TOKENS: Final = 16_384.0
PER_PAIR_MAX: Final = 1e-3


def uncached(ask: Ask, matched: int) -> int:
    """At least one token is computed, even of a prompt that is all there."""
    return max(1, ask.prompt_tokens - tokens_of(matched))


def pairs(ask: Ask, matched: int) -> float:
    """Of tokens to be read with those before them."""
    tokens = uncached(ask, matched)
    return tokens * (ask.prompt_tokens - tokens / 2)


class Attention:
    def __init__(self) -> None:
        self.tokens_per_pair = 0.0
        self._tokens = self._pairs = self._squares = self._took = self._moment = 0.0
        """Sums over requests of x, y, y y / x, t and t y / x, with pairs in units of `TOKENS`."""

    def saw(self, tokens: float, pairs: float, took: float) -> None:
        """`took`: in tokens too, at the speed that the replica is known to have."""
        expected = tokens + pairs * max(self.tokens_per_pair, EXPECTED_LEAST)
        if not expected / UNUSUAL < took < expected * UNUSUAL:
            return
        y = pairs / TOKENS
        self._tokens = self._tokens * KEPT + tokens
        self._pairs = self._pairs * KEPT + y
        self._squares = self._squares * KEPT + y * y / tokens
        self._took = self._took * KEPT + took
        self._moment = self._moment * KEPT + took * y / tokens
        squares = self._squares + SHRUNK * self._tokens
        each = self._took * squares - self._moment * self._pairs
        more = self._moment * self._tokens - self._took * self._pairs
        if each > 0:  # both over the same determinant, which is never below 0
            self.tokens_per_pair = min(max(0.0, more / each / TOKENS), PER_PAIR_MAX)
