"""Put idle sandboxes to sleep and wake them for whoever wants one: all who want it at the same time share one wake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

from skerry.agent.journal import Entry
from skerry.agent.sandboxes import Sandboxes
from skerry.agent.sleep.diary import Diary, Moment
from skerry.clock import Clock
from skerry.errors import Conflict, SkerryError, Unavailable
from skerry.model.identity import make_id
from skerry.model.order import Report
from skerry.model.sandbox import SandboxSpec
from skerry.model.sleep import Activity, Lease, LeaseRequest, SleepAfter, SleepRequest, Tier
from skerry.runtime.contract import Runtime
from skerry.telemetry import Log

LOOK_EVERY_S = 0.5
WAKE_S_MAX = 30.0
"""A cold start takes well below a second; past this the callers are told instead of held."""
CALLERS_MAX = 1000
"""Held at one time for one sandbox that wakes; each costs a connection and a little memory."""
RETRY_S = 5.0
NAMED_MAX = 5
"""Of what keeps a sandbox awake, in a sentence."""


class Sleeper:
    def __init__(
        self,
        *,
        sandboxes: Sandboxes,
        runtime: Runtime,
        clock: Clock,
        log: Log,
        chance: Callable[[int], bytes],
        idle: SleepAfter,
        cold_after: SleepAfter,
    ) -> None:
        """`idle` and `cold_after` are for sandboxes whose spec names none."""
        self._sandboxes = sandboxes
        self._runtime = runtime
        self._clock = clock
        self._log = log
        self._chance = chance
        self._idle: SleepAfter = idle
        self._cold_after: SleepAfter = cold_after
        self._diaries: dict[str, Diary] = {}
        self._wakes: dict[str, asyncio.Task[None]] = {}
        self._callers: dict[str, int] = {}
        self._falling: dict[str, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        tasks = [
            *self._wakes.values(),
            *self._falling.values(),
            *([self._watching] if self._watching is not None else []),
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # For whoever uses a sandbox

    def touch(self, sandbox_id: str, by: str) -> None:
        """Something happened just now: bytes went through, a key was struck."""
        self._diary(sandbox_id).touch(self._now(), by)

    @contextmanager
    def kept(self, sandbox_id: str, by: str) -> Generator[None]:
        """It does not fall asleep inside the block."""
        diary = self._diary(sandbox_id)
        ticket = diary.hold(self._now(), by)
        try:
            yield
        finally:
            diary.release(ticket, self._now())

    @asynccontextmanager
    async def awake(self, sandbox_id: str, by: str) -> AsyncGenerator[None]:
        """Wake it if it sleeps, and keep it awake inside the block. Raises what `wake` raises."""
        with self.kept(sandbox_id, by):
            await self.wake(sandbox_id, by)
            yield

    def woken_ago_s(self, sandbox_id: str) -> float | None:
        """None: it was not woken since we started."""
        woken = self._diary(sandbox_id).woken
        return None if woken is None else self._clock.monotonic_s() - woken.s

    async def wake(self, sandbox_id: str, by: str) -> None:
        """Return at once if it is awake, or does not run at all: whoever wants it running says so in its own words.
        Raises Unavailable when it does not wake in time, LimitReached when too many wait already."""
        self.touch(sandbox_id, by)
        if not self._sandboxes.sleeps(sandbox_id):
            return
        if self._callers.get(sandbox_id, 0) >= CALLERS_MAX:
            raise Unavailable(f"{CALLERS_MAX} callers already wait for this sandbox to wake", retry_after_s=RETRY_S)
        self._callers[sandbox_id] = self._callers.get(sandbox_id, 0) + 1
        try:
            async with asyncio.timeout(WAKE_S_MAX):
                await asyncio.shield(self._wakes.get(sandbox_id) or self._begin(sandbox_id, by))
        except TimeoutError:
            raise Unavailable("the sandbox did not wake in time; try again", retry_after_s=RETRY_S) from None
        finally:
            self._callers[sandbox_id] -= 1
            if not self._callers[sandbox_id]:
                del self._callers[sandbox_id]

    def _begin(self, sandbox_id: str, by: str) -> asyncio.Task[None]:
        task = self._wakes[sandbox_id] = asyncio.get_running_loop().create_task(self._wake(sandbox_id, by))
        task.add_done_callback(lambda _: self._wakes.pop(sandbox_id, None))
        return task

    async def _wake(self, sandbox_id: str, by: str) -> None:
        await self._sandboxes.wake(sandbox_id, by)
        diary = self._diary(sandbox_id)
        diary.woken, diary.woken_by = self._now(), by
        diary.touch(diary.woken, by)

    async def sleep(self, sandbox_id: str, asked: SleepRequest) -> Report:
        """Now, because somebody asks. Raises Conflict while something needs it awake, unless forced."""
        kept = self._diary(sandbox_id).kept_awake_by(self._clock.now())
        if kept and not asked.force and not self._sandboxes.sleeps(sandbox_id):
            raise Conflict(f"it is kept awake by {', '.join(kept[:NAMED_MAX])}; force it, or end that first")
        return await self._sandboxes.sleep(sandbox_id, asked.tier, "asked")

    # Leases

    async def grant(self, sandbox_id: str, asked: LeaseRequest) -> Lease:
        """Wakes it, too."""
        now = self._clock.now()
        lease = Lease(id=make_id("lease", self._chance(6)), note=asked.note, until=now + timedelta(seconds=asked.for_s))
        diary = self._diary(sandbox_id)
        diary.grant(lease, now)
        self._sandboxes.keep_leases(sandbox_id, diary.leases())
        await self.wake(sandbox_id, "lease")
        return lease

    def end_lease(self, sandbox_id: str, lease_id: str) -> Lease:
        diary = self._diary(sandbox_id)
        lease = diary.end(lease_id)
        self._sandboxes.keep_leases(sandbox_id, diary.leases())
        diary.touch(self._now(), "lease")
        return lease

    # What is told

    def activity(self, sandbox_id: str) -> Activity:
        """Raises NotFound."""
        entry = self._sandboxes.entry(sandbox_id)
        diary, now = self._diary(sandbox_id), self._now()
        kept = diary.kept_awake_by(now.at)
        awake = entry.asleep is None and self._sandboxes.runs(sandbox_id)
        cold_s = self._cold_s(entry)
        warm = entry.asleep is not None and entry.asleep.tier is Tier.WARM
        return Activity(
            asleep=entry.asleep,
            kept_awake_by=kept if awake else [],
            leases=diary.leases(),
            last_active_at=diary.active.at if diary.active_by is not None else None,
            last_active_by=diary.active_by,
            woken_at=diary.woken.at if diary.woken is not None else None,
            woken_by=diary.woken_by,
            sleeps_at=diary.sleeps_at(now, self._idle_s(entry)) if awake else None,
            cold_at=entry.asleep.since + timedelta(seconds=cold_s) if entry.asleep and warm and cold_s else None,
        )

    # Falling asleep

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            entries = self._sandboxes.entries()
            for entry in entries:
                if entry.sandbox_id not in self._falling and self._is_due(entry):
                    # Each in a task of its own: one that takes its time to end must not keep the others up.
                    self._fall(entry)
            for sandbox_id in self._diaries.keys() - {entry.sandbox_id for entry in entries}:
                del self._diaries[sandbox_id]

    def _is_due(self, entry: Entry) -> bool:
        if entry.asleep is not None:
            cold_s = self._cold_s(entry)
            slept_s = (self._clock.now() - entry.asleep.since).total_seconds()
            return entry.asleep.tier is Tier.WARM and cold_s is not None and slept_s >= cold_s
        idle_s = self._idle_s(entry)
        return idle_s is not None and self._sandboxes.runs(entry.sandbox_id) and self._is_idle(entry, idle_s)

    def _fall(self, entry: Entry) -> None:
        sandbox_id = entry.sandbox_id
        task = self._falling[sandbox_id] = asyncio.get_running_loop().create_task(self._fall_asleep(entry))
        task.add_done_callback(lambda _: self._falling.pop(sandbox_id, None))

    async def _fall_asleep(self, entry: Entry) -> None:
        def still() -> bool:
            """Asked once nobody else is at work on it: somebody may have come meanwhile."""
            return self._is_due(self._sandboxes.entry(entry.sandbox_id))

        try:
            if entry.asleep is not None:
                why = f"{entry.asleep.why}, then warm for {self._cold_s(entry):g} s"
                await self._sandboxes.sleep(entry.sandbox_id, Tier.COLD, why, still=still)
                return
            idle_s = self._idle_s(entry)
            if idle_s is not None and not await self._works(entry, idle_s):
                why = f"idle for {idle_s:g} s"
                await self._sandboxes.sleep(entry.sandbox_id, Tier.WARM, why, still=still)
        except SkerryError as error:
            self._log.warning("could not put a sandbox to sleep", sandbox=entry.sandbox_id, error=error)

    def _is_idle(self, entry: Entry, idle_s: float) -> bool:
        now = self._now()
        since_s = self._diary(entry.sandbox_id).idle_since_s(now)
        return since_s is not None and now.s - since_s >= idle_s

    async def _works(self, entry: Entry, idle_s: float) -> bool:
        """Whether it used more cpu in its idle time than its spec calls idle; looked at once in each idle time. Counted
        since it was looked at before, so that in doubt it stays awake."""
        diary, now = self._diary(entry.sandbox_id), self._now()
        threshold = self._spec(entry).idle_cpu
        if threshold is None:
            return False
        used_s = (await self._runtime.usage(entry.sandbox_id)).cpu_s
        before_s, diary.cpu_s = diary.cpu_s, used_s
        if (used_s - before_s) / max(idle_s, now.s - diary.active.s) <= threshold:
            return False
        diary.touch(now, "cpu")
        return True

    # Inside

    def _diary(self, sandbox_id: str) -> Diary:
        found = self._diaries.get(sandbox_id)
        if found is None:
            found = self._diaries[sandbox_id] = Diary(active=self._now())
            for lease in self._sandboxes.entry(sandbox_id).leases:  # what an earlier agent granted
                found.grant(lease, self._clock.now())
        return found

    def _now(self) -> Moment:
        return Moment(self._clock.now(), self._clock.monotonic_s())

    def _idle_s(self, entry: Entry) -> float | None:
        return _seconds(self._spec(entry).idle, self._idle)

    def _cold_s(self, entry: Entry) -> float | None:
        return _seconds(self._spec(entry).cold_after, self._cold_after)

    def _spec(self, entry: Entry) -> SandboxSpec:
        assert entry.order is not None, "only a deleted sandbox has none"
        return entry.order.spec


def _seconds(given: SleepAfter | None, otherwise: SleepAfter) -> float | None:
    """None: never."""
    chosen = otherwise if given is None else given
    return None if chosen == "never" else float(chosen)
