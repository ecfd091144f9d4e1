"""`skerry simulate`: what a policy would do with a trace of work, before anybody has to wait for it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import DURATION, command
from skerry.errors import Invalid
from skerry.model.nearness import did_you_mean

if TYPE_CHECKING:
    from skerry.model.queue import QueueSpec
    from skerry.scheduler.plan import Plan
    from skerry.scheduler.snapshot import Node, Snapshot
    from skerry.simulate.metrics import Figures
    from skerry.simulate.outcome import Outcome
    from skerry.simulate.replay import Replay, Scheduler
    from skerry.simulate.trace import Trace

MADE_UP = "borg"
JOBS_USUAL = 5000
NODES_USUAL = 100
LOAD_USUAL = 0.7
RUNS_MAX = 8


@command("simulate", short_help="What a policy would do with a trace of work.")
@click.argument("trace", metavar="TRACE")
@click.option(
    "--policy",
    "policies",
    metavar="RULES",
    multiple=True,
    help="fifo, priority or fair-share, and what else of a queue's rules is not as usual: "
    "fifo,backfill=no,small-share=0. Repeat to compare [fair-share].",
)
@click.option(
    "--strategy",
    "strategies",
    multiple=True,
    type=click.Choice(["pack", "spread", "fragmentation", "auto"]),
    help="Which of the nodes where it fits. Repeat to compare [auto].",
)
@click.option("--nodes", metavar="FILE|N", help="CSV of nodes, or so many alike [as many as carry the work].")
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, 1_000_000), help="Only the first N jobs; of borg, so many."
)
@click.option(
    "--load",
    metavar="X",
    type=click.FloatRange(0, 100, min_open=True),
    help="Let work come quicker or slower, so that it asks X of what there is (1: all of it) [as in TRACE].",
)
@click.option("--stay", is_flag=True, help="Work comes one a second by lot, and never ends: how full does it get?")
@click.option(
    "--declared",
    metavar="X",
    type=click.FloatRange(0, 1000),
    help="Jobs declare a max_duration of X times what they run; 0: none does [as in TRACE].",
)
@click.option(
    "--tick", metavar="TIME", type=DURATION, default=1.0, help="Decide once for all that comes in so long a time [1s]."
)
@click.option("--seed", metavar="N", type=click.IntRange(0, 2**32 - 1), default=0, help="Of what is drawn by lot [0].")
@click.option("--check", "check_every", metavar="N", type=click.IntRange(1), help="Check every promise, each N passes.")
@click.option("--out", metavar="DIR", type=click.Path(), help="Write report and pictures into this folder.")
def simulate(
    invocation: Invocation,
    trace: str,
    policies: tuple[str, ...],
    strategies: tuple[str, ...],
    nodes: str | None,
    limit: int | None,
    load: float | None,
    stay: bool,
    declared: float | None,
    tick: float,
    seed: int,
    check_every: int | None,
    out: str | None,
) -> None:
    """Replay TRACE in simulated time through the scheduler that also runs your sandboxes, and report how it went.

    \b
    TRACE is a CSV of pods in the columns of Alibaba's openb trace, one of jobs in those of philly.csv, or
    `borg`: work made up after Google's, of which one job in a hundred is 99% of the load.
      skerry simulate pods.csv --nodes nodes.csv --out report
      skerry simulate borg --policy fair-share --policy fifo,backfill=no,small-share=0
    It needs no server and starts nothing.
    """
    from skerry.cli import simulate_view as view
    from skerry.simulate.metrics import figures
    from skerry.simulate.trace import staying

    if stay and load is not None:
        raise click.UsageError("--stay and --load: give one of them, since what never ends has no mean demand")
    rules = _rules(policies or ("fair-share",), strategies)
    target = None if out is None else view.target(out)
    loaded = _trace(trace, nodes, limit, load, declared, seed)
    if stay:
        loaded = staying(loaded, seed)
    runs: list[Figures] = []
    outcomes: list[Outcome] = []
    with view.bar(invocation) as shown:
        for name, queue in rules:
            watch = Stopwatch(loaded, seed)
            replay = _replay(loaded, queue, watch, name, tick, seed, check_every)
            shown(name, replay.passes())
            runs.append(replace(figures(loaded, replay.outcome), wall=watch.read()))
            outcomes.append(replay.outcome)
    if target is not None:
        view.write(invocation, target, loaded, runs, outcomes, seed)
    view.tell(invocation.output, loaded, runs, seed)


class Stopwatch:
    """What the scheduler took of this machine's time: the simulated one stands still meanwhile."""

    def __init__(self, trace: Trace, seed: int) -> None:
        from skerry.simulate.decide import RealScheduler

        self._scheduler = RealScheduler(trace, seed)
        self._took_s: list[float] = []
        self._gone_s = 0.0
        self._decisions = 0
        self._began_s = time.perf_counter()

    def place(self, snapshot: Snapshot, now_s: float) -> Plan:
        began_s = time.perf_counter()
        plan = self._scheduler.place(snapshot, now_s)
        self._took_s.append(time.perf_counter() - began_s)
        self._decisions += len(plan.starts) + len(plan.evictions)
        return plan

    def gone(self, sandboxes: Iterable[str]) -> None:
        began_s = time.perf_counter()
        self._scheduler.gone(sandboxes)
        self._gone_s += time.perf_counter() - began_s

    def read(self) -> dict[str, float]:
        took_s = sorted(self._took_s)
        if not took_s:
            return {}
        return {
            "seconds": time.perf_counter() - self._began_s,
            "scheduler_seconds": sum(took_s) + self._gone_s,
            "decisions_per_s": self._decisions / max(sum(took_s) + self._gone_s, 1e-9),
            "pass_ms_p50": took_s[len(took_s) // 2] * 1000,
            "pass_ms_p99": took_s[min(len(took_s) - 1, int(len(took_s) * 0.99))] * 1000,
        }


def _rules(policies: tuple[str, ...], strategies: tuple[str, ...]) -> list[tuple[str, QueueSpec]]:
    """(name, rules) of each run."""
    from skerry.simulate.rules import read_rules

    found = {
        f"{policy} {strategy}" if strategy and len(strategies) > 1 else policy: read_rules(policy, strategy)
        for policy in policies
        for strategy in strategies or (None,)
    }
    if len(found) > RUNS_MAX:
        raise click.UsageError(f"at most {RUNS_MAX} sets of rules are compared, and these are {len(found)}")
    return list(found.items())


def _replay(
    trace: Trace, queue: QueueSpec, scheduler: Scheduler, name: str, tick: float, seed: int, check_every: int | None
) -> Replay:
    from skerry.simulate.decide import must_hold
    from skerry.simulate.replay import Replay

    check = None if check_every is None else must_hold
    return Replay(trace, queue, scheduler, name=name, tick_s=tick, seed=seed, check=check, check_every=check_every or 1)


def _trace(
    source: str, nodes: str | None, limit: int | None, load: float | None, declared: float | None, seed: int
) -> Trace:
    from skerry.simulate.trace import Trace, alike, at_load, declaring, enough
    from skerry.simulate.traces import borg, formats

    if source == MADE_UP:
        known = _nodes(nodes, borg.NODE) or alike(NODES_USUAL, borg.NODE)
        arrivals = borg.generate(seed, limit or JOBS_USUAL, known)
        load = LOAD_USUAL if load is None else load
    else:
        with _opened(source) as file:
            arrivals, pattern = formats.read(source, file)
        arrivals = arrivals[:limit]
        known = _nodes(nodes, pattern) or alike(enough(arrivals, pattern), pattern)
    trace = Trace(Path(source).name, known, arrivals)
    if load is not None:
        trace = at_load(trace, load)
    return trace if declared is None else declaring(trace, declared)


def _nodes(given: str | None, pattern: Node) -> tuple[Node, ...]:
    """() where none are given."""
    from skerry.simulate.trace import NODES_MAX, alike
    from skerry.simulate.traces.openb import read_nodes

    if given is None:
        return ()
    if given.isdecimal():
        if not 1 <= int(given) <= NODES_MAX:
            raise Invalid(f"--nodes: {given} is not allowed; give 1 to {NODES_MAX}, or a file", field="nodes")
        return alike(int(given), pattern)
    with _opened(given) as file:
        return read_nodes(given, file)


@contextmanager
def _opened(path: str) -> Generator[TextIO]:
    try:
        # With the mark that spreadsheets put before their text, or without.
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        hint = did_you_mean(path, [MADE_UP])
        raise Invalid(f"cannot read {path}: {(error.strerror or str(error)).lower()}{hint}") from None
    except UnicodeDecodeError:
        raise Invalid(f"cannot read {path}: it is not text in UTF-8") from None
