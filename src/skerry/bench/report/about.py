"""What was asked, of whom and how often: a plan in a few lines, for the head of a report."""

from __future__ import annotations

from skerry.bench.plan import Data, DataKind, LoadPlan, Plan
from skerry.bench.report.words import number


def about(plan: Plan) -> list[tuple[str, str]]:
    more = [f"warm-up {plan.warmup:g} s"] if plan.warmup else []
    more += [f"the first {plan.warmup_requests:,} not counted"] if plan.warmup_requests else []
    more += [f"cool-down {plan.cooldown:g} s"] if plan.cooldown else []
    more += [f"{plan.workers} workers"] if plan.workers > 1 else []
    kind = f"{plan.api.value}{'' if plan.stream else ', not streamed'}"
    return [
        ("model", f"{plan.model} at {plan.socket or plan.engine or plan.url} ({kind})"),
        ("load", ", ".join([load(plan.load), *more, f"seed {plan.seed}"])),
        ("data", "; ".join(data(each, len(plan.data) > 1) for each in plan.data)),
    ]


def load(wanted: LoadPlan) -> str:
    if wanted.rate is not None:
        found = f"{number(wanted.rate)} a second ({wanted.arrival.value})"
    elif wanted.concurrency is not None:
        found = f"{wanted.concurrency:,} users"
    elif wanted.trace:
        found = "at the times of the trace" + (f", {wanted.scale:g} times as quick" if wanted.scale != 1 else "")
    else:
        rates = [rate for step in wanted.steps for rate in (step.rate, step.to or step.rate)]
        found = f"{len(wanted.steps)} steps from {number(rates[0])} to {number(rates[-1])} a second"
    found += f", for {wanted.duration:g} s" if wanted.duration is not None else ""
    return found + (f", {wanted.requests:,} requests" if wanted.requests is not None else "")


def data(given: Data, named: bool) -> str:
    name = f"{given.name or given.kind.value} ({given.weight:g}): " if named else ""
    if given.kind is not DataKind.SYNTHETIC:
        return f"{name}{given.kind.value} {given.path}"
    found = f"{name}{given.input_tokens} tokens in, {given.output_tokens} out"
    found += f", {given.turns} turns" if given.turns.strip() != "1" else ""
    found += f", {given.prefix_tokens:,} shared in {given.prefix_groups} groups" if given.prefix_tokens else ""
    return found + "".join(f", picture {size}" for size in given.image_sizes)
