"""Follow what an agent tells while it makes an image or a model: progress to its operation, until it is done or nobody
wants it any more."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from skerry.clock import Clock
from skerry.errors import Unavailable
from skerry.model.image import Image
from skerry.model.weights import Model
from skerry.store.store import Store
from skerry.store.transaction import Transaction

TELL_EVERY_S = 0.5
TOUCH_EVERY_S = 5.0


class Making:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def follow(self, made: Image | Model, lines: AsyncGenerator[dict[str, Any]]) -> dict[str, Any] | None:
        """The line of type `done`. None when it was deleted meanwhile: leaving the stream cancels the work."""
        told_s = touched_s = self._clock.monotonic_s()
        async with aclosing(lines) as stream:
            async for line in stream:
                if line.get("type") == "done":
                    return line
                now_s = self._clock.monotonic_s()
                if now_s - told_s < TELL_EVERY_S:
                    continue
                told_s = now_s
                touch = now_s - touched_s > TOUCH_EVERY_S
                touched_s = now_s if touch else touched_s
                if not await self._tell(made, line, touch=touch):
                    return None
        raise Unavailable("the agent of this machine went away while it was at work", retry_after_s=1)

    async def _tell(self, made: Image | Model, line: dict[str, Any], *, touch: bool) -> bool:
        """Whether it is still wanted."""
        progress = {key: line.get(key) for key in ("step", "done_bytes", "total_bytes")}
        async with self._store.write() as tx:
            if made.operation is not None:
                await tx.operations.progress(made.operation, progress)
            return await _is_wanted(tx, made, touch=touch)


async def _is_wanted(tx: Transaction, made: Image | Model, *, touch: bool) -> bool:
    if isinstance(made, Image):
        if touch:
            return await tx.images.change(made, {}) is not None
        states = await tx.images.states_of([made.id])
    else:
        if touch:
            return await tx.models.change(made, {}) is not None
        states = await tx.models.states_of([made.id])
    return states.get(made.id) == made.state.value
