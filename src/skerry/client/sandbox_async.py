"""`AsyncSandbox`: one sandbox, to be driven by a program. On asyncio.

async with await AsyncSandbox.create("debian:12") as sandbox:
    await sandbox.commands.run("apt-get install -y jq", check=True)
    safe = await sandbox.checkpoint("jq is in")
    await sandbox.commands.run("rm -rf /usr")
    await sandbox.restore(safe)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from skerry.client import flows, parse
from skerry.client.archive import whole_file
from skerry.client.call import Call
from skerry.client.calls import archives, cloud
from skerry.client.calls import checkpoints as checkpoint_calls
from skerry.client.calls import ports as port_calls
from skerry.client.calls import sandboxes as calls
from skerry.client.calls import sleep as sleep_calls
from skerry.client.calls import ssh as ssh_calls
from skerry.client.calls import urls as url_calls
from skerry.client.calls.sandboxes import SpecOptions
from skerry.client.commands_async import AsyncCommands
from skerry.client.files_async import AsyncCheckpointFiles, AsyncFiles
from skerry.client.flows import TIMEOUT_S
from skerry.client.guest_services_async import AsyncGuestServices
from skerry.client.policy_async import AsyncSandboxPolicy
from skerry.client.sandbox import checkpoint_ref
from skerry.errors import NotFound

if TYPE_CHECKING:
    from skerry.client.client_async import AsyncClient
    from skerry.client.forward_async import AsyncForward
    from skerry.model.checkpoint import Checkpoint, Diff
    from skerry.model.event import Event
    from skerry.model.image import Image
    from skerry.model.port import ListeningPort, PortState, PublishedPort
    from skerry.model.sandbox import S
    from skerry.model.sandbox import Sandbox as Record
    from skerry.model.sleep import Activity, Lease
    from skerry.model.ssh import SshAccess, SshGrant
    from skerry.model.stats import Stats


class AsyncSandbox:
    """Made by `create`, `connect`, `list` and `fork`. Leaving its `async with` block deletes the sandbox."""

    def __init__(self, client: AsyncClient, record: Record, *, owns_client: bool = False) -> None:
        self.client = client
        self.id = record.id
        self.commands = AsyncCommands(client.transport, record.id)
        self.files = AsyncFiles(client.transport, calls.path(record.id))
        self.policy = AsyncSandboxPolicy(client.transport, record.id)
        self.services = AsyncGuestServices(client.transport, record.id)
        self._record = record
        self._owns_client = owns_client

    @classmethod
    async def create(
        cls,
        image: str,
        *,
        client: AsyncClient | None = None,
        wait: bool = True,
        timeout_s: float = TIMEOUT_S,
        **options: Unpack[SpecOptions],
    ) -> AsyncSandbox:
        """Make one and wait until it runs. Without `client`, talk to where the environment or context says."""
        own = _own(client)
        try:
            made = await own.sandboxes.create(image, wait=wait, timeout_s=timeout_s, **options)
        except BaseException:
            await _close_unless(client, own)
            raise
        return made._owning(client is None)

    @classmethod
    async def import_(
        cls,
        path: str | Path,
        *,
        client: AsyncClient | None = None,
        name: str | None = None,
        start: bool | None = None,
        drop: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> AsyncSandbox:
        """The sandbox of an archive; see `AsyncSandboxes.import_`."""
        own = _own(client)
        try:
            made = await own.sandboxes.import_(path, name=name, start=start, drop=drop, timeout_s=timeout_s)
        except BaseException:
            await _close_unless(client, own)
            raise
        return made._owning(client is None)

    @classmethod
    async def connect(cls, ref: str, *, client: AsyncClient | None = None) -> AsyncSandbox:
        """The sandbox with this name, id or unique beginning of an id."""
        own = _own(client)
        try:
            found = await own.sandboxes.connect(ref)
        except BaseException:
            await _close_unless(client, own)
            raise
        return found._owning(client is None)

    @classmethod
    async def list(
        cls,
        *,
        client: AsyncClient | None = None,
        state: str | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        image: str | None = None,
        parent: str | None = None,
    ) -> list[AsyncSandbox]:
        """Those that match all of what is given; `name` is a prefix. Without `client` they share one: close it."""
        own = _own(client)
        return await own.sandboxes.list(state=state, labels=labels, name=name, image=image, parent=parent)

    @property
    def name(self) -> str:
        return self._record.name

    @property
    async def state(self) -> S:
        """As it is now; asks the server."""
        return (await self.info()).state

    async def info(self) -> Record:
        """The whole record, as it is now."""
        return self._keep(await self._send(calls.get(self.id)))

    async def start(self, *, timeout_s: float = TIMEOUT_S) -> None:
        await self._settle(lambda wait_s: calls.start(self.id, wait_s), timeout_s)

    async def wait(self, until: str, *, timeout_s: float = TIMEOUT_S) -> Record:
        """Until it is `running`, `healthy` or `stopped`. Raises Failed when it can become so no more by itself."""
        body = await self._run(
            flows.reach(lambda wait_s: calls.wait(self.id, until, wait_s), until, timeout_s=timeout_s)
        )
        return self._keep(parse.sandbox(body))

    async def stop(self, *, grace_s: float | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """End its processes; the disk stays. `grace_s` is given to the main process to end by itself."""
        await self._settle(lambda wait_s: calls.stop(self.id, grace_s, wait_s), timeout_s)

    async def delete(self, *, force: bool = False, timeout_s: float = TIMEOUT_S) -> None:
        """It is gone for good, with its checkpoints. `force`: also when protected."""
        await self._run(flows.settle(lambda wait_s: calls.delete(self.id, force, wait_s), timeout_s=timeout_s))
        if self._owns_client:
            await self.client.close()

    async def update(
        self,
        *,
        reload: bool = False,
        grace_s: float | None = None,
        timeout_s: float = TIMEOUT_S,
        **change: Unpack[SpecOptions],
    ) -> Record:
        """Change what is given, in the words of `create`; lists and mappings take the place of all that was. None
        means the default again for command, user, workdir, hostname and the idle times. What takes a restart raises
        RestartNeeded while it runs, or with `reload` stops it and starts it again."""
        body = calls.update_body(change)
        flow = flows.update(self.id, body, reload_too=reload, grace_s=grace_s, timeout_s=timeout_s)
        return self._keep(parse.sandbox(await self._run(flow)))

    async def reload(self, *, grace_s: float | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """Stop it and start it again: the disk stays, processes begin anew."""
        self._keep(parse.sandbox(await self._run(flows.reload(self.id, grace_s=grace_s, timeout_s=timeout_s))))

    async def sleep(self, *, cold: bool = False, force: bool = False) -> None:
        """Freeze it, or with `cold` stop it, until somebody wants it. `force`: also while something keeps it awake."""
        self._keep(await self._send(sleep_calls.sleep(self.id, cold=cold, force=force)))

    async def wake(self) -> None:
        """Whoever runs a command or touches a file wakes it anyway."""
        self._keep(await self._send(sleep_calls.wake(self.id)))

    async def keep_awake(self, for_s: float | None = None, note: str = "") -> Lease:
        """A lease: until it runs out or is ended, the sandbox does not fall asleep. None: ten minutes."""
        return await self._send(sleep_calls.keep_awake(self.id, for_s, note))

    async def end_lease(self, lease: Lease | str) -> None:
        await self._send(sleep_calls.end_lease(self.id, lease if isinstance(lease, str) else lease.id))

    async def activity(self) -> Activity:
        """Why it is awake, what woke it last, when it falls asleep."""
        return await self._send(sleep_calls.activity(self.id))

    async def publish(self, port: str | Mapping[str, Any]) -> PublishedPort:
        """On the server: text such as 8080:80, or 80 for a free port of it. Raises InUse."""
        body = port_calls.port_from_text(port) if isinstance(port, str) else dict(port)
        return await self._send(port_calls.add(self.id, body))

    async def unpublish(self, host: int, *, protocol: str = "tcp", ip: str | None = None) -> list[PublishedPort]:
        """By the port of the server. None: on every address of it."""
        return await self._send(port_calls.remove(self.id, host, protocol=protocol, ip=ip))

    async def ports(self) -> list[PortState]:
        """What is published, and how it is used."""
        return await self._send(port_calls.list_all(self.id))

    async def listening(self) -> list[ListeningPort]:
        """Where its programs listen now."""
        return await self._send(port_calls.listening(self.id))

    async def forward(self, remote: int, local: int = 0, *, address: str = "127.0.0.1") -> AsyncForward:
        """A port of this machine that leads to `remote` in the sandbox, until it is closed. `local` 0: a free one."""
        from skerry.client.forward_async import begin

        path = port_calls.connect_path(self.id, remote)
        return await begin(self.client.transport, path, port=local, address=address)

    async def url(self, port: int, expires_s: float | None = None) -> str:
        """Where `port` of it is reached over HTTP. A private sandbox asks for a key there; with `expires_s` the URL
        opens it by itself for so long, at most 30 days."""
        call = url_calls.get(self.id, port) if expires_s is None else url_calls.sign(self.id, port, expires_s)
        return (await self._send(call)).url

    async def ssh_access(self) -> SshAccess:
        """Where SSH leads in, and which keys do."""
        return await self._send(ssh_calls.access(self.id))

    async def ssh_key(self, for_s: float | None = None) -> SshGrant:
        """A new key for SSH, told this once. None: for thirty days."""
        return await self._send(ssh_calls.grant(self.id, for_s))

    async def revoke_ssh(self) -> None:
        """No key opens it any more, and who came in by one is out."""
        await self._send(ssh_calls.revoke(self.id))

    async def checkpoint(self, comment: str = "", *, timeout_s: float = TIMEOUT_S) -> Checkpoint:
        """Keep the disk as it is now; takes milliseconds whatever its size. Memory is not part of it."""
        body = await self._run(
            flows.settle(
                lambda wait_s: checkpoint_calls.create(self.id, comment, wait_s),
                lambda body: checkpoint_calls.get(self.id, body["id"]),
                timeout_s=timeout_s,
            )
        )
        return parse.checkpoint(body)

    async def checkpoints(self) -> list[Checkpoint]:
        items = await self._run(flows.gather(lambda token: checkpoint_calls.list_page(self.id, page_token=token)))
        return [parse.checkpoint(item) for item in items]

    async def checkpoint_files(self, checkpoint: Checkpoint | str | int) -> AsyncCheckpointFiles:
        """Look into a checkpoint without restoring it."""
        return AsyncCheckpointFiles(self.client.transport, checkpoint_calls.path(self.id, checkpoint_ref(checkpoint)))

    async def delete_checkpoint(self, checkpoint: Checkpoint | str | int, *, timeout_s: float = TIMEOUT_S) -> None:
        ref = checkpoint_ref(checkpoint)
        await self._run(flows.settle(lambda wait_s: checkpoint_calls.delete(self.id, ref, wait_s), timeout_s=timeout_s))

    async def restore(self, checkpoint: Checkpoint | str | int, *, timeout_s: float = TIMEOUT_S) -> None:
        """Go back: same id, name and address, the disk of then, processes started anew."""
        ref = checkpoint_ref(checkpoint)
        await self._settle(lambda wait_s: calls.restore(self.id, ref, wait_s), timeout_s)

    async def fork(
        self,
        count: int = 1,
        *,
        checkpoint: Checkpoint | str | int | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> list[AsyncSandbox]:
        """New sandboxes that begin with this one's disk, or with that of one of its checkpoints."""
        ref = None if checkpoint is None else checkpoint_ref(checkpoint)
        body = await self._run(
            flows.settle_all(
                lambda wait_s: calls.fork(self.id, count, checkpoint=ref, name=name, labels=labels, wait_s=wait_s),
                calls.get,
                timeout_s=timeout_s,
            )
        )
        return [AsyncSandbox(self.client, parse.sandbox(item)) for item in body]

    async def diff(self, a: Checkpoint | str | int, b: Checkpoint | str | int | None = None) -> Diff:
        """Paths that changed from checkpoint `a` to checkpoint `b`, or to the disk as it is now."""
        to = None if b is None else checkpoint_ref(b)
        return await self._send(checkpoint_calls.diff(self.id, checkpoint_ref(a), to))

    async def commit(self, image: str, *, timeout_s: float = TIMEOUT_S) -> Image:
        """Make an image of the disk as it is now."""
        from skerry.client.calls import images

        make = flows.settle(
            lambda wait_s: calls.commit(self.id, image, wait_s),
            lambda body: images.get(body["id"]),
            timeout_s=timeout_s,
        )
        return parse.image(await self._run(make))

    async def export(self, path: str | Path) -> int:
        """Write it with its checkpoints to a file, as it is now, while it goes on; returns the file's size in bytes."""
        size_bytes = 0
        async with await self.client.transport.stream(archives.export(self.id)) as stream:
            with whole_file(Path(path)) as file:
                async for chunk in stream:
                    size_bytes += file.write(chunk)
        return size_bytes

    async def logs(self, tail: int | None = None) -> str:
        """What its main process printed."""
        async with await self.client.transport.stream(calls.logs(self.id, tail=tail)) as stream:
            return b"".join([chunk async for chunk in stream]).decode(errors="replace")

    async def follow_logs(self, tail: int | None = None) -> AsyncIterator[str]:
        """The same, and on as it is printed."""
        import codecs

        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async with await self.client.transport.stream(calls.logs(self.id, follow=True, tail=tail)) as stream:
            async for chunk in stream:
                yield decoder.decode(chunk)

    async def stats(self) -> Stats:
        return await self._send(calls.stats(self.id))

    async def events(self) -> list[Event]:
        """Its history, oldest first."""
        items = await self._run(flows.gather(lambda token: cloud.events(target=self.id, page_token=token)))
        return [parse.event(item) for item in items]

    async def __aenter__(self) -> AsyncSandbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.delete()
        except NotFound:
            pass

    def __repr__(self) -> str:
        return f"<AsyncSandbox {self.name} {self.id}>"

    def _owning(self, owns_client: bool) -> AsyncSandbox:
        self._owns_client = owns_client
        return self

    async def _send(self, call: Any) -> Any:
        return await self.client.transport.send(call)

    async def _run(self, flow: flows.Flow[Any]) -> Any:
        return await self.client.transport.run(flow)

    async def _settle(self, make: Callable[[float], Call[Any]], timeout_s: float) -> None:
        body = await self._run(flows.settle(make, lambda body: calls.get(self.id), timeout_s=timeout_s))
        self._keep(parse.sandbox(body))

    def _keep(self, record: Record) -> Record:
        self._record = record
        return record


def _own(client: AsyncClient | None) -> AsyncClient:
    from skerry.client.client_async import AsyncClient

    return client or AsyncClient()


async def _close_unless(given: AsyncClient | None, own: AsyncClient) -> None:
    if given is None:
        await own.close()
