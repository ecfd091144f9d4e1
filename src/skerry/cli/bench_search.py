"""`skerry bench find`, `sweep` and `capacity`: how much load a server takes, and how many of it a load needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skerry.cli.bench_options import body_of, plans_of, target_options
from skerry.cli.bench_others import Retelling
from skerry.cli.bench_words import CONTEXT
from skerry.cli.invocation import Invocation
from skerry.cli.options import DURATION, command
from skerry.errors import Invalid

if TYPE_CHECKING:
    from skerry.bench.capacity import Found
    from skerry.bench.search import Trial

NOT_FOUND = 1
LOADS_MAX = 100
LOAD = click.FloatRange(0, 1_000_000, min_open=True)


@command(
    "find", short_help="Find the highest rate at which objectives are kept.", cls=Retelling, context_settings=CONTEXT
)
@target_options
@click.option("--slo", metavar="RULES", required=True, help='Such as "ttft_p99<500ms, tpot_p90<50ms".')
@click.option("--of", type=click.Choice(["rate", "concurrency"]), default="rate", help="What is searched [rate].")
@click.option("--start", metavar="N", type=LOAD, default=1.0, help="Tried first [1].")
@click.option("--most", metavar="N", type=LOAD, default=10_000.0, help="Tried at most [10000].")
@click.option("--precision", metavar="X", type=click.FloatRange(0.001, 1), default=0.05, help="As a share [0.05].")
@click.option("--duration", metavar="TIME", type=DURATION, default=30.0, help="Of each trial [30s].")
@click.option("--requests-min", metavar="N", type=int, default=100, help="Of each trial, however long it takes [100].")
def find(
    invocation: Invocation,
    of: str,
    start: float,
    most: float,
    precision: float,
    duration: float,
    requests_min: int,
    **given: Any,
) -> None:
    """Find the highest rate of requests, or number of users, at which objectives are kept.

    \b
      skerry bench find --url http://127.0.0.1:8000 -m tiny --slo "ttft_p99<500ms, tpot_p90<50ms"
    It doubles until they are not, and then halves what lies between. A trial that can only fail ends early.
    """
    (plan,) = plans_of([body_of(invocation, given, {"rate": start, "duration": duration})])
    from skerry.bench import search
    from skerry.bench.measure.slo import objectives
    from skerry.bench.plan import USERS_MAX, LoadPlan

    wanted = objectives(given["slo"])

    def attempt(load: float) -> Trial:
        if of == "rate":
            requests = max(requests_min, round(load * duration))
            tried = replace(plan.load, rate=load, duration=None, requests=requests)
        else:
            load = min(max(1, round(load)), USERS_MAX)
            requests = max(requests_min, load * 4)
            tried = LoadPlan(concurrency=load, requests=requests, duration=duration)
        return search.trial(replace(plan, load=tried, drain=duration), load, requests, wanted)

    trials: list[Trial] = []
    for trial in search.most(attempt, start, most, precision):
        trials.append(trial)
        said = "kept" if trial.kept else "not kept, stopped early" if trial.stopped else "not kept"
        invocation.output.note(f"{of} {trial.load:.3g}: {said} ({trial.summary.requests:,} requests)")
    best = search.best(trials)
    _tell(invocation, of, trials, best)
    if best is None:
        invocation.output.note(f"even at {trials[-1].load:.3g} they are not kept")
        raise click.exceptions.Exit(NOT_FOUND)
    if best.load >= most:
        invocation.output.note(f"they are kept up to --most {most:g}; what is above was not tried")


@command(
    "sweep",
    short_help="Measure at several rates or numbers of users, and find the knee.",
    cls=Retelling,
    context_settings=CONTEXT,
)
@target_options
@click.option("--rates", metavar="N,N,…", help="Requests a second, one run each.")
@click.option("--concurrencies", metavar="N,N,…", help="Users, one run each.")
@click.option("--duration", metavar="TIME", type=DURATION, default=30.0, help="Of each [30s].")
@click.option("--slo", metavar="RULES", default="", help="Objectives, for goodput.")
@click.option("--out", "-o", metavar="DIR", type=click.Path(), help="Write summaries, records and a report there.")
def sweep(
    invocation: Invocation, rates: str | None, concurrencies: str | None, duration: float, out: str | None, **given: Any
) -> None:
    """Measure at several rates or numbers of users, one after the other.

    \b
      skerry bench sweep --url http://127.0.0.1:8000 -m tiny --concurrencies 1,2,4,8,16,32,64 --out results
    The knee is where throughput over latency is greatest: beyond it more load mostly waits.
    """
    if (rates is None) == (concurrencies is None):
        raise Invalid("give one of --rates and --concurrencies", field="rates")
    of = "rate" if rates is not None else "concurrency"
    loads = _numbers(rates or concurrencies or "", of)
    each_load = [{of: load if of == "rate" else round(load), "duration": duration} for load in loads]
    plans = plans_of([body_of(invocation, given, load) for load in each_load])
    from skerry.bench import search
    from skerry.cli.bench_runs import Runs

    runs = Runs(invocation, None if out is None else Path(out), ())
    trials: list[Trial] = []
    for load, plan in zip(loads, plans, strict=True):
        summary = runs.measure_one(f"{of}-{load:g}", plan)
        kept = all(each.kept for each in summary.objectives)
        trials.append(search.Trial(load, kept, False, summary))
    runs.tell(swept=True)
    _tell(invocation, of, trials, search.knee(trials), "knee")


def _numbers(text: str, field: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = []
    if not found or min(found) <= 0 or len(found) > LOADS_MAX:
        raise Invalid(f"{field}: {text[:60]!r} is not allowed; give numbers such as 1,2,4,8", field=field)
    return found


def _tell(invocation: Invocation, of: str, trials: list[Trial], found: Trial | None, word: str = "best") -> None:
    from skerry.bench.report import table
    from skerry.bench.report.trials import document, rows

    output = invocation.output
    if output.json:
        output.emit({"of": of, word: None if found is None else found.load, "trials": document(trials)})
    elif output.quiet:
        output.line("" if found is None else f"{found.load:.4g}")
    else:
        for line in table.aligned(*rows(of, trials)):
            output.line(line)
        output.line(f"{word}: {'none' if found is None else f'{of} {found.load:.4g}'}")


@command("capacity", short_help="How many replicas a trace needs, by simulation.")
@click.option("--data", metavar="KIND:FILE", required=True, help="mooncake:, bailian: or azure: with its file.")
@click.option("--slo", metavar="RULES", required=True, help='Such as "ttft_p99<2s, tpot_p90<50ms".')
@click.option("--trace-speed", metavar="X", type=float, default=1.0, help="2: twice as quick [1].")
@click.option("--limit", metavar="N", type=int, help="Requests of the trace to take.")
@click.option("--replicas-max", metavar="N", type=int, default=256, help="Tried at most [256].")
@click.option("--slowness", metavar="X", type=float, default=1.0, help="Of each step against an H100 with 8B [1].")
@click.option("--cost-per-hour", metavar="X", type=float, help="Of one replica: tells the cost of a million tokens.")
def capacity(
    invocation: Invocation,
    data: str,
    slo: str,
    trace_speed: float,
    limit: int | None,
    replicas_max: int,
    slowness: float,
    cost_per_hour: float | None,
) -> None:
    """How many replicas of a model server this trace needs to keep objectives, by simulation.

    \b
      skerry bench capacity --data mooncake:conversation_trace.jsonl --slo "ttft_p99<2s, tpot_p90<50ms"
    The engine that is simulated batches continuously and caches prefixes; requests go where least is under way, or
    where their prefix is.
    """
    from skerry.bench import capacity as plans
    from skerry.bench.measure.slo import objectives
    from skerry.cli.bench_options import file_of

    asked = plans.read(file_of(data), trace_speed, limit)
    found = plans.replicas(asked, objectives(slo), replicas_max, slowness)
    told = plans.document(asked, found, cost_per_hour)
    if invocation.output.json:
        invocation.output.emit(told)
    elif invocation.output.quiet:
        invocation.output.line(str(found.replicas))
    else:
        _tell_capacity(invocation, told, found)
    if not found.kept:
        raise click.exceptions.Exit(NOT_FOUND)


def _tell_capacity(invocation: Invocation, told: dict[str, Any], found: Found) -> None:
    from skerry.bench.report import table

    output = invocation.output
    verdict = "keep" if found.kept else "are too few to keep"
    span = f"{told['requests']:,} requests in {told['seconds']:,.0f} s"
    output.line(f"{found.replicas} replicas {verdict} the objectives: {span}")
    if found.summary.failed:
        output.line(f"{found.summary.failed:,} requests are larger than the model allows, and are left out")
    if "cost" in told:
        output.line(f"cost {told['cost']:,.2f}, {told['cost_per_million_tokens']:.3f} per million tokens")
    for header, rows in (table.latencies(found.summary), table.kept(found.summary)):
        output.line()
        for line in table.aligned(header, rows):
            output.line(line)
