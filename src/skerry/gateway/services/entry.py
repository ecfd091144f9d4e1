"""What a request of plain HTTP takes of its token's limits: one of those of a minute, and one of those at once until it
is over. It uses no tokens of a model."""

from __future__ import annotations

import asyncio

from skerry.errors import SkerryError
from skerry.gateway.services.allowance import Allowance


class Entry:
    tokens_expected = 0

    def __init__(self, allowance: Allowance) -> None:
        self.over = False
        self.reserved = 0
        self._allowance = allowance
        self._is_in = False
        self._told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def enter(self) -> None:
        """Raises LimitReached, Unavailable."""
        self._allowance.enter(self)
        try:
            await self._told
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        self.over = True
        if self._is_in:
            self._is_in = False
            self._allowance.leave(self, 0)

    # Told by what its token may

    def allowed(self) -> None:
        self._is_in = True
        if not self._told.done():
            self._told.set_result(None)

    def refused(self, error: SkerryError) -> None:
        if not self._told.done():
            self._told.set_exception(error)
