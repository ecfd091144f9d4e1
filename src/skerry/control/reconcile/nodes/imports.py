"""Tell a machine what becomes of imports whose control program died before it could."""

from __future__ import annotations

from typing import ClassVar

from skerry.control.importing import Importing
from skerry.model.sandbox import S


class SettleImports:
    moves: ClassVar[frozenset[tuple[S, S]]] = frozenset()
    """Written down or not: an import moves nothing."""

    def __init__(self, importing: Importing) -> None:
        self._importing = importing

    async def step(self) -> None:
        await self._importing.settle()
