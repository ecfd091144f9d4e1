"""What `skerry bench` shows: how far a run is while it goes on, and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic

from skerry.bench.contract import Record
from skerry.bench.measure.summary import Summary
from skerry.bench.plan import DataKind, Plan
from skerry.bench.report import table
from skerry.bench.watch import SERIES
from skerry.cli.invocation import Invocation
from skerry.cli.output import Output
from skerry.cli.progress import wants_bars

EVERY_S = 0.25
TOLD_EVERY_S = 10.0
SMOOTH = 0.25
"""Of the newest look at the rate: of a few requests a second one alone would jump."""

Told = Callable[[Record], None]


class Progress:
    """Counts as records come; what is shown of it costs nothing between two looks."""

    def __init__(self, plan: Plan, show: Callable[[str, float | None], None], every_s: float) -> None:
        self._total = plan.load.requests
        self._seconds = plan.load.duration or sum(step.duration for step in plan.load.steps) or None
        self._show = show
        self._every_s = every_s
        self._began_s = self._looked_s = monotonic()
        self._ended = self._failed = self._tokens = self._before = 0
        self._ttft_s = self._rate = 0.0

    def told(self, record: Record) -> None:
        self._ended += 1
        self._failed += not record.ok
        self._tokens += record.output_tokens
        if record.first_s:
            ttft_s = record.first_s - record.sent_s
            self._ttft_s += (ttft_s - self._ttft_s) * 0.05 if self._ttft_s else ttft_s
        now_s = monotonic()
        if now_s - self._looked_s >= self._every_s:
            self._look(now_s)

    def _look(self, now_s: float) -> None:
        rate = (self._ended - self._before) / (now_s - self._looked_s)
        self._rate += (rate - self._rate) * SMOOTH if self._rate else rate
        self._looked_s, self._before = now_s, self._ended
        seconds = now_s - self._began_s
        whole = f" of {self._total:,}" if self._total else ""
        parts = [f"{self._ended:,}{whole} answered", f"{self._rate:.0f}/s", f"ttft {self._ttft_s * 1000:.0f} ms"]
        parts += [f"{self._tokens / seconds:,.0f} tokens/s"]
        parts += [f"{self._failed:,} failed"] if self._failed else []
        shares = [self._ended / self._total] if self._total else []
        shares += [seconds / self._seconds] if self._seconds else []
        self._show(", ".join(parts), min(1.0, max(shares)) if shares else None)


@contextmanager
def live(invocation: Invocation, plan: Plan) -> Generator[Told]:
    """On a terminal a bar that moves; else a line now and then."""
    output = invocation.output
    if output.quiet or output.json:
        yield lambda record: None
    elif not wants_bars(invocation):
        yield Progress(plan, lambda text, share: output.note(text), TOLD_EVERY_S).told
    else:
        with _bar(plan) as told:
            yield told


@contextmanager
def _bar(plan: Plan) -> Generator[Told]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as bars:
        task = bars.add_task("begins", total=None)

        def show(text: str, share: float | None) -> None:
            bars.update(task, description=text, total=None if share is None else 1.0, completed=share or 0.0)

        yield Progress(plan, show, EVERY_S).told


def warn(output: Output, plan: Plan, sent: int, samples: Sequence[Mapping[str, float]]) -> None:
    """Of what was asked for and did not come to be."""
    wanted = plan.load.requests
    files = [data for data in plan.data if data.kind is not DataKind.SYNTHETIC]
    if wanted is not None and sent < wanted and plan.load.duration is None and files:
        output.note(f"the data ended after {sent:,} of {wanted:,} requests; --data-repeat begins it anew")
    if plan.metrics_url is not None and not any(name in sample for sample in samples for name in SERIES):
        output.note("metrics-url: nothing that is known was read there")


def tell(output: Output, summary: Summary) -> None:
    if output.quiet:
        output.line(f"{summary.rates.get('requests_per_second', 0.0):.3f}")
        return
    for name, value in table.head(summary):
        output.line(f"{name:<20} {value}")
    for header, rows in (table.latencies(summary), table.others(summary), table.kept(summary)):
        if rows:
            output.line()
            for line in table.aligned(header, rows):
                output.line(line)
    for name, part in summary.scenarios.items():
        output.line()
        output.line(f"{name}: {table.head(part)[0][1]}")
        for line in table.aligned(*table.latencies(part)):
            output.line(line)
