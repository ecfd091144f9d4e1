"""`Client`: one server, and everything on it, for programs. Blocking."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from skerry.client import flows, target
from skerry.client.calls import cloud
from skerry.client.calls import sandboxes as calls
from skerry.client.calls.sandboxes import SpecOptions
from skerry.client.cloud import Events, Images, Keys, Nodes, Operations
from skerry.client.flows import TIMEOUT_S
from skerry.client.networks import Networks
from skerry.client.sandbox import Sandbox
from skerry.client.transport import Transport

if TYPE_CHECKING:
    from skerry.model.sandbox import Sandbox as Record


class Client:
    """Finds its server by arguments, SKERRY_ADDRESS and SKERRY_KEY, the current context, else this machine."""

    def __init__(
        self,
        address: str | None = None,
        key: str | None = None,
        project: str | None = None,
        *,
        context: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.transport = Transport(target.resolve(address, key, project, context=context, environ=environ))
        self.sandboxes = Sandboxes(self)
        self.images = Images(self.transport)
        self.keys = Keys(self.transport)
        self.networks = Networks(self.transport)
        self.nodes = Nodes(self.transport)
        self.operations = Operations(self.transport)
        self.events = Events(self.transport)

    def info(self) -> dict[str, Any]:
        """Version and abilities of the server."""
        return self.transport.json(cloud.info())

    def close(self) -> None:
        self.transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Sandboxes:
    def __init__(self, client: Client) -> None:
        self._client = client

    def create(
        self, image: str, *, wait: bool = True, timeout_s: float = TIMEOUT_S, **options: Unpack[SpecOptions]
    ) -> Sandbox:
        """Make one; with `wait`, return when it runs."""
        body = calls.spec_body(image, options)
        transport = self._client.transport
        if not wait:
            return Sandbox(self._client, transport.send(calls.create(body)))
        call = calls.create(body)
        record = transport.run(
            flows.settle(
                lambda wait_s: calls.create(body, wait_s), lambda found: calls.get(found["id"]), timeout_s=timeout_s
            )
        )
        return Sandbox(self._client, call.parse(record))

    def connect(self, ref: str) -> Sandbox:
        return Sandbox(self._client, self.get(ref))

    def get(self, ref: str) -> Record:
        return self._client.transport.send(calls.get(ref))

    def list(
        self,
        *,
        state: str | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        image: str | None = None,
        parent: str | None = None,
    ) -> list[Sandbox]:
        """Those that match all of what is given; `name` is a prefix."""
        from skerry.client import parse

        items = self._client.transport.run(
            flows.gather(
                lambda token: calls.list_page(
                    state=state,
                    labels=labels,
                    name=name,
                    image=image,
                    parent=parent,
                    limit=flows.PAGE_ITEMS,
                    page_token=token,
                )
            )
        )
        return [Sandbox(self._client, parse.sandbox(item)) for item in items]
