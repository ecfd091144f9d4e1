"""`AsyncClient`: one server, and everything on it, for programs. On asyncio."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from skerry.client import flows, target
from skerry.client.archive import file_chunks
from skerry.client.calls import archives, cloud
from skerry.client.calls import sandboxes as calls
from skerry.client.calls.sandboxes import SpecOptions
from skerry.client.cloud_async import AsyncEvents, AsyncImages, AsyncKeys, AsyncOperations
from skerry.client.flows import TIMEOUT_S
from skerry.client.jobs_async import AsyncJobs
from skerry.client.models_async import AsyncModels
from skerry.client.networks_async import AsyncNetworks
from skerry.client.nodes_async import AsyncNodes
from skerry.client.queues_async import AsyncQueues
from skerry.client.sandbox_async import AsyncSandbox
from skerry.client.secrets_async import AsyncSecrets
from skerry.client.services_async import AsyncServices, AsyncTokens
from skerry.client.transport_async import AsyncTransport
from skerry.client.volumes_async import AsyncVolumes

if TYPE_CHECKING:
    from skerry.model.explanation import Explanation
    from skerry.model.sandbox import Sandbox as Record
    from skerry.model.usage import Usage


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
        self.volumes = AsyncVolumes(self.transport)
        self.models = AsyncModels(self.transport)
        self.secrets = AsyncSecrets(self.transport)
        self.jobs = AsyncJobs(self.transport)
        self.services = AsyncServices(self.transport)
        self.tokens = AsyncTokens(self.transport)
        self.queues = AsyncQueues(self.transport)
        self.nodes = AsyncNodes(self.transport)
        self.operations = AsyncOperations(self.transport)
        self.events = AsyncEvents(self.transport)

    async def explain(self, ref: str) -> Explanation:
        """Why a sandbox, a job or a service waits, or is where it is; of a service also why it is as it is."""
        return await self.transport.send(cloud.explain(ref))

    async def usage(self, by: str = "project", since: str | None = None, project: str | None = None) -> Usage:
        """Hours of cores, memory and accelerators. `by`: project, user, queue or job; `since` None: 30 days ago."""
        return await self.transport.send(cloud.usage(by, since, project))

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

    async def import_(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        start: bool | None = None,
        drop: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> AsyncSandbox:
        """The sandbox of an archive that `export` wrote, with its checkpoints. `start` None: as it was. `drop`: fields
        of its spec to leave behind, of ports, mounts, networks and secrets. Once it is made, `timeout_s` to start."""
        call = archives.import_(file_chunks(Path(path)), name, start=start, drop=drop)
        record = await self._client.transport.run(
            flows.settle(lambda _: call, lambda found: calls.get(found["id"]), timeout_s=timeout_s)
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
