"""The engine in real time: timers run its steps, and who waits for a request is told of its tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from skerry.engines.kv_events import KvEvent
from skerry.engines.simulator.blocks import EventKind
from skerry.engines.simulator.core import NEVER, Engine
from skerry.engines.simulator.profile import BLOCK_TOKENS
from skerry.engines.simulator.work import Work


class Runner:
    """`speed`: seconds of the engine in one of the clock."""

    def __init__(self, engine: Engine, speed: float, publish: Callable[[list[KvEvent]], None] | None = None) -> None:
        self.engine = engine
        self._speed = speed
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._news: dict[Work, asyncio.Event] = {}
        self._told: dict[Work, tuple[int, bool]] = {}
        self._tokens: dict[int, tuple[int, ...]] = {}
        """Of the blocks that are kept, or may be soon."""
        self._adapter: dict[int, str] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def now_s(self) -> float:
        return (self._loop.time() - self._began_s) * self._speed

    def real_s(self, engine_s: float) -> float:
        return engine_s / self._speed

    async def follow(self, work: Work, tokens: Sequence[int]) -> AsyncGenerator[tuple[int, bool]]:
        """How many tokens there are, and whether that is all, each time there are more. Who stops following has gone
        away. Raises Invalid where it is too long."""
        for at, block in enumerate(work.blocks):
            self._tokens.setdefault(block, tuple(tokens[at * BLOCK_TOKENS : (at + 1) * BLOCK_TOKENS]))
            if work.adapter:
                self._adapter[block] = work.adapter
        self.engine.submit(work, self.now_s)
        news = self._news[work] = asyncio.Event()
        ended = False
        try:
            self._tick()
            while not ended:
                await news.wait()
                news.clear()
                made, ended = self._told[work]
                yield made, ended
        finally:
            if not ended:
                self.engine.abort(work, self.now_s)
            del self._news[work]
            self._told.pop(work, None)
            self._tick()
            for block in work.blocks:
                if not self.engine.blocks.has(block):
                    self._forget(block)

    def release(self, id: str) -> None:
        self.engine.release(id, self.now_s)
        self._tick()

    def clear(self) -> None:
        self.engine.clear(self.now_s)
        self._tick()

    def _tick(self) -> None:
        """What has happened until now is told, and the next time is waited for."""
        for output in self.engine.advance(self.now_s):
            if (news := self._news.get(output.work)) is not None:
                self._told[output.work] = output.made, output.ended
                news.set()
        self._tell_events()
        if self._timer is not None:
            self._timer.cancel()
        next_s = self.engine.next_event()
        at_s = self._began_s + self.real_s(next_s)
        self._timer = None if next_s == NEVER else self._loop.call_at(at_s, self._tick)

    def _tell_events(self) -> None:
        told: list[KvEvent] = []
        for event in self.engine.events():
            if event.kind is EventKind.STORED:
                tokens = tuple(token for block in event.blocks for token in self._tokens.get(block, ()))
                adapter = self._adapter.get(event.blocks[0])
                told.append(KvEvent("stored", tuple(event.blocks), event.parent, tokens, BLOCK_TOKENS, adapter))
            elif event.kind is EventKind.REMOVED:
                told.append(KvEvent("removed", tuple(event.blocks)))
                for block in event.blocks:
                    self._forget(block)
            else:
                told.append(KvEvent("cleared"))
        if told and self._publish is not None:
            self._publish(told)

    def _forget(self, block: int) -> None:
        self._tokens.pop(block, None)
        self._adapter.pop(block, None)
