"""Nodes, for programs: see them, label and taint them, and say whether they take work. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from skerry.client import flows, parse
from skerry.client.calls import nodes as calls

if TYPE_CHECKING:
    from skerry.client.transport import Transport
    from skerry.model.node import Node, NodeWithUse


class Nodes:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, ref: str) -> NodeWithUse:
        return self._transport.send(calls.get(ref))

    def list(self, labels: Mapping[str, str] | None = None) -> list[NodeWithUse]:
        items = self._transport.run(flows.gather(lambda token: calls.list_page(labels=labels, page_token=token)))
        return [parse.node_with_use(item) for item in items]

    def label(self, ref: str, labels: Mapping[str, str | None]) -> Node:
        """Only those that are named change; None takes one away."""
        return self._transport.send(calls.update(ref, labels=labels))

    def taint(self, ref: str, taints: Mapping[str, str | None]) -> Node:
        """Likewise. Only work that tolerates them all is placed there from now on; what is there stays."""
        return self._transport.send(calls.update(ref, taints=taints))

    def cordon(self, ref: str) -> Node:
        """Nothing more is placed there."""
        return self._transport.send(calls.act(ref, "cordon"))

    def uncordon(self, ref: str) -> Node:
        """It takes work again, and is drained no longer."""
        return self._transport.send(calls.act(ref, "uncordon"))

    def drain(self, ref: str) -> Node:
        """Cordons it and has what is there moved or stopped; `get(ref).running` counts what is left."""
        return self._transport.send(calls.act(ref, "drain"))
