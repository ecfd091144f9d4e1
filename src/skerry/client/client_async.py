"""`AsyncClient`: one server, and everything on it, for programs. On asyncio."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from skerry.client import flows, target
from skerry.client.calls import cloud
from skerry.client.calls import sandboxes as calls
from skerry.client.calls.sandboxes import SpecOptions
from skerry.client.cloud_async import AsyncEvents, AsyncImages, AsyncKeys, AsyncNodes, AsyncOperations
from skerry.client.flows import TIMEOUT_S
from skerry.client.networks_async import AsyncNetworks
from skerry.client.sandbox_async import AsyncSandbox
from skerry.client.transport_async import AsyncTransport

if TYPE_CHECKING:
    from skerry.model.sandbox import Sandbox as Record


class AsyncClient:
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
        self.transport = AsyncTransport(target.resolve(address, key, project, context=context, environ=environ))
        self.sandboxes = AsyncSandboxes(self)
        self.images = AsyncImages(self.transport)
        self.keys = AsyncKeys(self.transport)
        self.networks = AsyncNetworks(self.transport)
        self.nodes = AsyncNodes(self.transport)
        self.operations = AsyncOperations(self.transport)
        self.events = AsyncEvents(self.transport)

    async def info(self) -> dict[str, Any]:
        """Version and abilities of the server."""
        return await self.transport.json(cloud.info())

    async def close(self) -> None:
        await self.transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncSandboxes:
    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create(
        self, image: str, *, wait: bool = True, timeout_s: float = TIMEOUT_S, **options: Unpack[SpecOptions]
    ) -> AsyncSandbox:
        """Make one; with `wait`, return when it runs."""
        body = calls.spec_body(image, options)
        transport = self._client.transport
        if not wait:
            return AsyncSandbox(self._client, await transport.send(calls.create(body)))
        call = calls.create(body)
        record = await transport.run(
            flows.settle(
                lambda wait_s: calls.create(body, wait_s), lambda found: calls.get(found["id"]), timeout_s=timeout_s
            )
        )
        return AsyncSandbox(self._client, call.parse(record))

    async def connect(self, ref: str) -> AsyncSandbox:
        return AsyncSandbox(self._client, await self.get(ref))

    async def get(self, ref: str) -> Record:
        return await self._client.transport.send(calls.get(ref))

    async def list(
        self,
        *,
        state: str | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        image: str | None = None,
        parent: str | None = None,
    ) -> list[AsyncSandbox]:
        """Those that match all of what is given; `name` is a prefix."""
        from skerry.client import parse

        items = await self._client.transport.run(
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
        return [AsyncSandbox(self._client, parse.sandbox(item)) for item in items]
