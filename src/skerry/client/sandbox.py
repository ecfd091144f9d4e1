"""`Sandbox`: one sandbox, to be driven by a program. Blocking.

with Sandbox.create("debian:12") as sandbox:
    sandbox.commands.run("apt-get install -y jq", check=True)
    safe = sandbox.checkpoint("jq is in")
    sandbox.commands.run("rm -rf /usr")
    sandbox.restore(safe)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from skerry.client.commands import Commands
from skerry.client.files import CheckpointFiles, Files
from skerry.client.flows import TIMEOUT_S
from skerry.client.guest_services import GuestServices
from skerry.client.policy import SandboxPolicy
from skerry.errors import NotFound

if TYPE_CHECKING:
    from skerry.client.client import Client
    from skerry.client.forward import Forward
    from skerry.model.checkpoint import Checkpoint, Diff
    from skerry.model.event import Event
    from skerry.model.image import Image
    from skerry.model.port import ListeningPort, PortState, PublishedPort
    from skerry.model.sandbox import S
    from skerry.model.sandbox import Sandbox as Record
    from skerry.model.sleep import Activity, Lease
    from skerry.model.ssh import SshAccess, SshGrant
    from skerry.model.stats import Stats


class Sandbox:
    """Made by `create`, `connect`, `list` and `fork`. Leaving its `with` block deletes the sandbox."""

    def __init__(self, client: Client, record: Record, *, owns_client: bool = False) -> None:
        self.client = client
        self.id = record.id
        self.commands = Commands(client.transport, record.id)
        self.files = Files(client.transport, calls.path(record.id))
        self.policy = SandboxPolicy(client.transport, record.id)
        self.services = GuestServices(client.transport, record.id)
        self._record = record
        self._owns_client = owns_client

    @classmethod
    def create(
        cls,
        image: str,
        *,
        client: Client | None = None,
        wait: bool = True,
        timeout_s: float = TIMEOUT_S,
        **options: Unpack[SpecOptions],
    ) -> Sandbox:
        """Make one and wait until it runs. Without `client`, talk to where the environment or context says."""
        return _own(client).sandboxes.create(image, wait=wait, timeout_s=timeout_s, **options)._owning(client is None)

    @classmethod
    def import_(
        cls,
        path: str | Path,
        *,
        client: Client | None = None,
        name: str | None = None,
        start: bool | None = None,
        drop: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> Sandbox:
        """The sandbox of an archive; see `Sandboxes.import_`."""
        made = _own(client).sandboxes.import_(path, name=name, start=start, drop=drop, timeout_s=timeout_s)
        return made._owning(client is None)

    @classmethod
    def connect(cls, ref: str, *, client: Client | None = None) -> Sandbox:
        """The sandbox with this name, id or unique beginning of an id."""
        return _own(client).sandboxes.connect(ref)._owning(client is None)

    @classmethod
    def list(
        cls,
        *,
        client: Client | None = None,
        state: str | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        image: str | None = None,
        parent: str | None = None,
    ) -> list[Sandbox]:
        """Those that match all of what is given; `name` is a prefix."""
        own = _own(client)
        return own.sandboxes.list(state=state, labels=labels, name=name, image=image, parent=parent)

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def state(self) -> S:
        """As it is now; asks the server."""
        return self.info().state

    def info(self) -> Record:
        """The whole record, as it is now."""
        return self._keep(self._send(calls.get(self.id)))

    def start(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._settle(lambda wait_s: calls.start(self.id, wait_s), timeout_s)

    def wait(self, until: str, *, timeout_s: float = TIMEOUT_S) -> Record:
        """Until it is `running`, `healthy` or `stopped`. Raises Failed when it can become so no more by itself."""
        body = self._run(flows.reach(lambda wait_s: calls.wait(self.id, until, wait_s), until, timeout_s=timeout_s))
        return self._keep(parse.sandbox(body))

    def stop(self, *, grace_s: float | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """End its processes; the disk stays. `grace_s` is given to the main process to end by itself."""
        self._settle(lambda wait_s: calls.stop(self.id, grace_s, wait_s), timeout_s)

    def delete(self, *, force: bool = False, timeout_s: float = TIMEOUT_S) -> None:
        """It is gone for good, with its checkpoints. `force`: also when protected."""
        self._run(flows.settle(lambda wait_s: calls.delete(self.id, force, wait_s), timeout_s=timeout_s))
        if self._owns_client:
            self.client.close()

    def update(
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
        return self._keep(parse.sandbox(self._run(flow)))

    def reload(self, *, grace_s: float | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """Stop it and start it again: the disk stays, processes begin anew."""
        self._keep(parse.sandbox(self._run(flows.reload(self.id, grace_s=grace_s, timeout_s=timeout_s))))

    def sleep(self, *, cold: bool = False, force: bool = False) -> None:
        """Freeze it, or with `cold` stop it, until somebody wants it. `force`: also while something keeps it awake."""
        self._keep(self._send(sleep_calls.sleep(self.id, cold=cold, force=force)))

    def wake(self) -> None:
        """Whoever runs a command or touches a file wakes it anyway."""
        self._keep(self._send(sleep_calls.wake(self.id)))

    def keep_awake(self, for_s: float | None = None, note: str = "") -> Lease:
        """A lease: until it runs out or is ended, the sandbox does not fall asleep. None: ten minutes."""
        return self._send(sleep_calls.keep_awake(self.id, for_s, note))

    def end_lease(self, lease: Lease | str) -> None:
        self._send(sleep_calls.end_lease(self.id, lease if isinstance(lease, str) else lease.id))

    def activity(self) -> Activity:
        """Why it is awake, what woke it last, when it falls asleep."""
        return self._send(sleep_calls.activity(self.id))

    def publish(self, port: str | Mapping[str, Any]) -> PublishedPort:
        """On the server: text such as 8080:80, or 80 for a free port of it. Raises InUse."""
        body = port_calls.port_from_text(port) if isinstance(port, str) else dict(port)
        return self._send(port_calls.add(self.id, body))

    def unpublish(self, host: int, *, protocol: str = "tcp", ip: str | None = None) -> list[PublishedPort]:
        """By the port of the server. None: on every address of it."""
        return self._send(port_calls.remove(self.id, host, protocol=protocol, ip=ip))

    def ports(self) -> list[PortState]:
        """What is published, and how it is used."""
        return self._send(port_calls.list_all(self.id))

    def listening(self) -> list[ListeningPort]:
        """Where its programs listen now."""
        return self._send(port_calls.listening(self.id))

    def forward(self, remote: int, local: int = 0, *, address: str = "127.0.0.1") -> Forward:
        """A port of this machine that leads to `remote` in the sandbox, until it is closed. `local` 0: a free one."""
        from skerry.client.forward import Forward

        path = port_calls.connect_path(self.id, remote)
        return Forward(self.client.transport, path, port=local, address=address)

    def url(self, port: int, expires_s: float | None = None) -> str:
        """Where `port` of it is reached over HTTP. A private sandbox asks for a key there; with `expires_s` the URL
        opens it by itself for so long, at most 30 days."""
        call = url_calls.get(self.id, port) if expires_s is None else url_calls.sign(self.id, port, expires_s)
        return (self._send(call)).url

    def ssh_access(self) -> SshAccess:
        """Where SSH leads in, and which keys do."""
        return self._send(ssh_calls.access(self.id))

    def ssh_key(self, for_s: float | None = None) -> SshGrant:
        """A new key for SSH, told this once. None: for thirty days."""
        return self._send(ssh_calls.grant(self.id, for_s))

    def revoke_ssh(self) -> None:
        """No key opens it any more, and who came in by one is out."""
        self._send(ssh_calls.revoke(self.id))

    def checkpoint(self, comment: str = "", *, timeout_s: float = TIMEOUT_S) -> Checkpoint:
        """Keep the disk as it is now; takes milliseconds whatever its size. Memory is not part of it."""
        body = self._run(
            flows.settle(
                lambda wait_s: checkpoint_calls.create(self.id, comment, wait_s),
                lambda body: checkpoint_calls.get(self.id, body["id"]),
                timeout_s=timeout_s,
            )
        )
        return parse.checkpoint(body)

    def checkpoints(self) -> list[Checkpoint]:
        items = self._run(flows.gather(lambda token: checkpoint_calls.list_page(self.id, page_token=token)))
        return [parse.checkpoint(item) for item in items]

    def checkpoint_files(self, checkpoint: Checkpoint | str | int) -> CheckpointFiles:
        """Look into a checkpoint without restoring it."""
        return CheckpointFiles(self.client.transport, checkpoint_calls.path(self.id, checkpoint_ref(checkpoint)))

    def delete_checkpoint(self, checkpoint: Checkpoint | str | int, *, timeout_s: float = TIMEOUT_S) -> None:
        ref = checkpoint_ref(checkpoint)
        self._run(flows.settle(lambda wait_s: checkpoint_calls.delete(self.id, ref, wait_s), timeout_s=timeout_s))

    def restore(self, checkpoint: Checkpoint | str | int, *, timeout_s: float = TIMEOUT_S) -> None:
        """Go back: same id, name and address, the disk of then, processes started anew."""
        ref = checkpoint_ref(checkpoint)
        self._settle(lambda wait_s: calls.restore(self.id, ref, wait_s), timeout_s)

    def fork(
        self,
        count: int = 1,
        *,
        checkpoint: Checkpoint | str | int | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> list[Sandbox]:
        """New sandboxes that begin with this one's disk, or with that of one of its checkpoints."""
        ref = None if checkpoint is None else checkpoint_ref(checkpoint)
        body = self._run(
            flows.settle_all(
                lambda wait_s: calls.fork(self.id, count, checkpoint=ref, name=name, labels=labels, wait_s=wait_s),
                calls.get,
                timeout_s=timeout_s,
            )
        )
        return [Sandbox(self.client, parse.sandbox(item)) for item in body]

    def diff(self, a: Checkpoint | str | int, b: Checkpoint | str | int | None = None) -> Diff:
        """Paths that changed from checkpoint `a` to checkpoint `b`, or to the disk as it is now."""
        to = None if b is None else checkpoint_ref(b)
        return self._send(checkpoint_calls.diff(self.id, checkpoint_ref(a), to))

    def commit(self, image: str, *, timeout_s: float = TIMEOUT_S) -> Image:
        """Make an image of the disk as it is now."""
        from skerry.client.calls import images

        make = flows.settle(
            lambda wait_s: calls.commit(self.id, image, wait_s),
            lambda body: images.get(body["id"]),
            timeout_s=timeout_s,
        )
        return parse.image(self._run(make))

    def export(self, path: str | Path) -> int:
        """Write it with its checkpoints to a file, as it is now, while it goes on; returns the file's size in bytes."""
        size_bytes = 0
        with self.client.transport.stream(archives.export(self.id)) as stream, whole_file(Path(path)) as file:
            for chunk in stream:
                size_bytes += file.write(chunk)
        return size_bytes

    def logs(self, tail: int | None = None) -> str:
        """What its main process printed."""
        with self.client.transport.stream(calls.logs(self.id, tail=tail)) as stream:
            return b"".join(stream).decode(errors="replace")

    def follow_logs(self, tail: int | None = None) -> Iterator[str]:
        """The same, and on as it is printed."""
        import codecs

        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with self.client.transport.stream(calls.logs(self.id, follow=True, tail=tail)) as stream:
            for chunk in stream:
                yield decoder.decode(chunk)

    def stats(self) -> Stats:
        return self._send(calls.stats(self.id))

    def events(self) -> list[Event]:
        """Its history, oldest first."""
        items = self._run(flows.gather(lambda token: cloud.events(target=self.id, page_token=token)))
        return [parse.event(item) for item in items]

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.delete()
        except NotFound:
            pass

    def __repr__(self) -> str:
        return f"<Sandbox {self.name} {self.id}>"

    def _owning(self, owns_client: bool) -> Sandbox:
        self._owns_client = owns_client
        return self

    def _send(self, call: Any) -> Any:
        return self.client.transport.send(call)

    def _run(self, flow: flows.Flow[Any]) -> Any:
        return self.client.transport.run(flow)

    def _settle(self, make: Callable[[float], Call[Any]], timeout_s: float) -> None:
        body = self._run(flows.settle(make, lambda body: calls.get(self.id), timeout_s=timeout_s))
        self._keep(parse.sandbox(body))

    def _keep(self, record: Record) -> Record:
        self._record = record
        return record


def checkpoint_ref(checkpoint: Checkpoint | str | int) -> str:
    """A checkpoint, its id, its number (3) or its name (v3) -> what the API takes."""
    if isinstance(checkpoint, int):
        return f"v{checkpoint}"
    return checkpoint if isinstance(checkpoint, str) else checkpoint.id


def _own(client: Client | None) -> Client:
    from skerry.client.client import Client

    return client or Client()
