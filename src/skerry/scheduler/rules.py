"""A queue as it is declared, in the scheduler's own plain words: the same in control and in a simulation."""

from __future__ import annotations

from skerry.model import resources
from skerry.model.queue import QueueSpec
from skerry.scheduler.shape import Term
from skerry.scheduler.snapshot import Amounts, Queue, Quota


def terms_of(selector: resources.Selector) -> tuple[Term, ...]:
    return tuple(
        Term(
            key,
            values=frozenset(value for value in values if not value.startswith("!")),
            unless=frozenset(value[1:] for value in values if value.startswith("!") and value != "!"),
            absent="!" in values,
        )
        for key, values in sorted(selector.items())
    )


def queue_of(spec: QueueSpec, evicted: int) -> Queue:
    """`evicted`: of its work, in the last hour, for the sake of other work."""
    return Queue(
        name=spec.name,
        terms=terms_of(spec.nodes),
        policy=spec.policy,
        strategy=spec.strategy,
        backfill=spec.backfill,
        aging_s=spec.aging_s,
        small_share=spec.small_share,
        running_max=spec.running_max,
        quotas=tuple(
            Quota(
                project=quota.project,
                user=quota.user,
                guaranteed=_amounts(quota.guaranteed),
                limit=_amounts(quota.limit),
                weight=quota.weight,
                running_max=quota.running_max,
            )
            for quota in spec.quotas
        ),
        preemption=spec.preemption.enabled,
        minimum_run_s=spec.preemption.minimum_run_s,
        evictions_left=max(0, spec.preemption.budget_per_hour - evicted),
    )


def _amounts(amounts: resources.Amounts) -> Amounts:
    return Amounts(
        cpu_milli=None if amounts.cpu is None else round(amounts.cpu * 1000),
        memory_bytes=amounts.memory,
        gpu_milli=None if amounts.gpu is None else round(amounts.gpu * resources.GPU_MILLI),
        kinds=tuple(sorted((kind, round(count * resources.GPU_MILLI)) for kind, count in amounts.gpu_kinds.items())),
        extras=tuple(sorted(amounts.extras.items())),
    )
