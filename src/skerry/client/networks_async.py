"""Private networks, for programs: make one, see who is in it, delete it. For asyncio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from skerry.client import flows, parse
from skerry.client.calls import networks as calls

if TYPE_CHECKING:
    from skerry.client.transport_async import AsyncTransport
    from skerry.model.network import NetworkWithMembers, PrivateNetwork


class AsyncNetworks:
    """A sandbox joins by its spec, `networks=["backend"]`, or `AsyncSandbox.update`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self, name: str, subnet: str, *, internal: bool = False, labels: Mapping[str, str] | None = None
    ) -> PrivateNetwork:
        """`internal`: sandboxes that are in internal networks only have no way outside."""
        return await self._transport.send(calls.create(name, subnet, internal=internal, labels=labels))

    async def get(self, ref: str) -> NetworkWithMembers:
        return await self._transport.send(calls.get(ref))

    async def list(self, labels: Mapping[str, str] | None = None) -> list[PrivateNetwork]:
        items = await self._transport.run(flows.gather(lambda token: calls.list_page(labels=labels, page_token=token)))
        return [parse.network(item) for item in items]

    async def delete(self, ref: str) -> None:
        """Raises InUse while a sandbox is in it."""
        await self._transport.json(calls.delete(ref))
