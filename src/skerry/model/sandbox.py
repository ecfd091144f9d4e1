"""A sandbox: a whole computer that keeps its disk. What a user may declare, what we know, and how it moves."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from skerry.model.fields import Command, Env, Frozen, GuestPath, Labels, Name, Size, User, parse_rate
from skerry.model.moves import Moves
from skerry.model.network import JOINS_MAX, Join, Membership
from skerry.model.policy import Policy
from skerry.model.port import PORTS_MAX, PublishedPort, first_clash
from skerry.model.service import Services, Statuses
from skerry.model.sleep import Asleep, SleepAfter

MIB = 1024**2
GIB = 1024**3
MOUNTS_MAX = 32
FORK_COUNT_MAX = 100


class S(StrEnum):
    """States of a sandbox; `desired` in words is what each state's owner is working towards."""

    PENDING = "pending"  # wanted, has no machine yet
    STARTING = "starting"  # has a machine; its disk is made and its processes start
    RUNNING = "running"
    ASLEEP = "asleep"  # frozen, or stopped to be started by the next who wants it; `asleep` says which and why
    STOPPING = "stopping"
    STOPPED = "stopped"  # no process, disk kept; `exit` says how it ended
    RESTORING = "restoring"  # its disk goes back to a checkpoint, then it starts
    FAILED = "failed"  # could not be made or started; `reason` says why; start, restore or delete it
    DELETING = "deleting"
    DELETED = "deleted"


MOVES: Moves[S] = {
    (S.PENDING, S.STARTING): "place",
    (S.PENDING, S.FAILED): "place",
    (S.STARTING, S.RUNNING): "start",
    (S.STARTING, S.FAILED): "start",
    (S.RUNNING, S.STOPPED): "observe",
    (S.RUNNING, S.STARTING): "observe",
    (S.RUNNING, S.ASLEEP): "observe",
    (S.ASLEEP, S.RUNNING): "observe",
    (S.ASLEEP, S.STOPPED): "observe",
    (S.ASLEEP, S.STARTING): "observe",
    (S.STOPPING, S.STOPPED): "stop",
    (S.RESTORING, S.RUNNING): "restore",
    (S.RESTORING, S.FAILED): "restore",
    (S.DELETING, S.DELETED): "delete",
    (S.STOPPED, S.STARTING): "api",
    (S.FAILED, S.STARTING): "api",
    (S.FAILED, S.PENDING): "api",
    (S.STARTING, S.STOPPING): "api",
    (S.RUNNING, S.STOPPING): "api",
    (S.RUNNING, S.RESTORING): "api",
    (S.ASLEEP, S.STOPPING): "api",
    (S.ASLEEP, S.RESTORING): "api",
    (S.STOPPED, S.RESTORING): "api",
    (S.FAILED, S.RESTORING): "api",
    **{(was, S.DELETING): "api" for was in S if was not in (S.DELETING, S.DELETED)},
}

FINAL = frozenset({S.DELETED})
AT_REST = frozenset({S.RUNNING, S.ASLEEP, S.STOPPED, S.FAILED, S.DELETED})
"""No reconciler owes such a sandbox anything: an operation on it has finished."""


def _host_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise ValueError("expected an absolute path on the host without '..'")
    return path


def _joined_once(joins: list[Join]) -> list[Join]:
    names = [join.name for join in joins]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ValueError(f"networks[{number}].name: {name} is joined already; a network is joined once")
    return joins


class Mount(Frozen):
    """A folder of the host inside the sandbox. The operator lists which folders may be shared (`serve --share`)."""

    source: Annotated[str, Field(max_length=4096), AfterValidator(_host_path)]
    target: GuestPath
    readonly: bool = False


class Network(Policy):
    """Whether there is any, and how far it reaches: the fields of a policy stand beside `enabled`."""

    enabled: bool = True

    @property
    def policy(self) -> Policy:
        return Policy(default=self.default, rules=self.rules, observe=self.observe)


Rate = Annotated[Annotated[int, Field(ge=64_000, le=1_000_000_000_000)] | None, BeforeValidator(parse_rate)]
"""Bits per second, or text such as 10Mbit; None or `unlimited`: as fast as it goes."""


class Bandwidth(Frozen):
    """How fast the sandbox may be on the network, in bits per second."""

    up: Rate = None
    """What it sends."""
    down: Rate = None
    """What it receives."""


class CheckpointPolicy(Frozen):
    """Automatic checkpoints of a running sandbox. Checkpoints made by hand are never removed by it."""

    every_s: Annotated[int, Field(ge=10, le=31_536_000)] | None = None
    """Seconds between automatic checkpoints; None makes none."""
    keep: Annotated[int, Field(ge=1, le=1000)] = 10
    """How many automatic ones stay; the oldest goes first."""
    max_age_s: Annotated[int, Field(ge=10)] | None = None
    """Automatic ones older than this go; None keeps them whatever their age."""


class SandboxSpec(Frozen):
    """What a user may declare of a sandbox. Sizes are bytes or text such as 512MiB."""

    name: Name | None = None
    """None: we choose a free one."""
    image: Annotated[str, Field(min_length=1, max_length=512)]
    cpu: Annotated[float, Field(ge=0.05, le=256)] = 1.0
    """Cores, as a hard ceiling."""
    memory: Annotated[Size, Field(ge=16 * MIB, le=1024 * GIB)] = 1 * GIB
    """Bytes; going over it kills a process in the sandbox, which is reported as `oom`."""
    disk: Annotated[Size, Field(ge=16 * MIB, le=16 * 1024 * GIB)] = 10 * GIB
    """Bytes the sandbox may write on top of its image."""
    pids: Annotated[int, Field(ge=8, le=32768)] = 1024
    command: Command | None = None
    """What to run as the sandbox's main process; when it ends the sandbox stops. None: idle, for exec."""
    env: Env = {}
    labels: Labels = {}
    workdir: GuestPath | None = None
    """None: the image's, else /."""
    user: User | None = None
    """`user` or `user:group`, names or ids; None: the image's, else root."""
    mounts: Annotated[list[Mount], Field(max_length=MOUNTS_MAX)] = []
    network: Network = Network()
    bandwidth: Bandwidth = Bandwidth()
    ports: Annotated[list[PublishedPort], Field(max_length=PORTS_MAX)] = []
    """Where the machine passes connections on to the sandbox, which wakes it if it sleeps."""
    networks: Annotated[list[Join], Field(max_length=JOINS_MAX)] = []
    """Private networks whose members it reaches, and who reach it. If all of them are internal, nothing else."""
    protected: bool = False
    """Delete is refused while this is set."""
    self_checkpoint: bool = False
    """The sandbox's root may checkpoint it through /.skerry/run/api.sock: POST /v1/checkpoints {"comment": "…"}."""
    self_lease: bool = False
    """The sandbox's root may keep it awake through the same socket: POST /v1/leases {"for_s": 600, "note": "…"}."""
    checkpoints: CheckpointPolicy = CheckpointPolicy()
    idle: SleepAfter | None = None
    """How long nobody may have used it before it falls asleep; None: what the server is set to."""
    cold_after: SleepAfter | None = None
    """How long it sleeps warm before it is stopped to give its memory back; None: what the server is set to."""
    idle_cpu: Annotated[float, Field(gt=0, le=256)] | None = None
    """Cores: using more than this on average while otherwise idle counts as activity. None: cpu is not looked at."""
    public: bool = False
    """Whether everybody who reaches the URLs of its ports may open them; else they take a key or a signed link."""
    squeeze: bool = False
    """When it falls asleep, have the kernel drop what it can of its memory, which makes waking slower."""
    services: Services = {}
    """Commands that are kept running beside its main process, by name."""

    @model_validator(mode="after")
    def _targets_differ(self) -> SandboxSpec:
        targets = [mount.target for mount in self.mounts]
        if len(set(targets)) != len(targets):
            raise ValueError("two mounts have the same target")
        reserved = ("/proc", "/sys", "/dev", "/.skerry")
        for target in targets:
            if target == "/" or any(target == top or target.startswith(top + "/") for top in reserved):
                raise ValueError(f"mount target {target}: /, /proc, /sys, /dev and /.skerry are reserved")
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> SandboxSpec:
        if found := first_clash(self.ports):
            raise ValueError(f"ports: {found[0]} and {found[1]} are the same port of the machine")
        return self

    @model_validator(mode="after")
    def _networks_differ(self) -> SandboxSpec:
        _joined_once(self.networks)
        return self


class ExitReason(StrEnum):
    EXITED = "exited"  # the main process ended by itself
    STOPPED = "stopped"  # we were asked to stop it
    OOM = "oom"  # the memory limit killed it
    LOST = "lost"  # the machine went away under it (reboot, or every process killed)


class Exit(Frozen):
    reason: ExitReason
    code: int | None = None
    """0..255, 128+n for signal n; None where nobody was there to see it."""
    at: datetime


class Sandbox(Frozen):
    """The record: what is wanted (`spec`, `generation`) and what is known (the rest)."""

    id: str
    project: str
    name: str
    state: S
    spec: SandboxSpec
    generation: int
    """Counts the changes of intent; an agent refuses orders older than the newest it has seen."""
    reason: str | None = None
    """Why it is in this state, for the user; set with FAILED."""
    node: str | None = None
    image_digest: str | None = None
    address: str | None = None
    """IPv4 on its machine; kept over stop, start and restore."""
    memberships: list[Membership] = []
    """Networks it is in, as `spec.networks` wants it; its addresses there stay its own until it leaves."""
    exit: Exit | None = None
    stop_grace_s: float = 10.0
    """Of the newest stop: seconds between SIGTERM and SIGKILL."""
    asleep: Asleep | None = None
    """Set while it is ASLEEP."""
    applied: bool = True
    """Whether its machine has been told of the newest change of the spec of a running sandbox."""
    services: Statuses = ()
    """What its machine says of its services, while it has processes."""
    restarts: int = 0
    """Times it was started again because its machine lost it."""
    parent: str | None = None
    """Id of the sandbox it was forked from."""
    source_checkpoint: str | None = None
    """Id of the checkpoint its disk began from."""
    restore_checkpoint: str | None = None
    """Id of the checkpoint a RESTORING sandbox goes back to."""
    operation: str | None = None
    """Id of the newest operation on it."""
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None


class SandboxUpdate(Frozen):
    """What may change without a restart."""

    name: Name | None = None
    labels: Labels | None = None
    protected: bool | None = None
    public: bool | None = None
    idle: SleepAfter | None = None
    cold_after: SleepAfter | None = None
    idle_cpu: Annotated[float, Field(gt=0, le=256)] | None = None
    bandwidth: Bandwidth | None = None
    """Takes the place of both directions."""
    policy: Policy | None = None
    """Takes the place of the whole egress policy in `network`."""
    ports: Annotated[list[PublishedPort], Field(max_length=PORTS_MAX)] | None = None
    """In place of all that are published."""
    services: Services | None = None
    """All of them: what is not named is stopped and gone."""
    networks: Annotated[list[Join], Field(max_length=JOINS_MAX), AfterValidator(_joined_once)] | None = None
    """In place of all that it is in. Where it stays it keeps its address, unless another is asked for."""


LIVE = frozenset({"name", "idle", "cold_after", "idle_cpu", "bandwidth", "policy", "ports", "services", "networks"})
"""Fields of the update that the machine of a running sandbox must be told of."""


class StopRequest(Frozen):
    grace_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """Seconds between SIGTERM to the main process and SIGKILL to everything."""


class RestoreRequest(Frozen):
    checkpoint: Annotated[str, Field(min_length=1, max_length=128)]
    """Id, unique id prefix, or number such as v3."""


class ForkRequest(Frozen):
    count: Annotated[int, Field(ge=1, le=FORK_COUNT_MAX)] = 1
    checkpoint: str | None = None
    """None: of the sandbox as it is now."""
    name: Annotated[Name, Field(max_length=57)] | None = None
    """Prefix of the forks' names; None: the parent's name. Forks are NAME-1, NAME-2, …, skipping names taken."""
    labels: Labels = {}
    """Added to the parent's labels."""


class CommitRequest(Frozen):
    image: Annotated[str, Field(min_length=1, max_length=256)]
