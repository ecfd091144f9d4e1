"""One trace under one set of rules: queue, nodes and time are simulated, the decisions are the real ones."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

from skerry.errors import Failed
from skerry.model.queue import QueueSpec
from skerry.model.tier import Tier
from skerry.scheduler.plan import Because, Plan, Start
from skerry.scheduler.rules import queue_of
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Placement, Snapshot, Work
from skerry.simulate.books import Books
from skerry.simulate.clockwork import Clockwork
from skerry.simulate.fragmentation import Fragmentation
from skerry.simulate.history import History
from skerry.simulate.outcome import Life, Outcome
from skerry.simulate.series import Sample
from skerry.simulate.trace import Trace, capacity

Check = Callable[[Snapshot], None]
"""Raises when what is there cannot be."""

ENDS, LEAVES, LOOKS = range(3)
HOUR_S: Final = 3600.0
FRAGMENTATION_SAMPLES: Final = 100


class Scheduler(Protocol):
    """Keeps in mind what it has placed, until it is told that this is gone."""

    def place(self, snapshot: Snapshot, now_s: float) -> Plan: ...
    def gone(self, sandboxes: Iterable[str]) -> None: ...


@dataclass(slots=True)
class Running:
    number: int
    """Of its arrival."""
    placements: list[Placement]
    leaving: bool = False


class Replay:
    """`passes` does it, one pass of the scheduler at a time; after that `outcome` is whole."""

    def __init__(
        self,
        trace: Trace,
        rules: QueueSpec,
        scheduler: Scheduler,
        *,
        name: str = "",
        tick_s: float = 1.0,
        seed: int = 0,
        check: Check | None = None,
        check_every: int = 1,
    ) -> None:
        self._trace = trace
        self._rules = rules
        self._scheduler = scheduler
        self._seed = seed
        self._check = check
        self._check_every = check_every
        self._books = Books(trace.nodes)
        self._clock = Clockwork([arrival.work.submitted_s for arrival in trace.arrivals], tick_s)
        self._history = History(rules.half_life_s)
        self._fragmentation = Fragmentation(
            (shape for arrival in trace.arrivals for _, shape in arrival.work.members), trace.nodes
        )
        self._waiting: dict[str, tuple[int, Work]] = {}
        self._waiting_of: Counter[str] = Counter()
        self._running: dict[int, Running] = {}
        self._running_of: Counter[Tier] = Counter()
        self._placed: dict[str, Placement] = {}
        self._run_of: dict[str, int] = {}
        """Sandbox -> which run it is of."""
        self._begun = 0
        self._evicted_s: deque[float] = deque()
        self._settled = 0
        self._will_look = False
        self._hopeless: dict[frozenset[tuple[Shape, int]], bool] = {}
        self._moment_s = 0.0
        self.outcome = Outcome(name or rules.policy, capacity(trace.nodes), [Life(each) for each in trace.arrivals])

    def passes(self) -> Iterator[float]:
        """How much of it is done, 0 to 1, after each."""
        count = len(self._trace.arrivals)
        while self._clock.next_tick():
            now_s = self._clock.now_s
            self._count_time(now_s)
            looked_only = self._settle()
            newcomers = self._admit()
            self._books.advance(now_s)
            if self._waiting:
                self._plan(now_s, newcomers, looked_only)
            self._sample(now_s)
            yield self._settled / count if count else 1.0
        self.outcome.end_s = self._clock.now_s

    def _count_time(self, now_s: float) -> None:
        passed_s, self._moment_s = now_s - self._moment_s, now_s
        if self._rules.half_life_s is not None:
            self._history.pass_by(passed_s, self._books.shares())
        if len(self._waiting_of) > 1:
            self.outcome.fairness.pass_by(passed_s, self._books.project_shares(), self._waiting_of)

    def _settle(self) -> bool:
        """What has ended or left; whether there was nothing but a moment to look again."""
        looked_only = True
        for moment_s, what, whose in self._clock.due():
            if what == LOOKS:
                self._will_look = False
            elif whose in self._running:
                looked_only = False
                self._books.advance(moment_s)
                (self._end if what == ENDS else self._leave)(whose, moment_s)
        return looked_only

    def _end(self, run: int, moment_s: float) -> None:
        self.outcome.lives[self._stop(run)].end_s = moment_s
        self._settled += 1

    def _leave(self, run: int, moment_s: float) -> None:
        number = self._stop(run)
        life = self.outcome.lives[number]
        life.evictions += 1
        life.lost_s += moment_s - (life.last_start_s or 0.0)
        self._wait(number, life.arrival.work)

    def _stop(self, run: int) -> int:
        running = self._running.pop(run)
        for placement in running.placements:
            self._books.take(placement)
            del self._placed[placement.id], self._run_of[placement.id]
        self._scheduler.gone(placement.id for placement in running.placements)
        self._running_of[running.placements[0].tier] -= 1
        return running.number

    def _admit(self) -> list[str]:
        ids: list[str] = []
        for number in self._clock.arriving():
            work = self._trace.arrivals[number].work
            self._wait(number, work)
            ids.append(work.id)
        return ids

    def _wait(self, number: int, work: Work) -> None:
        self._waiting[work.id] = number, work
        self._waiting_of[work.project] += 1

    def _no_longer_waits(self, work_id: str) -> tuple[int, Work]:
        number, work = self._waiting.pop(work_id)
        self._waiting_of[work.project] -= 1
        if not self._waiting_of[work.project]:
            del self._waiting_of[work.project]
        return number, work

    def _plan(self, now_s: float, newcomers: list[str], looked_only: bool) -> None:
        outcome = self.outcome
        outcome.waiting_max = max(outcome.waiting_max, len(self._waiting))
        snapshot = self._snapshot(now_s)
        if self._check is not None and outcome.passes % self._check_every == 0:
            self._check(snapshot)
        plan = self._scheduler.place(snapshot, now_s)
        outcome.passes += 1
        starts: dict[str, list[Start]] = {}
        for start in plan.starts:
            starts.setdefault(start.work, []).append(start)
        for work_id, members in starts.items():
            self._start(work_id, members, now_s)
        for eviction in plan.evictions:
            self._evict(eviction.id, now_s)
        for work_id in newcomers:
            if work_id in self._waiting and self._never(work_id, plan):
                number, _ = self._no_longer_waits(work_id)
                outcome.lives[number].never = True
                self._settled += 1
        if not looked_only or plan.starts or plan.evictions:
            self._look_again(now_s)

    def _never(self, work_id: str, plan: Plan) -> bool:
        """Whether no node could have it. Asked once for all that ask the same: to say why something waits is work."""
        asks = frozenset(Counter(shape for _, shape in self._waiting[work_id][1].members).items())
        if asks not in self._hopeless:
            why = plan.waiting.get(work_id)
            self._hopeless[asks] = why is not None and why.because is Because.NEVER
        return self._hopeless[asks]

    def _snapshot(self, now_s: float) -> Snapshot:
        while self._evicted_s and self._evicted_s[0] <= now_s - HOUR_S:
            self._evicted_s.popleft()
        queue = queue_of(self._rules, len(self._evicted_s))
        return Snapshot(
            self._trace.nodes,
            tuple(self._placed.values()),
            tuple(work for _, work in self._waiting.values()),
            (queue,),
            self._history.of(queue.name),
            self._seed,
        )

    def _start(self, work_id: str, members: list[Start], now_s: float) -> None:
        if work_id not in self._waiting:
            raise Failed(f"the scheduler started {work_id}, which does not wait")
        number, work = self._no_longer_waits(work_id)
        shapes = dict(work.members)
        if sorted(start.id for start in members) != sorted(shapes):
            raise Failed(f"the scheduler started {len(members)} of the {len(shapes)} members of {work_id}")
        self._begun += 1
        placements = [
            Placement(
                start.id,
                work.id,
                start.node,
                shapes[start.id],
                start.devices,
                work.queue,
                work.project,
                work.user,
                work.tier,
                work.priority,
                now_s,
                None if work.limit_s is None else now_s + work.limit_s,
                work.minimum or len(work.members),
            )
            for start in members
        ]
        for placement in placements:
            self._books.put(placement)
            self._placed[placement.id] = placement
            self._run_of[placement.id] = self._begun
        self._running[self._begun] = Running(number, placements)
        self._running_of[work.tier] += 1
        life = self.outcome.lives[number]
        life.first_start_s = now_s if life.first_start_s is None else life.first_start_s
        life.last_start_s = now_s
        self._clock.at(now_s + life.arrival.runs_s, ENDS, self._begun)
        self._settled += math.isinf(life.arrival.runs_s)
        self.outcome.starts += 1
        self.outcome.backfilled += any(start.backfilled for start in members)

    def _evict(self, sandbox: str, now_s: float) -> None:
        """With one member of a gang the others stop too: none of these works with fewer."""
        if sandbox not in self._placed:
            raise Failed(f"the scheduler stopped {sandbox}, which does not run")
        run = self._run_of[sandbox]
        running = self._running[run]
        if running.leaving:
            return
        running.leaving = True
        running.placements = [replace(placement, leaving=True) for placement in running.placements]
        for placement in running.placements:
            self._placed[placement.id] = placement
        self._evicted_s.append(now_s)
        self.outcome.evictions += 1
        self._settled -= math.isinf(self.outcome.lives[running.number].arrival.runs_s)
        self._clock.at(now_s + self._rules.preemption.grace_s, LEAVES, run)

    def _look_again(self, now_s: float) -> None:
        """What has not run for long enough to be stopped may be stopped later, of which nothing else tells."""
        if self._will_look or not self._rules.preemption.enabled or not self._waiting:
            return
        least = min((tier.rank for tier, count in self._running_of.items() if count), default=None)
        most = max(work.tier.rank for _, work in self._waiting.values())
        if least is not None and most > least:
            self._will_look = True
            self._clock.at(now_s + self._rules.preemption.minimum_run_s, LOOKS)

    def _sample(self, now_s: float) -> None:
        outcome, whole = self.outcome, self.outcome.whole
        used = self._books.used
        if outcome.last_arrival_s is None and self._clock.arrived == len(self._trace.arrivals):
            outcome.last_arrival_s = now_s
            outcome.used_at_last_arrival = used
            outcome.used_s_at_last_arrival = self._books.used_s
        if outcome.series.wants(now_s):
            cpu, memory, gpu = (
                part / all_of_it if all_of_it else 0.0 for part, all_of_it in zip(used.parts, whole.parts, strict=True)
            )
            sample = Sample(now_s, cpu, memory, gpu, len(self._waiting), self._books.project_shares())
            outcome.series.add(sample)
            self._see_fragmentation(now_s)

    def _see_fragmentation(self, now_s: float) -> None:
        seen = self.outcome.fragmentation
        spacing_s = self._trace.arrivals[-1].work.submitted_s / FRAGMENTATION_SAMPLES
        if not self.outcome.whole.gpu_milli or (seen and now_s - seen[-1][0] < spacing_s):
            return
        share = self._fragmentation.share(self._books)
        if share is not None:
            seen.append((now_s, share))
