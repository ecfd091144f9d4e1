"""A sandbox: a whole computer that keeps its disk. What a user may declare, what we know, and how it moves."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from skerry.model.changes import CHANGES, CLEARABLE, Change
from skerry.model.fields import Command, Env, Frozen, GuestPath, Labels, Name, Size, User, parse_rate
from skerry.model.guest_service import HealthStatus, MainHealth, Services, Statuses
from skerry.model.identity import QUEUE_DEFAULT
from skerry.model.moves import Moves
from skerry.model.network import JOINS_MAX, Join, Membership
from skerry.model.policy import Policy
from skerry.model.port import PORTS_MAX, PublishedPort, first_clash
from skerry.model.replica import ReplicaOf
from skerry.model.resources import Demand, Extras, Gpu, GpuKinds, GpuMemory, PlacementRules
from skerry.model.restart import Restart
from skerry.model.secret import Secrets, check_uses
from skerry.model.sleep import Asleep, SleepAfter
from skerry.model.tier import PRIORITY_DEFAULT, Priority, Tier
from skerry.model.weights import MODELS_FOLDER, ModelTitle

MIB = 1024**2
GIB = 1024**3
MOUNTS_MAX = 32
FORK_COUNT_MAX = 100


class S(StrEnum):
    """States of a sandbox; `desired` in words is what each state's owner is working towards."""

    PENDING = "pending"  # waits in its queue for a place; `node` is set if its disk, or what it needs, is there
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
    (S.PENDING, S.RESTORING): "place",
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
    (S.STOPPED, S.PENDING): "api",
    (S.FAILED, S.PENDING): "api",
    (S.PENDING, S.STOPPED): "api",
    (S.STARTING, S.STOPPING): "api",
    (S.RUNNING, S.STOPPING): "api",
    (S.RUNNING, S.RESTORING): "api",
    (S.ASLEEP, S.STOPPING): "api",
    (S.ASLEEP, S.RESTORING): "api",
    **{(was, S.DELETING): "api" for was in S if was not in (S.DELETING, S.DELETED)},
}

FINAL = frozenset({S.DELETED})
AT_REST = frozenset({S.RUNNING, S.ASLEEP, S.STOPPED, S.FAILED, S.DELETED})
"""No reconciler owes such a sandbox anything: an operation on it has finished."""
HOLDS_PLACE = frozenset({S.STARTING, S.RUNNING, S.ASLEEP, S.STOPPING, S.RESTORING})
"""It counts on its node with all that it was promised: cores, memory, accelerators. Also asleep, warm or cold, since
nothing may keep it from waking; and until it has stopped, since its processes are there. Quotas, queues' limits, use
over time and what the scheduler sees as taken are all sums over these, and nothing else."""


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
    """A folder of the host, a volume or a model inside the sandbox: exactly one of `source`, `volume` and `model`."""

    source: Annotated[str, Field(max_length=4096), AfterValidator(_host_path)] | None = None
    """Path on the host, below a folder that the operator shares (`skerry share`)."""
    volume: Name | None = None
    model: ModelTitle | None = None
    """Read-only."""
    target: GuestPath
    """Of a model: /models/NAME, if it is left out."""
    readonly: bool = False
    owner: bool = False
    """Whoever owns the folder on the host and the sandbox's user are one: each sees the other's files as its own."""

    @model_validator(mode="before")
    @classmethod
    def _model_is_read(cls, given: Any) -> Any:
        fields = cast(dict[str, Any], given) if isinstance(given, dict) else {}
        if not fields.get("model"):
            return cast(Any, given)
        return {"target": f"{MODELS_FOLDER}/{fields['model']}", "readonly": True, **fields}

    @model_validator(mode="after")
    def _is_of_one_thing(self) -> Mount:
        if [self.source, self.volume, self.model].count(None) != 2:
            raise ValueError("give exactly one of source, a folder of the host, and volume or model, a name")
        if self.source is None and self.owner:
            raise ValueError("owner goes with source: an id in a volume is the same id in every sandbox")
        if self.model is not None and not self.readonly:
            raise ValueError("readonly: a model is shared by all who mount it, and nobody writes to it")
        return self


def models_named(mounts: Iterable[Mount]) -> list[str]:
    return list(dict.fromkeys(mount.model for mount in mounts if mount.model is not None))


class Network(Policy):
    """Whether there is any, and how far it reaches: the fields of a policy stand beside `enabled`."""

    enabled: bool = True

    @property
    def policy(self) -> Policy:
        return Policy(default=self.default, rules=self.rules, observe=self.observe)


Cpu = Annotated[float, Field(ge=0.05, le=256)]
Memory = Annotated[Size, Field(ge=16 * MIB, le=1024 * GIB)]
Disk = Annotated[Size, Field(ge=16 * MIB, le=16 * 1024 * GIB)]
Pids = Annotated[int, Field(ge=8, le=32768)]
IdleCpu = Annotated[float, Field(gt=0, le=256)]
Mounts = Annotated[list[Mount], Field(max_length=MOUNTS_MAX)]

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


class SandboxSpec(Demand):
    """What a user may declare of a sandbox. Sizes are bytes or text such as 512MiB."""

    name: Name | None = None
    """None: we choose a free one."""
    hostname: Name | None = None
    """Its own name for itself, and one by which members of its networks find it. None: its name."""
    image: Annotated[str, Field(min_length=1, max_length=512)]
    cpu: Cpu = 1.0
    """Cores, as a hard ceiling."""
    memory: Memory = 1 * GIB
    """Bytes; going over it kills a process in the sandbox, which is reported as `oom`."""
    disk: Disk = 10 * GIB
    """Bytes the sandbox may write on top of its image."""
    pids: Pids = 1024
    command: Command | None = None
    """What to run as the sandbox's main process; when it ends the sandbox stops. None: idle, for exec."""
    restart: Restart = Restart.NEVER
    """Whether it is started again when its main process has ended by itself."""
    health: MainHealth | None = None
    """How to tell that it can do what it is for. None: by its services, if it has any."""
    env: Env = {}
    labels: Labels = {}
    workdir: GuestPath | None = None
    """None: the image's, else /."""
    user: User | None = None
    """`user` or `user:group`, names or ids; None: the image's, else root."""
    mounts: Mounts = []
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
    idle_cpu: IdleCpu | None = None
    """Cores: using more than this on average while otherwise idle counts as activity. None: cpu is not looked at."""
    public: bool = False
    """Whether everybody who reaches the URLs of its ports may open them; else they take a key or a signed link."""
    squeeze: bool = False
    """When it falls asleep, have the kernel drop what it can of its memory, which makes waking slower."""
    services: Services = {}
    """Commands that are kept running beside its main process, by name."""
    secrets: Secrets = []
    """Values that it gets as variables or as files, and that nobody is shown."""
    queue: Name = QUEUE_DEFAULT
    """Where it waits for a machine."""
    tier: Tier = Tier.PRODUCTION
    priority: Priority = PRIORITY_DEFAULT
    placement: PlacementRules = PlacementRules()

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
    def _secrets_differ(self) -> SandboxSpec:
        check_uses(self.secrets, self.env, [mount.target for mount in self.mounts])
        return self

    @model_validator(mode="after")
    def _health_fits(self) -> SandboxSpec:
        if self.health is not None and self.health.restart and self.restart is Restart.NEVER:
            raise ValueError("health.restart is for sandboxes that may be restarted, and this one never is")
        return self

    @model_validator(mode="after")
    def _networks_differ(self) -> SandboxSpec:
        _joined_once(self.networks)
        return self


class ExitReason(StrEnum):
    EXITED = "exited"  # the main process ended by itself
    STOPPED = "stopped"  # we were asked to stop it
    OOM = "oom"  # the memory limit killed it
    UNHEALTHY = "unhealthy"  # it was ended to be started again, as its `health.restart` wants
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
    owner: str = ""
    """Name of the key by which it was made: the user, for shares and quotas."""
    node: str | None = None
    devices: list[tuple[int, int, int]] = []
    """Accelerators of its node that it has: (index, thousandths, bytes of memory)."""
    job: str | None = None
    """Id of the job whose task it belongs to."""
    task: int | None = None
    """Index of that task."""
    attempt: int = 0
    """Of that task: which try it is."""
    gang: str | None = None
    """Of its job's task and try: all with the same start together. None: it is alone."""
    gang_size: int = 1
    gang_min: int = 1
    """Without so many of them none starts."""
    rank: int = 0
    replica: ReplicaOf | None = None
    """Of the service whose replica it is, if it is one."""
    limit_s: float | None = None
    """Seconds that it may run at most, as its job said: what the queue plans with. None: not known."""
    queued_at: datetime | None = None
    """Since when it waits, or waited, for the place that it has. None: since it was made."""
    placed_at: datetime | None = None
    """Since when it has its place. None: it has none."""
    evicted: str | None = None
    """Why it is being stopped to make room for others, or was; by itself it then comes back by itself."""
    image_digest: str | None = None
    address: str | None = None
    """IPv4 on its machine; kept over stop, start and restore."""
    memberships: list[Membership] = []
    """Networks it is in, as `spec.networks` wants it; its addresses there stay its own until it leaves."""
    volumes: dict[str, str] = {}
    """Name -> id of each volume that it mounts: theirs from its creation on, whatever bears the name later."""
    exit: Exit | None = None
    stop_grace_s: float = 10.0
    """Of the newest stop: seconds between SIGTERM and SIGKILL."""
    asleep: Asleep | None = None
    """Set while it is ASLEEP."""
    applied: bool = True
    """Whether its machine has been told of the newest change of the spec of a running sandbox."""
    services: Statuses = ()
    """What its machine says of its services, while it has processes."""
    health: HealthStatus | None = None
    """What its machine says of its health, if that is declared, while it has processes."""
    restarts: int = 0
    """Times it was started again because its main process ended or its machine lost it."""
    failures: int = 0
    """Of its main process: ends in a row with no stable time between."""
    starts_at: datetime | None = None
    """Not to be started again before this time: its main process has ended and may do so once more."""
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


def changes(was: SandboxSpec, now: SandboxSpec) -> dict[str, Change]:
    """The fields that differ, and what each takes."""
    found = {field: change for field, change in CHANGES.items() if getattr(was, field) != getattr(now, field)}
    if "network" in found and was.network.enabled == now.network.enabled:
        found["network"] = Change.LIVE  # the policy, which its machine takes at any time
    return found


class SandboxUpdate(Frozen):
    """What may change of a sandbox that is there. What is not given stays; CHANGES says what takes a restart."""

    name: Name | None = None
    hostname: Name | None = None
    """Null: its name."""
    cpu: Cpu | None = None
    memory: Memory | None = None
    """Not below what is in use."""
    disk: Disk | None = None
    """Not below what is in use."""
    pids: Pids | None = None
    command: Command | None = None
    """Null: idle again."""
    env: Env | None = None
    """In place of all of it."""
    labels: Labels | None = None
    workdir: GuestPath | None = None
    """Null: the image's again."""
    user: User | None = None
    """Null: the image's again."""
    mounts: Mounts | None = None
    """In place of all of them."""
    secrets: Secrets | None = None
    """In place of all of them."""
    network: Network | None = None
    """Of its fields only those that are given: {"enabled": false} keeps the policy."""
    protected: bool | None = None
    restart: Restart | None = None
    health: MainHealth | None = None
    """Null: none of its own."""
    self_checkpoint: bool | None = None
    self_lease: bool | None = None
    checkpoints: CheckpointPolicy | None = None
    """Takes the place of the whole policy of automatic checkpoints."""
    public: bool | None = None
    idle: SleepAfter | None = None
    """Null: what the server is set to, as with the next two."""
    cold_after: SleepAfter | None = None
    idle_cpu: IdleCpu | None = None
    squeeze: bool | None = None
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
    gpu: Gpu | None = None
    gpu_kind: GpuKinds | None = None
    gpu_memory: GpuMemory | None = None
    """Null: its share of the device's."""
    extras: Extras | None = None
    queue: Name | None = None
    """Of its next start, as the next three."""
    tier: Tier | None = None
    priority: Priority | None = None
    placement: PlacementRules | None = None

    def spec_after(self, was: SandboxSpec) -> SandboxSpec:
        """`was` with what is given. Raises ValidationError where the two do not go together."""
        asked = self.model_dump(exclude_unset=True)
        given = {field: value for field, value in asked.items() if value is not None or field in CLEARABLE}
        network: dict[str, Any] = {**was.network.model_dump(), **(given.pop("network", None) or {})}
        given.pop("policy", None)
        if self.policy is not None:
            network.update(self.policy.model_dump())
        return SandboxSpec.model_validate({**was.model_dump(), **given, "network": network})


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
