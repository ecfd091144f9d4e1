"""Nodes, for programs: see them, label and taint them, and say whether they take work. For asyncio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from skerry.client import flows, parse
from skerry.client.calls import nodes as calls

if TYPE_CHECKING:
    from skerry.client.transport_async import AsyncTransport
    from skerry.model.node import Node, NodeWithUse


class AsyncNodes:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def get(self, ref: str) -> NodeWithUse:
        return await self._transport.send(calls.get(ref))

    async def list(self, labels: Mapping[str, str] | None = None) -> list[NodeWithUse]:
        items = await self._transport.run(flows.gather(lambda token: calls.list_page(labels=labels, page_token=token)))
        return [parse.node_with_use(item) for item in items]

    async def label(self, ref: str, labels: Mapping[str, str | None]) -> Node:
        """Only those that are named change; None takes one away."""
        return await self._transport.send(calls.update(ref, labels=labels))

    async def taint(self, ref: str, taints: Mapping[str, str | None]) -> Node:
        """Likewise. Only work that tolerates them all is placed there from now on; what is there stays."""
        return await self._transport.send(calls.update(ref, taints=taints))

    async def cordon(self, ref: str) -> Node:
        """Nothing more is placed there."""
        return await self._transport.send(calls.act(ref, "cordon"))

    async def uncordon(self, ref: str) -> Node:
        """It takes work again, and is drained no longer."""
        return await self._transport.send(calls.act(ref, "uncordon"))

    async def drain(self, ref: str) -> Node:
        """Cordons it and has what is there moved or stopped; `get(ref).running` counts what is left."""
        return await self._transport.send(calls.act(ref, "drain"))
