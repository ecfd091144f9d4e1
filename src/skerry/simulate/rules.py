"""A set of rules to try, written on one line: `fair-share`, `fifo,backfill=no,small-share=0`."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from skerry.errors import Invalid
from skerry.model.identity import QUEUE_DEFAULT
from skerry.model.queue import Policy, QueueSpec

FIELDS: Final = {
    "strategy": "strategy",
    "backfill": "backfill",
    "aging": "aging_s",
    "half-life": "half_life_s",
    "small-share": "small_share",
    "running-max": "running_max",
    "preemption": "preemption.enabled",
    "grace": "preemption.grace_s",
    "minimum-run": "preemption.minimum_run_s",
    "evictions": "preemption.budget_per_hour",
}
"""What may be written -> the field of a queue that it is."""


def read_rules(text: str, strategy: str | None = None) -> QueueSpec:
    """What is not said is as queues have it; `strategy` is meant where the text says none."""
    policy, *more = [part.strip() for part in text.split(",")]
    if policy not in list(Policy):
        raise Invalid(f"--policy: {policy!r} is not a policy; allowed are {', '.join(Policy)}", field="policy")
    fields: dict[str, Any] = {"name": QUEUE_DEFAULT, "policy": policy}
    if strategy is not None:
        fields["strategy"] = strategy
    preemption: dict[str, Any] = {}
    for part in more:
        key, equals, value = part.partition("=")
        if key not in FIELDS or not equals:
            raise Invalid(
                f"--policy: {part!r} is not allowed after {policy}; allowed are {'=…, '.join(FIELDS)}=…",
                field="policy",
            )
        place, _, name = FIELDS[key].rpartition(".")
        (preemption if place else fields)[name] = None if value == "none" else value
    try:
        return QueueSpec.model_validate({**fields, "preemption": preemption})
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        key = next((key for key, field in FIELDS.items() if field == path), path)
        told = first["msg"].removeprefix("Value error, ")
        raise Invalid(f"--policy: {key}: {told[:1].lower()}{told[1:]}", field="policy") from None
