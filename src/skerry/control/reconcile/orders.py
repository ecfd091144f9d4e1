"""What control tells an agent about a sandbox, made from its record; the same record gives the same order again, but
for secrets that were set anew and models that were fetched anew."""

from __future__ import annotations

from skerry.control.reconcile.hands import Hands
from skerry.errors import Forbidden, InUse, Invalid, NoRoom, NotFound, SkerryError, TooLarge, Unavailable
from skerry.model.member import OUTPUT_VARIABLE, log_name
from skerry.model.order import Order
from skerry.model.sandbox import Sandbox, models_named
from skerry.model.secret import SealedSecret
from skerry.store.store import Store

TRIES_S_MAX = 60.0
"""An order that the agent keeps answering with a failure of its own is given up after this. While the agent does not
answer at all the clock stands still: unreachable is not failed."""


async def order_for(sandbox: Sandbox, store: Store) -> Order:
    """With its secrets and models as they are now. One that is gone is left out: the machine says what it misses."""
    assert sandbox.image_digest is not None, "a placed sandbox has an image"
    names = [use.name for use in sandbox.spec.secrets]
    secrets: list[SealedSecret] = []
    models: dict[str, str] = {}
    mounted = models_named(sandbox.spec.mounts)
    if names or mounted:
        async with store.read() as tx:
            secrets = await tx.secrets.sealed(names, sandbox.project)
            models = await tx.models.ids_of(mounted)
    return Order(
        sandbox_id=sandbox.id,
        generation=sandbox.generation,
        name=sandbox.name,
        spec=sandbox.spec,
        image_digest=sandbox.image_digest,
        source_checkpoint=sandbox.source_checkpoint,
        has_run=sandbox.started_at is not None,
        networks=sandbox.memberships,
        volumes=sandbox.volumes,
        models=models,
        devices=sandbox.devices,
        folders=[sandbox.spec.env[OUTPUT_VARIABLE]] if OUTPUT_VARIABLE in sandbox.spec.env and sandbox.job else [],
        secrets=secrets,
        fork=sandbox.source_checkpoint is not None,
    )


def log_kept_as(sandbox: Sandbox) -> str | None:
    """As what its machine keeps what it printed when it is deleted: of members of jobs. None: not at all."""
    if sandbox.job is None or sandbox.task is None:
        return None
    return log_name(sandbox.job, sandbox.task, sandbox.attempt, sandbox.rank)


def tries_again(error: SkerryError, hands: Hands, key: str) -> bool:
    """Whether whoever asked an agent about `key` lets the failure pass, to ask again later; else it is final."""
    return isinstance(error, Unavailable) or (not is_refusal(error) and hands.answered_for_s(key) < TRIES_S_MAX)


def is_refusal(error: SkerryError) -> bool:
    """Whether the same order would be refused again: it is the order that is wrong, or a disk is full or a port is
    another program's, which does not pass by waiting."""
    return isinstance(error, Invalid | NotFound | Forbidden | TooLarge | NoRoom | InUse)
