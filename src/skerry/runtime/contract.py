"""What every runtime promises. The agent sees only this; `conformance.py` proves it of each runtime in the catalog.

All verbs are idempotent: repeating one after a crash, or one that has already had its effect, changes nothing and
succeeds. Ids are given by the caller and are safe as file names. Verbs on the same sandbox are never run at the same
time: the agent serialises them (reads such as `stats` and `look` may come at any time).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from skerry.model.exec import WindowSize
from skerry.model.sandbox import ExitReason, SandboxSpec


@dataclass(frozen=True)
class Capabilities:
    """What this runtime can do here, as data that the scheduler and the API read."""

    checkpoint_disk: bool = True
    checkpoint_memory: bool = False
    freeze: bool = True
    host_mounts: bool = True
    kernel_shared: bool = True
    """True: a container, which shares the host's kernel; hostile code belongs in a VM."""


@dataclass(frozen=True)
class Slot:
    """One place on the machine for one sandbox: a number, the uid range and the network that go with it."""

    number: int
    uid_base: int
    uid_count: int
    user_namespace: Path
    """A namespace file that maps 0..uid_count to uid_base..; pinned by the agent."""
    network_namespace: Path
    """Owned by that user namespace. With network off it has only loopback."""
    address: str | None
    """IPv4 of the sandbox; None with network off."""
    nameserver: str | None


@dataclass(frozen=True)
class HostMount:
    """A folder of the host in a guest: one that is shared with it, or a volume."""

    target: str
    """Absolute path in the guest."""
    source: Path
    """Already resolved: a symlink in it is refused, since a guest may have put it there."""
    readonly: bool = False
    owner: bool = False
    """Whoever owns the folder on the host and the user that the sandbox runs as are one."""


@dataclass(frozen=True)
class SecretFile:
    """A file that is in memory only, read-only to the guest, and no part of its disk."""

    path: str
    value: bytes = field(repr=False)
    user: str
    mode: int
    field: str
    """Of the spec, for what is wrong with it."""


@dataclass(frozen=True)
class StartPlan:
    """Everything a start needs; the disk exists already."""

    sandbox_id: str
    hostname: str
    """Stands in its /etc/hosts for `address`."""
    spec: SandboxSpec
    slot: Slot
    command: Sequence[str]
    """Already merged with the image's config; empty: idle."""
    env: dict[str, str]
    workdir: str
    user: str
    address: str | None = None
    """Where others reach it who are to: in the first of its private networks. None: the slot's."""
    mounts: Sequence[HostMount] = ()
    """As `spec.mounts` wants them, in the same order."""
    secret_env: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    """More of `env`, of which no trace may get to a disk; what both name is its."""
    secret_files: Sequence[SecretFile] = ()
    guest_socket_folder: Path | None = None
    """Host folder bound to /.skerry/run in the guest; holds api.sock."""
    devices: Sequence[Path] = ()
    """Character devices of the host that it may use, at the same paths, and no others."""
    guest_policy_folder: Path | None = None
    """Host folder bound read-only to /.skerry/policy in the guest; holds network.json, replaced whenever it changes."""


@dataclass(frozen=True)
class Ended:
    """How a main process or an exec ended. code is None where nobody was there to see it."""

    code: int | None
    reason: ExitReason


@dataclass(frozen=True)
class Found:
    """Ground truth about one sandbox: what is really on this machine, journal or not."""

    sandbox_id: str
    has_disk: bool
    pid: int | None
    """Host pid of the main process, None when nothing runs."""


@dataclass(frozen=True)
class ExecPlan:
    command: Sequence[str]
    env: dict[str, str]
    workdir: str
    user: str
    tty: bool = False
    size: WindowSize = field(default_factory=WindowSize)
    stdin: bool = False
    """Whether the caller will write to it; else it is /dev/null."""
    secret_env: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    """As that of the start."""
    name: str | None = None
    """Chosen by the caller and safe as a file name: `adopt_exec` finds a command by it that was begun in the moment in
    which the agent died. None: the runtime chooses one."""


class Process(Protocol):
    """A command that runs in a sandbox. Its output goes through pipes that outlive the agent, so that a restart of
    the agent does not kill it; with tty it does."""

    pid: int
    """Host pid of the runtime's own exec process, whose end is the command's end."""

    def token(self) -> dict[str, str]:
        """What `adopt` needs to find it again after a restart of the agent; JSON-able."""
        ...

    async def read(self) -> tuple[int, bytes] | None:
        """Next (STDOUT | STDERR, bytes up to 64 KiB); None once the command has ended and what it had written is read.
        A background child that still holds the pipes does not delay that None."""
        ...

    async def write(self, data: bytes) -> None:
        """To its stdin; raises Conflict when stdin is closed."""
        ...

    async def close_stdin(self) -> None: ...

    async def resize(self, size: WindowSize) -> None: ...

    async def kill(self, signal: int) -> None:
        """To every process of the command's session; after its end, to what is left of that."""
        ...

    async def wait(self) -> int | None:
        """0..255, 128+n for signal n; 127 not found, 126 not executable; None when it ended unseen."""
        ...

    async def close(self) -> None:
        """Give back descriptors and files; the command itself is not killed."""
        ...


@dataclass(frozen=True)
class Usage:
    cpu_s: float
    memory_bytes: int
    memory_peak_bytes: int
    oom_kills: int
    pids: int
    disk_bytes: int
    network_received_bytes: int
    network_sent_bytes: int
    network_connections: int = 0


OnOutput = Callable[[bytes], None]
OnEnd = Callable[[str, Ended], Awaitable[None]]


class Runtime(Protocol):
    """How one kind of sandbox lives on this machine."""

    name: str
    capabilities: Capabilities

    async def open(self) -> None:
        """Make the machine ready (pool, cgroups). Raises Failed with the command that mends what is missing."""
        ...

    async def close(self) -> None:
        """Let go of descriptors; running sandboxes go on."""
        ...

    async def look(self) -> list[Found]:
        """Ground truth, from the kernel and the disk, of every sandbox here."""
        ...

    # Disks
    async def import_image(self, digest: str, unpack: Callable[[Path], Awaitable[None]]) -> int:
        """Make image `digest` by letting `unpack` fill an empty folder; returns its size in bytes. Atomic: an
        interrupted one leaves nothing. An image that exists is left alone and `unpack` is not called."""
        ...

    def image_path(self, digest: str) -> Path:
        """Read-only tree of an image; raises NotFound."""
        ...

    async def images(self) -> list[str]: ...
    async def delete_image(self, digest: str) -> None: ...

    async def create_disk(self, sandbox_id: str, source_image: str | None, source_checkpoint: str | None) -> bool:
        """From exactly one source; True if it was made now, False if the sandbox already had its disk.
        Raises NotFound for an unknown source, NoRoom when the pool is below its reserve."""
        ...

    def disk_path(self, sandbox_id: str) -> Path:
        """The tree of the sandbox's disk with the guest's own uids, no mount of the guest's on it. Whatever touches
        it must treat every name and symlink in it as hostile. Raises NotFound."""
        ...

    # Life
    async def start(self, plan: StartPlan, on_output: OnOutput) -> int:
        """Start the main process on the existing disk; its output goes to `on_output`. Returns the host pid."""
        ...

    async def adopt(self, sandbox_id: str, on_output: OnOutput) -> int | None:
        """Take over a sandbox that runs since before this agent; its pid, None if it does not run. It is thawed."""
        ...

    async def wait(self, sandbox_id: str) -> Ended:
        """When the main process ends (or has ended)."""
        ...

    async def stop(self, sandbox_id: str, grace_s: float) -> None:
        """SIGTERM to the main process, after the grace SIGKILL to everything; then no process, cgroup or mount of it
        is left. The disk stays."""
        ...

    async def destroy(self, sandbox_id: str) -> None:
        """As stop with no grace, and the disk goes too. Checkpoints of it stay."""
        ...

    async def checkpoint(self, sandbox_id: str, checkpoint_id: str) -> float:
        """Freeze, snapshot, thaw; returns milliseconds frozen (0 if it does not run). Thaws whatever happens."""
        ...

    async def restore(self, sandbox_id: str, checkpoint_id: str) -> None:
        """Put the disk of a *stopped* sandbox back; at every instant it has the old disk or the new, never none."""
        ...

    def checkpoint_path(self, checkpoint_id: str) -> Path: ...
    async def checkpoints(self) -> list[str]: ...
    async def delete_checkpoint(self, checkpoint_id: str) -> None: ...

    # Volumes
    async def create_volume(
        self, volume_id: str, source: str | None, limit_bytes: int | None, *, readonly: bool = False
    ) -> None:
        """Empty, or as the volume `source` is at this moment. One that exists is left alone but for its limit. Raises
        NotFound for an unknown source, NoRoom when the pool is below its reserve."""
        ...

    async def resize_volume(self, volume_id: str, limit_bytes: int) -> None:
        """What may be written to it. Raises Invalid where more is in it already."""
        ...

    def volume_path(self, volume_id: str) -> Path:
        """Its tree with the guests' own uids, to be treated as a disk's. Raises NotFound."""
        ...

    async def volumes(self) -> dict[str, int]:
        """Id -> bytes charged to it, of each that is here."""
        ...

    async def delete_volume(self, volume_id: str) -> None: ...

    # Sleep
    async def freeze(self, sandbox_id: str, *, squeeze: bool = False) -> None:
        """Stop every process where it is, memory kept, until `thaw`; `squeeze` has the kernel drop what it can of that
        memory. Checkpoints leave it frozen; stop and destroy end it all the same. Raises Conflict when it does not run,
        Failed when a process cannot be frozen: then none is."""
        ...

    async def thaw(self, sandbox_id: str) -> None:
        """Let it go on. Quiet about a sandbox that is not frozen or does not run."""
        ...

    # While it runs
    async def limit(self, sandbox_id: str, spec: SandboxSpec) -> None:
        """Hold it to the ceilings of `spec` from now on: cpu, memory, pids and disk. Quiet about one that does not run:
        its next start does. Raises TooLarge when it uses more memory than it would have; the others are set then."""
        ...

    def main_pid(self, sandbox_id: str) -> int | None:
        """Host pid of the main process, whose entry in /proc shows the sandbox from inside; None when it does not run,
        or where none of its processes is one of this machine."""
        ...

    async def exec(self, sandbox_id: str, plan: ExecPlan) -> Process:
        """Raises Conflict when the sandbox does not run."""
        ...

    async def adopt_exec(self, sandbox_id: str, token: dict[str, str]) -> Process | None: ...

    async def usage(self, sandbox_id: str) -> Usage:
        """Zeros but for the disk when it does not run."""
        ...

    async def room(self) -> tuple[int, int]:
        """(bytes in all, bytes free) where disks live."""
        ...
