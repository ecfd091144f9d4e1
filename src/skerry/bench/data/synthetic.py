"""Conversations made up: lengths by a distribution, prefixes shared in groups, one turn or many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from skerry.bench.data.audio import wav
from skerry.bench.data.contract import Conversation, Turn
from skerry.bench.data.images import png
from skerry.bench.data.lengths import Draw
from skerry.bench.data.text import Writer


@dataclass(frozen=True)
class Synthetic:
    writer: Writer
    inputs: Draw
    outputs: Draw
    turns: Draw
    think_s: float = 0.0
    """Mean of an exponential time between turns; 0: none."""
    prefix_tokens: int = 0
    """Of a system prompt that all conversations of a group share."""
    prefix_groups: int = 1
    zipf: float = 0.0
    """How unevenly groups are chosen: the k-th as often as k ** -zipf; 0: evenly."""
    pictures: Sequence[tuple[int, int]] = ()
    """Width and height of those of each turn."""
    sound_s: Draw | None = None
    """Seconds of sound in each turn."""
    documents: Draw | None = None
    """That are put in order: a line each after the query, and as long."""
    scenario: str = ""
    seed: int = 0

    def conversations(self) -> Iterator[Conversation]:
        chance = np.random.default_rng(self.seed)
        prefixes = [
            self.writer.write(self.prefix_tokens, np.random.default_rng((self.seed, group)))
            for group in range(self.prefix_groups if self.prefix_tokens else 0)
        ]
        often = np.arange(1, len(prefixes) + 1) ** -self.zipf if prefixes else np.ones(1)
        often = often / often.sum()
        while True:
            turns = [self._turn(chance, number) for number in range(self.turns(chance))]
            system = prefixes[int(chance.choice(len(prefixes), p=often))] if prefixes else ""
            yield Conversation(turns, system, self.prefix_tokens if system else 0, self.scenario)

    def _turn(self, chance: np.random.Generator, number: int) -> Turn:
        tokens = self.inputs(chance)
        think_s = float(chance.exponential(self.think_s)) if number and self.think_s else 0.0
        images = [png(width, height, chance) for width, height in self.pictures]
        sound = wav(self.sound_s(chance), chance) if self.sound_s is not None else b""
        lines = 1 if self.documents is None else 1 + self.documents(chance)
        text = "\n".join(self.writer.write(tokens, chance) for _ in range(lines))
        return Turn(text, lines * tokens, self.outputs(chance), think_s, images=images, sound=sound)
