"""Requests to route: conversations made up with shared beginnings, and traces of others in the formats they come in."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

BLOCK_TOKENS: Final = 16
MOONCAKE_TOKENS: Final = 512
"""Of one of its blocks."""


class Turn(NamedTuple):
    blocks: tuple[int, ...]
    """Of the prompt and then of the answer, as far as a later prompt goes on from it."""
    prompt: int
    answer: int
    then_s: float = 0.0
    """From the end of its answer to the next turn."""

    @property
    def prompt_blocks(self) -> tuple[int, ...]:
        return self.blocks[: self.prompt // BLOCK_TOKENS]


class Session(NamedTuple):
    """Each turn waits for the answer before it; a trace with times of its own has sessions of one turn."""

    at_s: float
    turns: Sequence[Turn]
    name: str


class Shape(NamedTuple):
    """Conversations of users, each of whom uses one of few applications with a long system prompt."""

    sessions: int = 400
    per_s: float = 2.0
    applications: int = 12
    system: tuple[int, int] = (200, 1400)
    """Tokens, between the two."""
    turns: float = 5.0
    """On average, geometric."""
    question: tuple[int, int] = (30, 300)
    answer: tuple[int, int] = (40, 250)
    think_s: float = 6.0
    users: int = 150
    zipf: float = 1.1
    """The n-th user and the n-th application are so much rarer than the first: n to this power."""


TURNS_MAX: Final = 25


def synthetic(shape: Shape, seed: int) -> list[Session]:
    chance = random.Random(seed)

    def several(count: int) -> list[int]:
        return [chance.getrandbits(60) for _ in range(count)]

    systems = [several(chance.randint(*shape.system) // BLOCK_TOKENS) for _ in range(shape.applications)]
    rarer = [1 / (at + 1) ** shape.zipf for at in range(max(shape.users, shape.applications))]
    uses = chance.choices(range(shape.applications), rarer[: shape.applications], k=shape.users)
    sessions: list[Session] = []
    at_s = 0.0
    for _ in range(shape.sessions):
        at_s += chance.expovariate(shape.per_s)
        user = chance.choices(range(shape.users), rarer[: shape.users])[0]
        history = list(systems[uses[user]])
        tokens = len(history) * BLOCK_TOKENS
        turns: list[Turn] = []
        for _ in range(min(TURNS_MAX, 1 + int(chance.expovariate(1 / (shape.turns - 1))))):
            prompt = tokens + chance.randint(*shape.question)
            answer = chance.randint(*shape.answer)
            tokens = prompt + answer
            history += several(tokens // BLOCK_TOKENS - len(history))
            turns.append(Turn(tuple(history), prompt, answer, chance.expovariate(1 / shape.think_s)))
        sessions.append(Session(at_s, turns, f"user-{user}"))
    return sessions


def lines(path: Path, limit: int) -> Iterator[str]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for _, line in zip(range(limit), file, strict=False):
            yield line


def mooncake(rows: Iterable[str], faster: float) -> list[Session]:
    """{"timestamp": ms, "input_length", "output_length", "hash_ids": one for each 512 tokens, with all before it}."""
    parts = MOONCAKE_TOKENS // BLOCK_TOKENS
    sessions: list[Session] = []
    for row in rows:
        found = json.loads(row)
        blocks = [number * parts + part for number in found["hash_ids"] for part in range(parts)]
        prompt = max(1, found["input_length"])
        turn = Turn(tuple(blocks[: prompt // BLOCK_TOKENS]), prompt, max(1, found["output_length"]))
        sessions.append(Session(found["timestamp"] / 1000 / faster, (turn,), ""))
    began_s = sessions[0].at_s if sessions else 0.0
    return [session._replace(at_s=session.at_s - began_s) for session in sessions]


def bailian(rows: Iterable[str], faster: float) -> list[Session]:
    """{"chat_id", "parent_chat_id": -1 for the first, "timestamp": s, "input_length", "output_length", "type", "turn",
    "hash_ids": one for each 16 tokens}. The ids stand for a block alone, so each is put together with those before."""
    roots: dict[int, int] = {}
    sessions: list[Session] = []
    for row in rows:
        found = json.loads(row)
        root = roots[found["chat_id"]] = roots.get(found["parent_chat_id"], found["chat_id"])
        blocks: list[int] = []
        last = 0
        for number in found["hash_ids"]:
            last = hash((last, number))
            blocks.append(last)
        prompt = max(1, found["input_length"])
        turn = Turn(tuple(blocks[: prompt // BLOCK_TOKENS]), prompt, max(1, found["output_length"]))
        sessions.append(Session(found["timestamp"] / faster, (turn,), f"chat-{root}"))
    return sessions


def bailian_like(seed: int, sessions: int, per_s: float) -> Iterator[str]:
    """Rows in Bailian's format, made up: the dataset itself is not ours to carry along. Turns come at times of their
    own, and most chats are short (its paper tells of many single turns beside few long ones)."""
    shape = Shape(sessions=sessions, per_s=per_s, applications=40, system=(100, 2500), turns=3, zipf=1.2, users=400)
    ids: dict[int, int] = {}
    rows: list[tuple[float, dict[str, object]]] = []
    chat = 0
    for session in synthetic(shape, seed):
        at_s, parent = session.at_s, -1
        for number, turn in enumerate(session.turns, 1):
            chat += 1
            hashes = [ids.setdefault(block, len(ids)) for block in turn.prompt_blocks]
            times = {"chat_id": chat, "parent_chat_id": parent, "timestamp": round(at_s, 3)}
            sizes = {"input_length": turn.prompt, "output_length": turn.answer, "type": "text", "turn": number}
            rows.append((at_s, {**times, **sizes, "hash_ids": hashes}))
            parent = chat
            at_s += turn.answer * 0.05 + turn.then_s + 2.0
    rows.sort(key=lambda row: row[0])
    return (json.dumps(row) for _, row in rows)


def one_infinite_cache(sessions: Iterable[Session]) -> float:
    """Hit ratio where nothing is ever forgotten and there is only one replica: what no routing can be above, but for
    turns that overtake one another."""
    seen: set[int] = set()
    hit = tokens = 0
    for session in sessions:
        for turn in session.turns:
            found = 0
            for block in turn.prompt_blocks:
                if block not in seen:
                    break
                found += 1
            hit += min(found, (turn.prompt - 1) // BLOCK_TOKENS) * BLOCK_TOKENS
            tokens += turn.prompt
            seen.update(turn.blocks)
    return hit / tokens
