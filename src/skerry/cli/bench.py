"""`skerry bench`: how a model server does under load. It needs no Skerry server, only the endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skerry.cli.bench_options import body_of, load_options, overrides, plans_of, target_options
from skerry.cli.bench_others import Retelling
from skerry.cli.bench_target import reached
from skerry.cli.bench_words import CONTEXT
from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command
from skerry.cli.table import Entry
from skerry.errors import Invalid

if TYPE_CHECKING:
    from skerry.bench.plan import Campaign

_HERE = "skerry.cli.bench:"
_SEARCH = "skerry.cli.bench_search:"
_RESULTS = "skerry.cli.bench_results:"
ENTRIES = {
    "run": Entry(_HERE + "run", "Send requests, and report how they were answered."),
    "find": Entry(_SEARCH + "find", "Find the highest rate at which objectives are kept."),
    "sweep": Entry(_SEARCH + "sweep", "Measure at several rates or numbers of users, and find the knee."),
    "capacity": Entry(_SEARCH + "capacity", "How many replicas a trace needs, by simulation."),
    "compare": Entry(_RESULTS + "compare", "Set results beside each other, and say what really differs."),
    "import": Entry(_RESULTS + "import_results", "Read results of guidellm, AIPerf, genai-bench or vllm."),
    "schema": Entry(_RESULTS + "schema", "Print the JSON schema of files for --plan."),
}
GATE_FAILED = 1


@click.group("bench", cls=LazyGroup, entries=ENTRIES)
def bench() -> None:
    """Measure a model server, or a service, under load."""


@command("run", short_help="Send requests, and report how they were answered.", cls=Retelling, context_settings=CONTEXT)
@target_options
@load_options
@click.option("--slo", metavar="RULES", default="", help='Objectives: "ttft_p99<500ms, tpot_p90<50ms".')
@click.option("--fail-if", metavar="RULES", default="", help="Exit with 1 where one of these is so, written likewise.")
@click.option("--plan", "plan_file", metavar="FILE", type=click.Path(), help="Runs of a YAML file; see bench schema.")
@click.option("--repeat", metavar="N", type=click.IntRange(1, 100), help="Each run N times, with other seeds [1].")
@click.option("--out", "-o", metavar="DIR", type=click.Path(), help="Write summary, records, tables and report there.")
@click.pass_context
def run(
    context: click.Context,
    invocation: Invocation,
    fail_if: str,
    plan_file: str | None,
    repeat: int | None,
    out: str | None,
    **given: Any,
) -> None:
    """Send requests to a server that speaks OpenAI's API, and report how they were answered.

    \b
      skerry bench run --url http://127.0.0.1:8000 -m tiny --rate 10 --duration 30s
      skerry bench run --url http://127.0.0.1:8000 -m tiny --concurrency 64 -n 2000
      skerry bench run --service tiny --rate 10 --duration 30s
      skerry bench run --plan nightly.yaml --out results
    A key is taken from SKERRY_BENCH_KEY or OPENAI_API_KEY; for a --service from this context.
    """
    campaign = _campaign(context, invocation, plan_file, given)
    # Not before: while a plan is read in another process this one should weigh little.
    from skerry.bench.measure.slo import objectives
    from skerry.cli.bench_runs import Runs

    gates = objectives(fail_if, "fail-if") if fail_if else ()
    runs = Runs(invocation, None if out is None else Path(out), gates)
    times = repeat or campaign.repeat
    for each in campaign.runs:
        runs.measure(each.name, each.plan, times)
    runs.tell()
    if runs.failing:
        invocation.output.note(f"fail-if: {', '.join(runs.failing)}")
        raise click.exceptions.Exit(GATE_FAILED)


def _campaign(context: click.Context, invocation: Invocation, plan_file: str | None, given: dict[str, Any]) -> Campaign:
    from skerry.bench.plan import Campaign, Run

    if plan_file is None:
        (plan,) = plans_of([body_of(invocation, given)])
        return Campaign((Run("", plan),), 1)
    for name in ("rate", "concurrency", "requests", "duration"):
        if given[name] is not None:
            raise Invalid(f"{name}: the file of plans says it", field=name)
    from skerry.bench.campaign import read

    return read(Path(plan_file), overrides(context, given), lambda fields: reached(invocation, fields))
