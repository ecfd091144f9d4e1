"""Simulated time: nothing starts twice or early, everything ends when it should, and the same seed is the same run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from skerry.errors import Failed
from skerry.model.queue import Policy, QueueSpec
from skerry.model.tier import Tier
from skerry.scheduler.plan import Eviction, Plan, Start
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Node, Snapshot, Work
from skerry.simulate.clockwork import Clockwork
from skerry.simulate.decide import RealScheduler, must_hold
from skerry.simulate.metrics import figures
from skerry.simulate.outcome import Outcome
from skerry.simulate.replay import Replay, Scheduler
from skerry.simulate.series import Sample, Series
from skerry.simulate.trace import GIB, Arrival, Trace, accelerated, alike, at_load
from skerry.simulate.traces import borg
from tests.simulate.first_fit import FirstFit, first_fit


def rules(policy: Policy = Policy.FIFO, **more: object) -> QueueSpec:
    return QueueSpec.model_validate({"name": "default", "policy": policy, **more})


def played(trace: Trace, queue: QueueSpec, scheduler: Scheduler, **more: object) -> tuple[Outcome, list[float]]:
    replay = Replay(trace, queue, scheduler, **more)  # type: ignore[arg-type]
    done = list(replay.passes())
    return replay.outcome, done


def arrival(name: str, submitted_s: float, runs_s: float, cores: int = 1, **more: object) -> Arrival:
    work = Work(name, ((name, Shape(cores * 1000, GIB)),), submitted_s=submitted_s)
    return Arrival(replace(work, **more), runs_s)  # type: ignore[arg-type]


def heavy(count: int = 150, load: float = 0.9, seed: int = 3) -> Trace:
    nodes = alike(20, borg.NODE)
    return at_load(Trace("borg", nodes, borg.generate(seed, count, nodes)), load)


def conserved(outcome: Outcome, tick_s: float) -> None:
    for life in outcome.lives:
        work = life.arrival.work
        assert life.first_start_s is not None
        assert life.last_start_s is not None
        assert life.end_s is not None
        assert work.submitted_s <= life.first_start_s <= life.last_start_s
        assert life.end_s == pytest.approx(life.last_start_s + life.arrival.runs_s)
        if not life.evictions:
            assert life.first_start_s == life.last_start_s
            assert life.lost_s == 0
    moments = [sample.moment_s for sample in outcome.series.samples]
    assert moments == sorted(moments)
    assert outcome.end_s >= max(life.end_s or 0 for life in outcome.lives)


def test_every_job_runs_once_and_for_its_time() -> None:
    outcome, done = played(heavy(), rules(), FirstFit(), tick_s=1.0, check=must_hold)
    conserved(outcome, 1.0)
    assert outcome.starts == len(outcome.lives)
    assert done == sorted(done)
    assert done[-1] == 1


@pytest.mark.parametrize("policy", list(Policy))
def test_the_real_scheduler_keeps_its_promises(policy: Policy) -> None:
    trace = heavy()
    outcome, _ = played(trace, rules(policy), RealScheduler(trace, 1), seed=1, check=must_hold)
    conserved(outcome, 1.0)
    found = figures(trace, outcome)
    assert found.ended == found.jobs == 150
    assert found.utilisation is not None
    again, _ = played(trace, rules(policy), RealScheduler(trace, 1), seed=1)
    assert figures(trace, again) == found


def test_accelerators_are_shared_out_and_fragments_seen() -> None:
    nodes = alike(2, accelerated("node", cores=8, memory_gib=64, devices=2, kind="gpu"))
    half = Shape(1000, GIB, gpu_count=1, gpu_milli=600)
    jobs = tuple(Arrival(Work(f"j{at}", ((f"j{at}", half),), submitted_s=at), 100) for at in range(5))
    trace = Trace("half", nodes, jobs)
    outcome, _ = played(trace, rules(), RealScheduler(trace, 0), check=must_hold)
    conserved(outcome, 1.0)
    found = figures(trace, outcome)
    assert found.allocated_at_last_arrival.gpu == pytest.approx(0.6)
    assert found.fragmentation_at_last == 1  # four devices with 0.4 free each, of which nobody has use
    assert outcome.lives[4].first_start_s == 100


def test_figures_of_a_run_that_can_be_done_by_hand() -> None:
    """One node of 4 cores. At once come a (4 cores, 10 s), b and c (2, 20 s each); then d, for 5 cores."""
    node = Node("n", 4000, 64 * GIB)
    trace = Trace(
        "hand",
        (node,),
        (
            arrival("a", 0, 10, cores=4, project="x"),
            arrival("b", 0, 20, cores=2, project="x"),
            arrival("c", 0, 20, cores=2, project="y"),
            arrival("d", 20, 5, cores=5, project="y"),
        ),
    )
    outcome, _ = played(trace, rules(), FirstFit(), tick_s=0.0)
    found = figures(trace, outcome)
    assert (found.ended, found.never_fit, found.waiting_at_end, found.makespan_s) == (3, 1, 0, 30)
    assert found.allocated_mean.cpu == pytest.approx(1.0)
    assert found.waiting is not None
    assert (found.waiting.jobs, found.waiting.max_s) == (3, 10)
    assert found.waiting.mean_s == pytest.approx(20 / 3)
    assert found.slowdown is not None
    assert found.slowdown.mean == pytest.approx((1 + 1.5 + 1.5) / 3)
    assert found.fairness_index == 0.5  # for ten seconds both wait and one has all
    assert (found.fairness_worst, found.fairness_worst_project) == (0, "y")
    assert found.queue_max == 3
    assert found.project_shares["x"] == pytest.approx((10 * 1 + 20 * 0.5) / 30)


class Preempting:
    """Whoever is worth more takes the place of whoever has one."""

    def place(self, snapshot: Snapshot, now_s: float) -> Plan:
        best = max(snapshot.waiting, key=lambda work: work.tier.rank)
        if snapshot.placements and best.tier.rank > snapshot.placements[0].tier.rank:
            victim = snapshot.placements[0]
            return Plan((), (Eviction(victim.id, victim.work, best.id, ""),))
        return first_fit(replace(snapshot, waiting=(best,)))

    def gone(self, sandboxes: Iterable[str]) -> None:
        pass


def test_what_is_stopped_loses_its_work_and_begins_again() -> None:
    node = Node("n", 1000, GIB)
    trace = Trace("p", (node,), (arrival("a", 0, 100, tier=Tier.FREE), arrival("b", 50, 10, tier=Tier.PRODUCTION)))
    outcome, _ = played(trace, rules(preemption={"grace_s": 5}), Preempting(), tick_s=0.0)
    conserved(outcome, 0.0)
    low, high = outcome.lives
    assert (low.evictions, low.lost_s, low.last_start_s, low.end_s) == (1, 55, 65, 165)
    assert (high.first_start_s, high.end_s) == (55, 65)
    found = figures(trace, outcome)
    assert (found.preemptions, found.work_lost_s) == (1, 55)
    assert found.work_lost_share == pytest.approx(55 / (110 + 55))


class Twice:
    """Gives the same place to all."""

    def place(self, snapshot: Snapshot, now_s: float) -> Plan:
        return Plan(tuple(Start(work.id, work.id, "n") for work in snapshot.waiting))

    def gone(self, sandboxes: Iterable[str]) -> None:
        pass


def test_a_promise_too_many_is_found_out() -> None:
    trace = Trace("t", (Node("n", 1000, GIB),), (arrival("a", 0, 10), arrival("b", 0, 10)))
    with pytest.raises(Failed, match="n was promised more than it has, to b at last"):
        played(trace, rules(), Twice())


def test_time_goes_on_in_ticks_and_never_back() -> None:
    clock = Clockwork([0.0, 0.2, 7.1], 5.0)
    clock.at(3.0, 1, 30)
    clock.at(4.0, 2, 40)
    assert clock.next_tick()
    assert (clock.now_s, list(clock.arriving())) == (0.0, [0])
    assert clock.next_tick()
    assert (clock.now_s, list(clock.arriving()), list(clock.due())) == (5.0, [1], [(3.0, 1, 30), (4.0, 2, 40)])
    clock.at(1.0, 3, 50)  # what should have been is now
    assert clock.next_tick()
    assert (clock.now_s, list(clock.due())) == (5.0, [(5.0, 3, 50)])
    assert clock.next_tick()
    assert (clock.now_s, list(clock.arriving())) == (10.0, [2])
    assert not clock.next_tick()


def test_samples_are_bounded() -> None:
    series = Series(samples_max=64)
    for moment in range(10_000):
        if series.wants(moment):
            series.add(Sample(moment, 0, 0, 0, 0, {}))
    assert 16 <= len(series.samples) <= 64
    assert series.samples[0].moment_s == 0
    assert series.samples[-1].moment_s > 9000
