"""Private networks, for programs: make one, see who is in it, delete it. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from skerry.client import flows, parse
from skerry.client.calls import networks as calls

if TYPE_CHECKING:
    from skerry.client.transport import Transport
    from skerry.model.network import NetworkWithMembers, PrivateNetwork


class Networks:
    """A sandbox joins by its spec, `networks=["backend"]`, or `Sandbox.update`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, name: str, subnet: str, *, internal: bool = False, labels: Mapping[str, str] | None = None
    ) -> PrivateNetwork:
        """`internal`: sandboxes that are in internal networks only have no way outside."""
        return self._transport.send(calls.create(name, subnet, internal=internal, labels=labels))

    def get(self, ref: str) -> NetworkWithMembers:
        return self._transport.send(calls.get(ref))

    def list(self, labels: Mapping[str, str] | None = None) -> list[PrivateNetwork]:
        items = self._transport.run(flows.gather(lambda token: calls.list_page(labels=labels, page_token=token)))
        return [parse.network(item) for item in items]

    def delete(self, ref: str) -> None:
        """Raises InUse while a sandbox is in it."""
        self._transport.json(calls.delete(ref))
