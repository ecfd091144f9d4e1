"""What no node could ever have, however empty, is refused when it is asked for: it must not wait for ever."""

from __future__ import annotations

from collections.abc import Callable

from skerry.errors import Invalid
from skerry.model.resources import Selector
from skerry.model.sandbox import SandboxSpec
from skerry.store.transaction import Transaction

WhyNever = Callable[[SandboxSpec, Selector], tuple[str, str] | None]
"""(field, sentence) of what none of the nodes that are meant could ever have; None where one could, or none is known:
they may still come."""


def none_known(spec: SandboxSpec, nodes: Selector) -> None:
    """Where no node was heard of."""
    del spec, nodes


async def check_size(tx: Transaction, spec: SandboxSpec, why_never: WhyNever) -> None:
    queue = await tx.queues.named(spec.queue)
    found = why_never(spec, {} if queue is None else queue.spec.nodes)
    if found is not None:
        field, say = found
        raise Invalid(f"{field}: {say}", field=field)
