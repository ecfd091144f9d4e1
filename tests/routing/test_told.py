"""What engines tell of their caches, put beside the text that was sent to them: with a real cache that is too small."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from skerry.engines.simulator.blocks import EventKind
from skerry.engines.simulator.core import Engine
from skerry.engines.simulator.profile import Profile
from skerry.engines.simulator.work import Work
from skerry.gateway.routing.contract import BLOCK_TOKENS, Ask, Candidate
from skerry.gateway.routing.prefix import Prefix
from skerry.gateway.routing.spans import ENDS, tokens_of, whole
from skerry.gateway.routing.told import Told

HERE = "r0"
ESTIMATED = 1.3
"""Our tokens for each of the engine's."""


def ask(blocks: list[int], prompt: int) -> Ask:
    """As the gateway has it: parts of text, which end anywhere in the engine's blocks."""
    estimated = int(prompt * ESTIMATED)
    ends = [int(end / ESTIMATED) for end in ENDS[: whole(estimated // BLOCK_TOKENS)]]
    return Ask([hash((at, tuple(blocks[: max(1, end)]))) for at, end in enumerate(ends)], estimated)


def test_a_chain_that_only_one_can_have_sent_is_its_own() -> None:
    told = Told()
    first, second = Ask([1, 2, 3, 4], 64), Ask([1, 2, 7], 48)
    told.sent(first)
    told.stored((b"a", b"b", b"c", b"d"), None, 16)
    assert told.ended(first, 64)
    told.stored((b"answer",), b"d", 16)
    told.sent(second)
    told.stored((b"e",), b"b", 16)
    assert told.ended(second, 48)
    assert len(told) == 5
    assert told.removed((b"answer", b"d")) == [4]
    assert told.removed((b"e", b"never stored")) == [7]
    assert told.removed((b"c", b"b")) == [3, 2]
    told.cleared()
    assert len(told) == 0


def test_what_cannot_be_told_apart_is_left_alone() -> None:
    told = Told()
    one, other, silent = Ask([1, 2], 32), Ask([5, 6], 32), Ask([8], 16)
    for each in (one, other, silent):
        told.sent(each)
    told.stored((b"a", b"b"), None, 16)
    told.stored((b"p", b"q"), None, 16)
    told.stored((b"x",), b"of a chain that began before", 16)
    assert not told.ended(one, 32)
    assert not told.ended(silent, 0)
    assert not told.ended(Ask([1], 16), 16), "nobody sent it"
    assert told.removed((b"b", b"q", b"x")) == []


@dataclass
class World:
    """One small engine, and a policy that is told of its events or is not."""

    telling: bool
    engine: Engine = field(default_factory=lambda: Engine(Profile(blocks=600, slowness=2.0), publish=True))
    policy: Prefix = field(default_factory=Prefix)
    told: Told = field(default_factory=Told)
    flying: dict[str, Ask] = field(default_factory=dict[str, Ask])
    wrong: int = 0
    known: int = 0

    def settle(self, now_s: float) -> None:
        outputs = self.engine.advance(now_s)
        for event in self.engine.events() if self.telling else ():
            if event.kind is EventKind.STORED:
                self.told.stored(tuple(event.blocks), event.parent, BLOCK_TOKENS)
            else:
                self.policy.removed(HERE, self.told.removed(tuple(event.blocks)))
        for output in outputs:
            if output.ended:
                sent = self.flying.pop(output.work.id)
                self.policy.ended(sent, HERE, True, 0.1, now_s)
                if self.told.ended(sent, output.work.prompt):
                    self.known += 1
                    self.policy.stored(HERE, sent)

    def send(self, work: Work, now_s: float) -> int:
        """How many tokens are expected to be found there."""
        self.settle(now_s)
        sent = ask(list(work.blocks), work.prompt)
        replica = Candidate(HERE, cache_blocks=int(600 * ESTIMATED))
        matched = self.policy.pick(sent, [replica], now_s).matched_blocks
        self.policy.routed(sent, HERE, now_s)
        self.told.sent(sent)
        self.flying[work.id] = sent
        self.engine.submit(work, now_s)
        return int(tokens_of(matched) / ESTIMATED)


def error(telling: bool) -> tuple[int, World]:
    """Tokens between what was expected to be found in the cache and what was, over all requests."""
    chance = random.Random(7)
    histories: list[list[int]] = [[] for _ in range(40)]
    world = World(telling)
    expected: list[tuple[int, Work]] = []
    now_s = 0.0
    for number in range(600):
        now_s += chance.expovariate(6.0)
        history = histories[chance.randrange(len(histories))]
        if len(history) > 60:
            history.clear()
        history.extend(chance.getrandbits(60) for _ in range(chance.randrange(4, 20)))
        work = Work(str(number), len(history) * BLOCK_TOKENS + chance.randrange(16), 20, tuple(history))
        expected.append((world.send(work, now_s), work))
    world.settle(now_s + 1000.0)
    return sum(abs(found - work.cached) for found, work in expected), world


def test_of_a_cache_that_is_too_small_events_tell_what_is_left() -> None:
    untold, _ = error(telling=False)
    told, world = error(telling=True)
    assert world.known > 400
    assert told < untold / 2
