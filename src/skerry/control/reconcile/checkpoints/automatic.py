"""Make and remove the checkpoints that a sandbox's policy asks for. Those made by hand are never touched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import ClassVar

from skerry.clock import Clock
from skerry.control.intents.checkpoints import request_checkpoint, request_deletion
from skerry.errors import SkerryError
from skerry.model.checkpoint import Checkpoint, CheckpointState, Origin
from skerry.model.sandbox import Sandbox
from skerry.store.store import Store
from skerry.store.transaction import Transaction
from skerry.telemetry import Log


class ScheduleCheckpoints:
    moves: ClassVar[frozenset[tuple[CheckpointState, CheckpointState]]] = frozenset()
    """It asks as a user would, through the intents; the arrows are those of `create` and `delete`."""

    def __init__(self, store: Store, clock: Clock, log: Log) -> None:
        self._store = store
        self._clock = clock
        self._log = log

    async def step(self) -> None:
        async with self._store.read() as tx:
            scheduled = await tx.sandboxes.with_checkpoint_policy()
            made: dict[str, list[Checkpoint]] = defaultdict(list)
            for checkpoint in await tx.checkpoints.automatic():
                made[checkpoint.sandbox].append(checkpoint)
            owners = {sandbox.id: sandbox for sandbox in scheduled}
            others = [key for key in made if key not in owners]
            owners |= {sandbox.id: sandbox for sandbox in await tx.sandboxes.with_ids(others)}
        now = self._clock.now()
        due = [sandbox for sandbox in scheduled if is_due(sandbox, made[sandbox.id], now)]
        outdated = [
            checkpoint
            for key, all_made in made.items()
            if key in owners
            for checkpoint in expired(owners[key], all_made, now)
        ]
        for checkpoint in outdated:
            await self._quietly(lambda tx, one=checkpoint: request_deletion(tx, one))
        for sandbox in due:
            await self._quietly(lambda tx, one=sandbox: self._make(tx, one))

    async def _make(self, tx: Transaction, sandbox: Sandbox) -> None:
        """Looks again with the row locked: another control program may have made it a moment ago."""
        fresh = await tx.sandboxes.lock(sandbox)
        if fresh is not None and is_due(fresh, await tx.checkpoints.automatic(fresh.id), self._clock.now()):
            await request_checkpoint(tx, fresh.id, Origin.AUTO)

    async def _quietly(self, ask: Callable[[Transaction], Awaitable[object]]) -> None:
        try:
            async with self._store.write() as tx:
                await ask(tx)
        except SkerryError as error:
            # Someone moved first, or a limit is full: the next round looks again.
            self._log.info("automatic checkpoint", say=error.say, because=error.because)


def is_due(sandbox: Sandbox, made: list[Checkpoint], now: datetime) -> bool:
    """`made`: its automatic ones, oldest first. None while the newest is still being made."""
    every_s = sandbox.spec.checkpoints.every_s
    if every_s is None or (made and made[-1].state is CheckpointState.CREATING):
        return False
    since = max(made[-1].created_at, sandbox.started_at or sandbox.created_at) if made else sandbox.started_at
    return now >= (since or sandbox.created_at) + timedelta(seconds=every_s)


def expired(sandbox: Sandbox, made: list[Checkpoint], now: datetime) -> list[Checkpoint]:
    """Failed ones that were tried again, ready ones beyond `keep`, and those older than `max_age_s`."""
    policy = sandbox.spec.checkpoints
    failed = [each for each in made[:-1] if each.state is CheckpointState.FAILED]
    ready = [each for each in made if each.state is CheckpointState.READY]
    beyond = ready[: max(0, len(ready) - policy.keep)]
    aged: list[Checkpoint] = []
    if policy.max_age_s is not None:
        oldest = now - timedelta(seconds=policy.max_age_s)
        aged = [each for each in ready if each.created_at < oldest and each not in beyond]
    return failed + beyond + aged
