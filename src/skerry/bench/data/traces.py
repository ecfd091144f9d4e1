"""Traces of what real users asked: when, how long, and of which blocks; texts are made up to match.

Mooncake: JSON lines, milliseconds, blocks of 512 tokens. Bailian (Qwen): JSON lines, seconds, blocks of 16 tokens,
sessions by `parent_chat_id`. Azure 2023 and 2024, BurstGPT: CSV with lengths alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from skerry.bench.data.blocks import Blocks
from skerry.bench.data.contract import Conversation, Turn
from skerry.bench.data.rows import TIMES, csv_rows, first_of, json_lines, moment_s
from skerry.bench.data.text import Writer
from skerry.errors import Invalid

MOONCAKE_BLOCK, BAILIAN_BLOCK = 512, 16
INPUTS = ("ContextTokens", "Request tokens", "input_length", "input_tokens", "prompt_tokens")
OUTPUTS = ("GeneratedTokens", "Response tokens", "output_length", "output_tokens", "completion_tokens")


def _bad(path: Path, number: int, error: Exception) -> Invalid:
    return Invalid(f"{path}, row {number}: not such a trace: {error!r}", field="data.path")


@dataclass(slots=True)
class Asked:
    """One request of a trace."""

    at_s: float
    """From the first."""
    tokens: int
    output_tokens: int
    ids: Sequence[int] = ()
    """Of its blocks."""
    session: int = -1


class Trace(Protocol):
    @property
    def block(self) -> int:
        """Tokens of a block; 0: the trace has none."""
        ...

    def asked(self) -> Iterator[Asked]:
        """In the order of the file. Raises Invalid."""
        ...


@dataclass(frozen=True)
class Mooncake:
    path: Path
    writer: Writer
    scenario: str = ""
    seed: int = 0
    block: int = MOONCAKE_BLOCK

    def asked(self) -> Iterator[Asked]:
        began_ms: float | None = None
        for number, row in json_lines(self.path):
            try:
                at_ms, tokens, outputs = float(row["timestamp"]), int(row["input_length"]), int(row["output_length"])
                ids = array("q", row["hash_ids"])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise _bad(self.path, number, error) from None
            began_ms = at_ms if began_ms is None else began_ms
            yield Asked(max(0.0, at_ms - began_ms) / 1000, tokens, outputs, ids)

    def conversations(self) -> Iterator[Conversation]:
        """Raises Invalid."""
        blocks = Blocks(self.writer, self.block, self.seed)
        for each in self.asked():
            turn = Turn(blocks.text(each.ids, each.tokens), each.tokens, each.output_tokens, at_s=each.at_s)
            yield Conversation([turn], scenario=self.scenario)


@dataclass(frozen=True)
class Lengths:
    """CSV with when, tokens in, tokens out; those that were not answered are left out."""

    path: Path
    writer: Writer
    scenario: str = ""
    seed: int = 0
    block: int = 0

    def asked(self) -> Iterator[Asked]:
        began_s: float | None = None
        for number, row in csv_rows(self.path):
            try:
                at_s = moment_s(first_of(row, TIMES))
                inputs, outputs = int(first_of(row, INPUTS)), int(first_of(row, OUTPUTS))
            except (TypeError, ValueError) as error:
                raise _bad(self.path, number, error) from None
            if outputs > 0 and inputs > 0:
                began_s = at_s if began_s is None else began_s
                yield Asked(max(0.0, at_s - began_s), inputs, outputs)

    def conversations(self) -> Iterator[Conversation]:
        """Raises Invalid."""
        for number, each in enumerate(self.asked()):
            text = self.writer.write(each.tokens, np.random.default_rng((self.seed, number)))
            turn = Turn(text, each.tokens, each.output_tokens, at_s=each.at_s)
            yield Conversation([turn], scenario=self.scenario)


@dataclass(frozen=True)
class Bailian:
    """A turn's blocks hold its whole prompt, answers before it included, as the trace's server saw it."""

    path: Path
    writer: Writer
    scenario: str = ""
    seed: int = 0
    block: int = BAILIAN_BLOCK

    def asked(self) -> Iterator[Asked]:
        root: dict[int, int] = {}
        began_s: float | None = None
        for number, row in json_lines(self.path):
            try:
                chat, parent = int(row["chat_id"]), int(row["parent_chat_id"])
                at_s, ids = float(row["timestamp"]), array("q", row["hash_ids"])
                tokens, outputs = int(row["input_length"]), int(row["output_length"])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise _bad(self.path, number, error) from None
            root[chat] = root.get(parent, chat) if parent >= 0 else chat
            began_s = at_s if began_s is None else began_s
            yield Asked(max(0.0, at_s - began_s), tokens, outputs, ids, root[chat])

    def conversations(self) -> Iterator[Conversation]:
        """In the order in which sessions began. Raises Invalid."""
        blocks = Blocks(self.writer, self.block, self.seed)
        sessions: dict[int, list[Asked]] = {}
        for each in self.asked():
            sessions.setdefault(each.session, []).append(each)
        for asked in sessions.values():
            asked.sort(key=lambda each: each.at_s)
        for asked in sorted(sessions.values(), key=lambda asked: asked[0].at_s):
            turns = [
                Turn(blocks.text(each.ids, each.tokens), each.tokens, each.output_tokens, at_s=each.at_s)
                for each in asked
            ]
            yield Conversation(turns, scenario=self.scenario, fixed=True)
