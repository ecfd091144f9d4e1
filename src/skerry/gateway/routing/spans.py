"""How long the blocks of a prompt are: as an engine's at its beginning, longer ones further on.

Beginnings are shared by many and end anywhere; of what goes on for long 50 tokens more or less do not change who should
answer. So a prompt of 32 KB has 198 blocks instead of 500 to be hashed, looked for and remembered. How long one is
depends on where it begins alone: a prompt that goes on from another has its blocks too. Sizes that grow faster (1, 4,
16, 64) found 0.1 to 0.4% less in `benchmarks/routing.py`, these as much as blocks that are all short.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from skerry.gateway.routing.contract import BLOCK_TOKENS

SIZES: Final = (*(size for size in (1, 2, 4, 8, 16, 32) for _ in range(64)), 64)
"""Of each block, in blocks of an engine. Together 64 Ki tokens: what comes after is not looked at."""
ENDS: Final = tuple(accumulate(SIZES))
SIZE_MAX: Final = max(SIZES)
_TOKENS: Final = (0, *(end * BLOCK_TOKENS for end in ENDS))


def tokens_of(blocks: int) -> int:
    """In so many blocks from the beginning on."""
    return _TOKENS[blocks]


def whole(engine_blocks: int) -> int:
    """How many of ours a prompt of so many has."""
    return bisect_right(ENDS, engine_blocks)


def thinned(blocks: Sequence[int]) -> list[int]:
    """Of an engine's blocks, each hashed with all before it: those at which one of ours ends."""
    return [blocks[end - 1] for end in ENDS[: whole(len(blocks))]]
