"""The runs of one `skerry bench run`: each measured, told of, and left in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from skerry.bench.measure.repeats import Interval, intervals
from skerry.bench.measure.slo import Objective, objectives
from skerry.bench.measure.summary import Summary, summarize
from skerry.bench.plan import Plan
from skerry.bench.report import files, table
from skerry.bench.report.words import SECONDS, number
from skerry.bench.run import counted
from skerry.bench.run import run as send
from skerry.bench.watch import Watch, is_here
from skerry.bench.watch import summary as server_summary
from skerry.cli import bench_view as view
from skerry.cli.invocation import Invocation


class Runs:
    def __init__(self, invocation: Invocation, out: Path | None, gates: Sequence[Objective]) -> None:
        self._invocation = invocation
        self._out = out
        self._gates = gates
        self._told: list[Any] = []
        self._documents: list[dict[str, Any]] = []
        self._confidence: list[tuple[str, table.Row, list[table.Row]]] = []
        self.failing: list[str] = []

    def measure(self, name: str, plan: Plan, times: int) -> None:
        """Raises as `run` does."""
        summaries = [self._once(_named(name, at, times), plan, at) for at in range(times)]
        if not (spread := intervals(summaries)):
            return
        output, rows = self._invocation.output, _confidence(spread)
        self._confidence.append((name, *rows))
        self._documents.append({"name": name, "intervals": {each: asdict(found) for each, found in spread.items()}})
        if not output.json and not output.quiet:
            output.line()
            for line in table.aligned(*rows):
                output.line(line)

    def measure_one(self, name: str, plan: Plan) -> Summary:
        return self._once(name, plan, 0)

    def _once(self, name: str, plan: Plan, at: int) -> Summary:
        output = self._invocation.output
        plan = replace(plan, seed=plan.seed + at)
        wanted = objectives(plan.slo) if plan.slo else ()
        with Watch(plan.metrics_url, gpus=is_here(plan)) as watch, view.live(self._invocation, plan) as told:
            frame = send(plan, told)
        view.warn(output, plan, len(frame), watch.samples)
        kept = counted(plan, frame)
        summary = summarize(kept, wanted)
        tokens_per_s = summary.rates.get("total_tokens_per_second")
        if plan.cost_per_hour is not None and tokens_per_s:
            summary.rates["cost_per_million_tokens"] = plan.cost_per_hour / 3600 / tokens_per_s * 1e6
        summary.server.update(server_summary(watch.samples))
        joules, tokens = summary.server.get("gpu_joules"), int(kept["output_tokens"][kept.ok].sum())
        if isinstance(joules, float) and tokens:
            summary.rates["joules_per_token"] = joules / tokens
        failing = [each.text for each in self._gates if each.is_kept(kept, summary.rates)]
        if self._gates and summary.failed == summary.requests:
            failing.append("no request succeeded")  # of which no latency is too long
        self.failing += [f"{name} {each}".strip() for each in failing]
        if self._out is not None:
            files.leave(self._out / name, plan, summary, frame)
        if output.json:
            self._documents.append({"name": name, **files.document(plan, summary)})
        else:
            if name:
                output.line(f"\n{name}")
            view.tell(output, summary)
        if self._out is not None:
            from skerry.bench.report.about import about
            from skerry.bench.report.plots import Told

            self._told.append(Told(name, summary, kept, watch.samples, about(plan)))
        return summary

    def tell(self, *, swept: bool = False) -> None:
        output = self._invocation.output
        if self._out is not None:
            from skerry.bench.report.html import overview, page

            (self._out / "report.html").write_text(
                page("Benchmark", self._told, swept=swept, repeated=self._confidence)
            )
            if len(self._told) > 1:
                lines = table.markdown(*overview(self._told))
                for name, header, rows in self._confidence:
                    lines += ["", *([name, ""] if name else []), *table.markdown(header, rows)]
                (self._out / "summary.md").write_text("\n".join(lines) + "\n")
                if not output.json and not output.quiet:
                    output.line()
                    for line in table.aligned(*overview(self._told)):
                        output.line(line)
            output.note(f"written into {self._out}")
        if output.json and not swept:
            output.emit(self._documents[0] if len(self._documents) == 1 else self._documents)


def _named(name: str, at: int, times: int) -> str:
    return name if times == 1 else f"{name}-{at + 1}".removeprefix("-")


def _confidence(spread: dict[str, Interval]) -> tuple[table.Row, list[table.Row]]:
    shown = ["requests_per_second", "output_tokens_per_second", "error_rate"]
    shown += [f"{metric}_{at}" for metric in ("ttft", "tpot", "itl", "e2e") for at in ("p50", "p99")]
    rows: list[table.Row] = []
    for name in shown:
        if (found := spread.get(name)) is not None:
            in_ms = name.rpartition("_")[0] in SECONDS
            scale = 1000 if in_ms else 1
            rows.append((name, number(found.mean * scale), f"± {number(found.half * scale)}", "ms" if in_ms else ""))
    return ("over the repeated runs", "mean", "95 % confidence", ""), rows
