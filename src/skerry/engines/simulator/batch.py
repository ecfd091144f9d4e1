"""Who is in the next step of the simulated engine, and with which blocks: vLLM's scheduler, without a clock."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush

from skerry.engines.simulator.adapters import Adapters
from skerry.engines.simulator.blocks import Blocks
from skerry.engines.simulator.profile import BLOCK_TOKENS, Profile
from skerry.engines.simulator.work import Counters, Stage, Work

STRETCH_MAX = 64
"""Steps that are run at once."""
PASSED_OVER_MAX = 64
"""Requests whose adapter has no room are passed over, so many in one step: looking at all of a long queue in each step
would take longer than all else."""


class Batch:
    def __init__(self, profile: Profile, counters: Counters, *, publish: bool) -> None:
        self._profile = profile
        self._counters = counters
        self.blocks = Blocks(profile.blocks, keep=profile.prefix_cache, publish=publish)
        self.adapters = Adapters(profile)
        self.step = 0
        """Steps that have ended."""
        self.prefill: dict[Work, None] = {}
        self.decode: dict[Work, None] = {}
        self.chunks: list[tuple[Work, int]] = []
        """Of prompts, in the step that is being run."""
        self.settled = False
        """Nobody more can begin before somebody ends."""
        self.waiting_count = 0
        self._waiting: list[tuple[int, int, Work]] = []
        self._fetching: list[tuple[float, int, Work]] = []
        self._fetched: deque[Work] = deque()
        self._due: list[dict[Work, None]] = [{} for _ in range(BLOCK_TOKENS)]
        """Answers by the step before which they need a block more, modulo the tokens of one."""
        self._ending: list[tuple[int, int, Work]] = []
        self._offsets = 0
        """Sum over the answers; with `step` for each of them it is their context."""

    @property
    def running(self) -> int:
        return len(self.prefill) + len(self.decode)

    @property
    def waiting(self) -> int:
        return self.waiting_count + len(self._fetching) + len(self._fetched)

    @property
    def context_tokens(self) -> int:
        return self._offsets + len(self.decode) * self.step

    @property
    def prefill_tokens(self) -> int:
        running = sum(work.target - work.computed for work in self.prefill)
        return running + sum(work.target for _, _, work in self._waiting if work.stage is Stage.WAITING)

    @property
    def fetched_s(self) -> float | None:
        """When the next cache from another engine is here."""
        return self._fetching[0][0] if self._fetching else None

    def made(self, work: Work) -> int:
        return work.answer - (work.ends_at - self.step) if work.stage is Stage.DECODE else work.made

    def plan(self, at_s: float, *, admit: bool) -> float:
        """Choose what the next step computes. How long adapters take to load before it."""
        self.chunks = []
        preempted = self._grow(self.step)
        self.settled = False
        if not admit:
            return 0.0
        budget = self._profile.batch_tokens - len(self.decode)
        preempted = self._extend(budget) or preempted
        self.settled = not preempted
        if preempted or not (self._waiting or self._fetched):
            return 0.0
        return self._admit(budget - sum(count for _, count in self.chunks), at_s)

    def stretch(self) -> int:
        """Steps until somebody ends or there are no blocks for all."""
        steps = min(STRETCH_MAX, self._first_end() - self.step)
        available = self.blocks.available
        for ahead in range(1, steps):
            available -= len(self._due[(self.step + ahead) % BLOCK_TOKENS])
            if available < 0:
                return ahead
        return steps

    def forward(self, steps: int) -> None:
        """So many steps have ended."""
        for ahead in range(1, steps):
            self._grow(self.step + ahead)
        self.step += steps

    def ended(self) -> list[Work]:
        """Answers that are complete; they have left."""
        ended: list[Work] = []
        while self._ending and self._first_end() <= self.step:
            work = heappop(self._ending)[2]
            self.leave(work)
            ended.append(work)
        return ended

    def join(self, work: Work) -> None:
        """Its prompt is computed: with the next step on it is generated."""
        del self.prefill[work]
        work.stage = Stage.DECODE
        work.offset = work.computed - self.step
        work.ends_at = self.step + work.answer - work.made
        self.decode[work] = None
        self._offsets += work.offset
        self._due[-work.offset % BLOCK_TOKENS][work] = None
        heappush(self._ending, (work.ends_at, work.order, work))

    def wait(self, work: Work) -> None:
        heappush(self._waiting, (work.priority, work.order, work))
        self.waiting_count += 1

    def wake(self, now_s: float) -> None:
        """Those whose cache has come from another engine wait for a step; their last token is computed here."""
        while self._fetching and self._fetching[0][0] <= now_s:
            work = heappop(self._fetching)[2]
            work.stage, work.computed = Stage.FETCHED, work.target - 1
            self.seal(work)
            self._fetched.append(work)

    def drop(self, work: Work) -> None:
        """Wherever it is, it is not any more."""
        if work.stage is Stage.WAITING:
            self.waiting_count -= 1  # and what is in the heap is passed over
        elif work.stage is Stage.FETCHING:
            self._fetching = [entry for entry in self._fetching if entry[2] is not work]
            heapify(self._fetching)
        elif work.stage is Stage.FETCHED:
            self._fetched.remove(work)
        else:
            self.leave(work)
            self.chunks = [chunk for chunk in self.chunks if chunk[0] is not work]

    def leave(self, work: Work) -> None:
        """It does not run any more."""
        if work.stage is Stage.DECODE:
            work.made = self.made(work)
            work.computed = work.offset + self.step
            del self.decode[work]
            self._offsets -= work.offset
            del self._due[-work.offset % BLOCK_TOKENS][work]
        else:
            del self.prefill[work]
        self.adapters.leave(work.adapter)

    def seal(self, work: Work) -> None:
        self._seal(work, work.computed)

    def _first_end(self) -> int:
        """Forgetting those that were preempted or dropped since."""
        ending = self._ending
        while ending and (ending[0][2].stage is not Stage.DECODE or ending[0][2].ends_at != ending[0][0]):
            heappop(ending)
        return ending[0][0] if ending else self.step + STRETCH_MAX

    def _grow(self, step: int) -> bool:
        """A block more for each answer whose last is full before this step. Whether somebody was preempted."""
        due = self._due[step % BLOCK_TOKENS]
        if not due:
            return False
        preempted = False
        blocks = self.blocks
        for work in list(due):
            if work.stage is not Stage.DECODE:
                continue
            if blocks.available < 1:
                preempted = True
                if not self._make_room(1, work):
                    continue
            self._seal(work, work.offset + step)
            blocks.take(1, work.table)
        return preempted

    def _extend(self, budget: int) -> bool:
        """The next chunks of prompts that are begun. Whether somebody was preempted."""
        preempted = False
        for work in list(self.prefill):
            count = min(work.target - work.computed, budget)
            if count < 1 or work.stage is not Stage.PREFILL:
                continue
            fresh = _blocks_of(work.computed + count) - len(work.table)
            if self.blocks.available < fresh:
                preempted = True
                if not self._make_room(fresh, work):
                    continue
            self._chunk(work, count, fresh)
            budget -= count
        return preempted

    def _chunk(self, work: Work, count: int, fresh: int) -> None:
        self.blocks.take(fresh, work.table)
        self._seal(work, work.computed + count)
        self.chunks.append((work, count))

    def _admit(self, budget: int, at_s: float) -> float:
        """Begin those that wait, in order, as long as there is room. How long adapters take to load."""
        extra_s = 0.0
        later: list[tuple[int, int, Work]] = []
        while budget > 0 and self.running < self._profile.sequences and len(later) < PASSED_OVER_MAX:
            work = self._next()
            if work is None:
                break
            if not self.adapters.fits(work.adapter):
                later.append((work.priority, work.order, work))
                continue
            if work.stage is Stage.WAITING and not self._seat(work, at_s):
                later.append((work.priority, work.order, work))
                break
            if work.stage is Stage.FETCHING:
                continue
            extra_s += self.adapters.enter(work.adapter)
            work.stage = Stage.PREFILL
            self.prefill[work] = None
            count = min(work.target - work.computed, budget)
            self._chunk(work, count, _blocks_of(work.computed + count) - len(work.table))
            budget -= count
        for entry in later:
            self._put_back(entry)
        return extra_s

    def _next(self) -> Work | None:
        if self._fetched:
            return self._fetched.popleft()
        while self._waiting:
            work = heappop(self._waiting)[2]
            if work.stage is Stage.WAITING:
                self.waiting_count -= 1
                return work
        return None

    def _put_back(self, entry: tuple[int, int, Work]) -> None:
        if entry[2].stage is Stage.FETCHED:
            self._fetched.append(entry[2])
        else:
            self.wait(entry[2])

    def _seat(self, work: Work, at_s: float) -> bool:
        """Take what the cache has of its prompt, where there is room for all the rest of it as well."""
        blocks = self.blocks
        hits = blocks.match(work.blocks, (work.target - 1) // BLOCK_TOKENS)
        matched = work.blocks[:hits]
        fresh = _blocks_of(work.target) - hits
        if not blocks.room(matched, fresh):
            return False
        blocks.use_again(matched, work.table)
        work.computed = hits * BLOCK_TOKENS
        work.sealed = hits
        if work.started_s < 0:
            work.started_s = at_s
            work.cached = work.computed
            self._counters.queried_tokens += work.prompt
            self._counters.hit_tokens += work.computed
            if work.fetch:
                self._fetch(work, fresh, at_s)
        return True

    def _fetch(self, work: Work, fresh: int, at_s: float) -> None:
        self.blocks.take(fresh, work.table)
        tokens = work.target - work.computed
        ready_s = at_s + self._profile.transfer_s + tokens * self._profile.transfer_token_s
        work.stage = Stage.FETCHING
        work.computed, work.cached = 0, work.prompt
        heappush(self._fetching, (ready_s, work.order, work))

    def _seal(self, work: Work, stored: int) -> None:
        full = stored // BLOCK_TOKENS
        if full > work.sealed:
            self.blocks.seal(work.table, work.blocks, work.sealed, full)
            work.sealed = full

    def _make_room(self, count: int, work: Work) -> bool:
        """Start the newest over later until there are so many. False: it was the newest itself."""
        busy = {chunk[0] for chunk in self.chunks}
        while self.blocks.available < count:
            running = [other for group in (self.decode, self.prefill) for other in group if other not in busy]
            newest = max(running, key=lambda other: (other.priority, other.order))
            self._preempt(newest)
            if newest is work:
                return False
        return True

    def _preempt(self, work: Work) -> None:
        self.leave(work)
        self.blocks.free(work.table)
        work.stage = Stage.WAITING
        work.target, work.computed, work.sealed, work.ends_at = work.prompt + work.made, 0, 0, -1
        work.preempted += 1
        self._counters.preemptions += 1
        self.wait(work)


def _blocks_of(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)
