"""A client's body on its way to the agent. It remembers how it broke: aiohttp would wrap that beyond recognition."""

from __future__ import annotations

from collections.abc import AsyncIterator


class Noticed:
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.broke: Exception | None = None

    async def begun(self) -> AsyncIterator[bytes]:
        """Once there is something. aiohttp holds a request's head back until then, and the agent, which hears nothing,
        takes the connection for idle and closes it: a client that exports from elsewhere begins late."""
        try:
            first = await anext(self._chunks, b"")
        except Exception as error:
            self.broke = error
            raise
        return self._all(first)

    async def _all(self, first: bytes) -> AsyncIterator[bytes]:
        yield first
        try:
            async for chunk in self._chunks:
                yield chunk
        except Exception as error:
            self.broke = error
            raise
