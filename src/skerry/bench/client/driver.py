"""Sends what a schedule says when it says so, and hands back a record of each request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Protocol

from skerry.bench.client.alarm import Alarm
from skerry.bench.client.events import Count, read
from skerry.bench.client.wire import Answer, Over
from skerry.bench.contract import Api, Fault, Record, Request, Schedule

SWEEP_EVERY_S = 0.25
"""How often what has taken too long is looked for."""
SWEEP_EVERY_S_MIN = 0.005
UNREAD_MAX = 64
"""Answers that wait to be read; they are read between other things, so that no moment is taken down late."""


class UnderWay(Protocol):
    def abort(self, why: str) -> None:
        """Whoever waits for the answer is told."""
        ...


class Carrier(Protocol):
    """Brings requests to who answers: over connections, or by a call."""

    async def warm(self, count: int) -> None:
        """Be ready for so many at once. Raises OSError where nobody can be reached."""
        ...

    def send(self, request: Request, over: Over) -> tuple[float, UnderWay]:
        """The moment at which it was sent, and what can be given up."""
        ...

    def close(self) -> None: ...


class Driver:
    def __init__(
        self,
        carrier: Carrier,
        schedule: Schedule,
        done: Callable[[Record], bool],
        *,
        timeout_s: float = 600.0,
        keep_text: bool = False,
        count: Count | None = None,
        worker: int = 0,
    ) -> None:
        """`done`: told of each; true: that is enough, the run ends. `count`: of tokens, where the server does not."""
        self._carrier = carrier
        self._schedule = schedule
        self._done = done
        self._timeout_s = timeout_s
        self._keep_text = keep_text
        self._count = count
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._begin_s = 0.0
        """On time.monotonic()."""
        self._under_way: dict[int, tuple[Request, Record]] = {}
        self._wires: dict[int, UnderWay] = {}
        self._finished = asyncio.Event()
        self._alarm = Alarm(self._loop, self._pump)
        self._pumping = False
        self._stopped = False
        self._unread: deque[tuple[Api, Record, Answer]] = deque()
        self._between_soon = False

    async def run(
        self, *, connections: int = 0, drain_s: float | None = None, begin: Callable[[], float] = monotonic
    ) -> None:
        """Until nothing is left to send and all that was sent has ended, or has not within `drain_s`. `begin`: called
        when all is ready, and tells the moment at which it begins, the same for all workers. Raises OSError when the
        target cannot be reached at all."""
        await self._carrier.warm(connections)
        while self._schedule.prepare():
            pass
        self._begin_s = begin()
        await asyncio.sleep(max(0.0, self._begin_s - monotonic()))
        sweep = self._loop.create_task(self._sweep(drain_s))
        try:
            self._pump()
            await self._finished.wait()
        finally:
            sweep.cancel()
            with suppress(asyncio.CancelledError):
                await sweep
            self._stopped = True
            while self._unread:
                self._read(*self._unread.popleft())
            self._alarm.close()
            self._carrier.close()

    def _pump(self) -> None:
        if self._pumping or self._stopped:
            return  # what ends while requests are sent is looked at by who sends
        self._pumping = True
        schedule, begin_s = self._schedule, self._begin_s
        while (request := schedule.take(monotonic() - begin_s)) is not None:
            self._send(request)
        self._pumping = False
        due_s = schedule.due_s()
        if due_s is not None:
            self._alarm.set(begin_s + due_s)
        if not self._between_soon and not self._stopped:
            self._between_soon = True
            self._loop.call_soon(self._between)

    def _between(self) -> None:
        """One thing that can wait, each turn of the loop: an answer is read, else what comes later is made ready."""
        self._between_soon = False
        if self._stopped:
            return
        if self._unread:
            self._read(*self._unread.popleft())
        elif not self._schedule.prepare():
            if not self._under_way and self._schedule.is_over(monotonic() - self._begin_s):
                self._finished.set()
            return
        self._between_soon = True
        self._loop.call_soon(self._between)

    def _send(self, request: Request) -> None:
        now_s = monotonic() - self._begin_s
        record = Record(
            request.number,
            request.scenario,
            request.session,
            request.turn,
            intended_s=now_s if request.at_s is None else request.at_s,
            sent_s=now_s,
            input_tokens=request.input_tokens,
            worker=self._worker,
            user=request.user,
        )
        self._under_way[request.number] = (request, record)

        def over(answer: Answer | None, why: str) -> None:
            self._ended(request, record, answer, why)

        sent_s, wire = self._carrier.send(request, over)
        record.sent_s = sent_s - self._begin_s
        self._wires[request.number] = wire

    def _ended(self, request: Request, record: Record, answer: Answer | None, why: str) -> None:
        self._wires.pop(request.number, None)
        if self._under_way.pop(request.number, None) is None:
            return  # given up before
        if answer is None:
            record.ended_s = monotonic() - self._begin_s
            record.fault = Fault.CONNECT if why.startswith("cannot connect") else Fault.CLOSED
            record.say = why
        elif self._keep_text:  # the next turn needs what it says
            read(answer, record, request.api, keep_text=True, begin_s=self._begin_s, count=self._count)
        else:
            record.fault = None if answer.status == 200 else Fault.STATUS
            self._schedule.ended(request, record, monotonic() - self._begin_s)
            self._unread.append((request.api, record, answer))
            if len(self._unread) > UNREAD_MAX:
                self._read(*self._unread.popleft())
            self._pump()
            return
        self._hand_over(request, record)

    def _read(self, api: Api, record: Record, answer: Answer) -> None:
        read(answer, record, api, keep_text=False, begin_s=self._begin_s, count=self._count)
        self._tell(record)

    def _hand_over(self, request: Request, record: Record) -> None:
        self._schedule.ended(request, record, monotonic() - self._begin_s)
        self._tell(record)
        self._pump()

    def _tell(self, record: Record) -> None:
        if self._done(record):
            self._stopped = True
            self._finished.set()

    async def _sweep(self, drain_s: float | None) -> None:
        since_s: float | None = None
        every_s = min(SWEEP_EVERY_S, max(self._timeout_s / 4, SWEEP_EVERY_S_MIN))
        while True:
            await asyncio.sleep(every_s)
            now_s = monotonic() - self._begin_s
            if since_s is None and self._schedule.is_over(now_s):
                since_s = now_s
            spent = drain_s is not None and since_s is not None and now_s - since_s > drain_s
            for request, record in list(self._under_way.values()):
                if spent:
                    self._give_up(request, record, Fault.CANCELLED, "the run ended first")
                elif now_s - record.sent_s > self._timeout_s:
                    self._give_up(request, record, Fault.TIMEOUT, f"no answer in {self._timeout_s:g} s")
            self._pump()

    def _give_up(self, request: Request, record: Record, fault: Fault, say: str) -> None:
        """Its connection is closed, so that the server may stop too."""
        del self._under_way[record.number]
        record.fault, record.say, record.ended_s = fault, say, monotonic() - self._begin_s
        if (wire := self._wires.pop(record.number, None)) is not None:
            wire.abort(say)
        self._hand_over(request, record)
