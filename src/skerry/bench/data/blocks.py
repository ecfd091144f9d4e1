"""Prompts of a trace that says which blocks they are made of: the same number is the same text, and no two are alike.

So two prompts share a prefix exactly where the trace's did. Texts are made when they are needed and not kept: a trace
of an hour has a gigabyte of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skerry.bench.data.text import Writer


@dataclass(frozen=True)
class Blocks:
    writer: Writer
    tokens: int
    """Of each block but the last of a prompt, which may be shorter."""
    seed: int = 0

    def text(self, ids: Sequence[int], tokens: int) -> str:
        """`tokens`: of the whole prompt."""
        parts: list[str] = []
        for id in ids:
            left = min(self.tokens, tokens - len(parts) * self.tokens)
            if left <= 0:
                break
            parts.append(self._block(id, left))
        missing = tokens - len(ids) * self.tokens
        if missing > 0:  # it has more tokens than blocks: nobody shares those
            parts.append(self._block(-1 - (ids[-1] if ids else 0), missing))
        return " ".join(parts)

    def _block(self, id: int, tokens: int) -> str:
        return self.writer.write(tokens, np.random.default_rng((self.seed, abs(id), id < 0)))
