"""The same request to a second replica, when the first has not begun to answer after a while: whoever begins first
answers, and the other one is cancelled."""

from __future__ import annotations

import asyncio
from typing import Protocol

from skerry.errors import SkerryError
from skerry.gateway.services.answer import AnswerHead
from skerry.gateway.services.replica import Replica
from skerry.gateway.services.upstream import Upstream

UNWELL = 500


class Owner(Protocol):
    """The request."""

    plain: bool

    def hedge_won(self, hedge: Hedge, head: AnswerHead, data: bytes, over: bool) -> None: ...
    def hedge_lost(self, hedge: Hedge) -> None:
        """It will not answer."""
        ...


class Hedge:
    """Told by the second connection; whatever goes wrong here is nobody's trouble but its own."""

    owed = 0
    """Not counted at its replica before it has won."""

    def __init__(self, owner: Owner, replica: Replica, sent: bytes, timeout_s: float) -> None:
        self.replica = replica
        self.plain = owner.plain
        self.upstream: Upstream | None = None
        self._owner = owner
        self._sent = sent
        loop = asyncio.get_running_loop()
        self.began_s = loop.time()
        self._task = loop.create_task(self._begin(timeout_s))

    async def _begin(self, timeout_s: float) -> None:
        try:
            self.upstream = self.replica.take() or await self.replica.connect(timeout_s)
        except (OSError, TimeoutError, SkerryError):
            self._owner.hedge_lost(self)
            return
        self.upstream.send(self, self._sent)

    def cancel(self) -> None:
        self._task.cancel()
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abort()

    def on_head(self, head: AnswerHead, data: bytes, over: bool) -> None:
        if head.status >= UNWELL:
            if over:
                self.upstream = None
            self.cancel()
            self._owner.hedge_lost(self)
        else:
            self._owner.hedge_won(self, head, data, over)

    def on_part(self, data: bytes, over: bool) -> None:
        raise AssertionError("the request listens itself once its hedge has won")

    def on_broken(self, because: str) -> None:
        self.upstream = None
        self._owner.hedge_lost(self)

    def on_full(self, full: bool) -> None: ...
