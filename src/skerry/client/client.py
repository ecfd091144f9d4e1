"""`Client`: one server, and everything on it, for programs. Blocking."""

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
from skerry.client.cloud import Events, Images, Keys, Operations
from skerry.client.flows import TIMEOUT_S
from skerry.client.jobs import Jobs
from skerry.client.models import Models
from skerry.client.networks import Networks
from skerry.client.nodes import Nodes
from skerry.client.queues import Queues
from skerry.client.sandbox import Sandbox
from skerry.client.secrets import Secrets
from skerry.client.services import Services, Tokens
from skerry.client.transport import Transport
from skerry.client.volumes import Volumes

if TYPE_CHECKING:
    from skerry.model.explanation import Explanation
    from skerry.model.sandbox import Sandbox as Record
    from skerry.model.usage import Usage


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
        self.volumes = Volumes(self.transport)
        self.models = Models(self.transport)
        self.secrets = Secrets(self.transport)
        self.jobs = Jobs(self.transport)
        self.services = Services(self.transport)
        self.tokens = Tokens(self.transport)
        self.queues = Queues(self.transport)
        self.nodes = Nodes(self.transport)
        self.operations = Operations(self.transport)
        self.events = Events(self.transport)

    def explain(self, ref: str) -> Explanation:
        """Why a sandbox, a job or a service waits, or is where it is; of a service also why it is as it is."""
        return self.transport.send(cloud.explain(ref))

    def usage(self, by: str = "project", since: str | None = None, project: str | None = None) -> Usage:
        """Hours of cores, memory and accelerators. `by`: project, user, queue or job; `since` None: 30 days ago."""
        return self.transport.send(cloud.usage(by, since, project))

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

    def import_(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        start: bool | None = None,
        drop: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> Sandbox:
        """The sandbox of an archive that `export` wrote, with its checkpoints. `start` None: as it was. `drop`: fields
        of its spec to leave behind, of ports, mounts, networks and secrets. Once it is made, `timeout_s` to start."""
        call = archives.import_(file_chunks(Path(path)), name, start=start, drop=drop)
        record = self._client.transport.run(
            flows.settle(lambda _: call, lambda found: calls.get(found["id"]), timeout_s=timeout_s)
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
