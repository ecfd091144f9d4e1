"""`sandbox.services`: commands that are kept running in a sandbox. On asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Unpack

from skerry.client.calls import guest_services as calls
from skerry.client.calls.guest_services import GuestServiceOptions
from skerry.client.transport_async import AsyncTransport

if TYPE_CHECKING:
    from skerry.model.guest_service import GuestService


class AsyncGuestServices:
    def __init__(self, transport: AsyncTransport, sandbox_id: str) -> None:
        self._transport = transport
        self._id = sandbox_id

    async def list(self) -> list[GuestService]:
        return await self._transport.send(calls.list_all(self._id))

    async def add(
        self, name: str, command: str | Sequence[str], **options: Unpack[GuestServiceOptions]
    ) -> GuestService:
        """Add one, or change the one of this name; it starts as soon as what it needs is healthy."""
        return await self._transport.send(calls.put(self._id, name, calls.body_of(command, options)))

    async def remove(self, name: str) -> None:
        await self._transport.send(calls.remove(self._id, name))

    async def start(self, name: str) -> GuestService:
        """And whatever it needs."""
        return await self._transport.send(calls.act(self._id, name, "start"))

    async def stop(self, name: str) -> GuestService:
        """Until it is started by hand, by a connection to its port, or with its sandbox."""
        return await self._transport.send(calls.act(self._id, name, "stop"))

    async def restart(self, name: str) -> GuestService:
        return await self._transport.send(calls.act(self._id, name, "restart"))

    async def logs(self, name: str, tail: int | None = None) -> str:
        async with await self._transport.stream(calls.logs(self._id, name, tail=tail)) as stream:
            return b"".join([chunk async for chunk in stream]).decode(errors="replace")

    async def follow_logs(self, name: str, tail: int | None = None) -> AsyncIterator[str]:
        """The same, and on as it is printed."""
        import codecs

        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async with await self._transport.stream(calls.logs(self._id, name, follow=True, tail=tail)) as stream:
            async for chunk in stream:
                yield decoder.decode(chunk)
