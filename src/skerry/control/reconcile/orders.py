"""What control tells an agent about a sandbox, made from its record; the same record gives the same order again."""

from __future__ import annotations

from skerry.errors import Forbidden, InUse, Invalid, NoRoom, NotFound, SkerryError, TooLarge
from skerry.model.order import Order
from skerry.model.sandbox import Sandbox

TRIES_S_MAX = 60.0
"""An order that the agent keeps answering with a failure of its own is given up after this. While the agent does not
answer at all the clock stands still: unreachable is not failed."""


def order_for(sandbox: Sandbox) -> Order:
    assert sandbox.image_digest is not None, "a placed sandbox has an image"
    return Order(
        sandbox_id=sandbox.id,
        generation=sandbox.generation,
        hostname=sandbox.name,
        spec=sandbox.spec,
        image_digest=sandbox.image_digest,
        source_checkpoint=sandbox.source_checkpoint,
        has_run=sandbox.started_at is not None,
        networks=sandbox.memberships,
        fork=sandbox.source_checkpoint is not None,
    )


def is_refusal(error: SkerryError) -> bool:
    """Whether the same order would be refused again: it is the order that is wrong, or a disk is full or a port is
    another program's, which does not pass by waiting."""
    return isinstance(error, Invalid | NotFound | Forbidden | TooLarge | NoRoom | InUse)
