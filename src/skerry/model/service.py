"""A service: a model server or web app of one or many replicas behind one address that stays. Each replica is a
sandbox.

Life, health and traffic are three axes: whether a replica's sandbox is there (its state), whether it can do its work
(`Health`), and whether it is given any (`weight`, `draining_at`). The status of a service says one thing: can it serve.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from skerry.model.fields import Command, Duration, Env, Frozen, Labels, Name, User, matching
from skerry.model.guest_service import HTTP_PATH_PATTERN
from skerry.model.identity import QUEUE_DEFAULT
from skerry.model.moves import Moves
from skerry.model.network import JOINS_MAX, Join
from skerry.model.replica import Role
from skerry.model.resources import Demand, PlacementRules
from skerry.model.rollout import RolloutStatus, Strategy
from skerry.model.sandbox import GIB, Cpu, Disk, Memory, Mounts, Network, Pids, S
from skerry.model.scaling import REPLICAS_MAX, Scaling
from skerry.model.secret import Secrets
from skerry.model.stream import Port
from skerry.model.tier import PRIORITY_DEFAULT, Priority, Tier

MODELS_MAX = 64
OPTIONS_MAX = 128
ADDRESSES_MAX = 256
REVISIONS_KEPT = 20
STARTS_KEPT = 20


class EngineName(StrEnum):
    COMMAND = "command"  # whatever the image or `command` starts
    VLLM = "vllm"
    SGLANG = "sglang"
    NIM = "nim"
    TRANSFORMERS = "transformers"
    LLAMACPP = "llamacpp"
    SIMULATOR = "simulator"


class PolicyName(StrEnum):
    """How a replica is chosen for a request."""

    AUTO = "auto"
    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    LEAST_LOAD = "least-load"
    POWER_OF_TWO = "power-of-two"
    PREFIX = "prefix"
    HYBRID = "hybrid"  # Ray Serve's
    SESSION = "session"
    LORA = "lora"
    SLO = "slo"
    DISAGGREGATED = "disaggregated"  # prefill and decode on replicas of their own


if TYPE_CHECKING:
    HttpPath = str
else:
    HttpPath = matching(f"^{HTTP_PATH_PATTERN}$", "a path such as /health, of at most 1024 characters without spaces")


class HealthCheck(Frozen):
    """HTTP GET on the replica's port. Names and defaults of the fields are Backend.AI's."""

    path: HttpPath = "/health"
    interval: Annotated[Duration, Field(ge=0.5, le=86_400)] = 10.0
    max_retries: Annotated[int, Field(ge=1, le=100)] = 10
    """Looks in a row that must fail before one that was healthy is called unhealthy."""
    max_wait_time: Annotated[Duration, Field(ge=0.1, le=300)] = 15.0
    """For one answer."""
    expected_status_code: Annotated[int, Field(ge=100, le=599)] = 200
    initial_delay: Annotated[Duration, Field(ge=0, le=86_400)] = 60.0
    """A replica that is not healthy so long after its start, and `interval` times `max_retries` + 1 more, is called
    unhealthy."""


class Timeouts(Frozen):
    """Seconds, or text such as 30s."""

    connect: Annotated[Duration, Field(gt=0, le=300)] = 5.0
    first: Annotated[Duration, Field(gt=0, le=86_400)] = 600.0
    """From the request's last byte to the answer's first."""
    between: Annotated[Duration, Field(gt=0, le=86_400)] = 120.0
    """Two parts of a stream."""


class Holding(Frozen):
    """Requests that wait in the gateway because all replicas have as many as they may, or none is awake."""

    limit: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Beyond it: 429 with Retry-After."""
    wait: Annotated[Duration, Field(ge=0, le=3600)] = 60.0
    """Longer: 503 with Retry-After."""
    per_replica: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Requests that a replica is given at once. None: as many as the engine says it runs, else no limit."""


class Ejection(Frozen):
    """A replica that fails is left out for a while, which doubles each time up to ten times as long."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """In a row: connections refused, 5xx before the first byte, broken off."""
    seconds: Annotated[Duration, Field(gt=0, le=3600)] = 10.0
    share_max: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of the replicas, so many at most: with all of them out nobody would be served."""


class Routing(Frozen):
    policy: PolicyName = PolicyName.AUTO
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """On other replicas, and never after the first byte."""
    hedge: Annotated[Duration, Field(gt=0, le=600)] | None = None
    """Ask a second replica too when the first has not begun to answer after so long; the slower one is cancelled.
    None: never."""
    ttft: Annotated[Duration, Field(gt=0, le=600)] | None = None
    """Objective that `slo` keeps where it can."""
    timeouts: Timeouts = Timeouts()
    holding: Holding = Holding()
    ejection: Ejection = Ejection()
    weights: Annotated[dict[str, Annotated[float, Field(gt=0, le=1000)]], Field(max_length=1000)] = {}
    """Of clients (names of tokens or keys) for fairness; 1 for those not named."""


if TYPE_CHECKING:
    Address = ModelName = Source = str
else:
    Address = matching(r"^https?://[A-Za-z0-9.\[\]:_-]{1,253}(/[!-~]{0,200})?$", "a URL such as http://10.0.0.5:8000")
    ModelName = matching(
        r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$", "a model's name of at most 128 letters, digits and ._:/@-"
    )
    Source = matching(
        r"^(/|[a-z0-9-]+:/|(hf|s3|oci|ollama|model)://).{1,1000}$",
        "a folder in the sandbox such as /models/x, VOLUME:/path, model://NAME, or hf://, s3://, oci://, ollama://, https://",
    )
Option = str | int | float | bool


def as_command(value: Any) -> Any:
    """Text is for the shell of the image."""
    return ["/bin/sh", "-c", value] if isinstance(value, str) else value


class ServiceSpec(Demand):
    """What a user may declare of a service."""

    name: Name | None = None
    """None: we choose a free one."""
    engine: EngineName = EngineName.COMMAND
    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """None: the engine's."""
    command: Annotated[Command | None, BeforeValidator(as_command)] = None
    """None: the engine's, or with `command` the image's own."""
    prepare: Annotated[list[Annotated[Command, BeforeValidator(as_command)]], Field(max_length=32)] = []
    """Commands that are run before it, in order, in the same sandbox; one that fails fails the replica."""
    model: Source | None = None
    models: Annotated[list[ModelName], Field(max_length=MODELS_MAX)] = []
    """What clients give as `model`. Empty: the service's name."""
    adapters: Annotated[dict[ModelName, Source], Field(max_length=MODELS_MAX)] = {}
    """LoRA: what clients give as `model` -> where it is."""
    options: Annotated[dict[Annotated[str, Field(max_length=64)], Option], Field(max_length=OPTIONS_MAX)] = {}
    """The engine's, by the names of its own options without dashes."""
    addresses: Annotated[list[Address], Field(max_length=ADDRESSES_MAX)] = []
    """Servers that are there already and are not ours to start: routes lead to them, and there are no sandboxes."""
    roles: dict[Role, Annotated[int, Field(ge=0, le=REPLICAS_MAX)]] = {}
    """How many replicas of which role; empty: all do both."""
    port: Port | None = None
    """None: the engine's."""
    replicas: Annotated[int, Field(ge=0, le=REPLICAS_MAX)] = 1
    """Where `scaling` is not given."""
    scaling: Scaling | None = None
    health: HealthCheck | None = None
    """None: the engine's; with `command` healthy means that somebody listens on the port."""
    routing: Routing = Routing()
    strategy: Strategy = Strategy()
    drain: Annotated[Duration, Field(ge=0, le=86_400)] = 60.0
    """Seconds that a replica has for what it has begun before it is stopped."""
    public: bool = False
    """Whether everybody who reaches the gateway may use it; else it takes a token or a key."""
    fork: bool = False
    """Start replicas from a checkpoint of the first of their revision that was healthy: its disk, with what `prepare`
    has done, which is not run again."""
    cpu: Cpu = 1.0
    """Of each replica, as all that follows."""
    memory: Memory = 1 * GIB
    disk: Disk = 10 * GIB
    pids: Pids = 1024
    env: Env = {}
    workdir: Annotated[str, Field(max_length=4096)] | None = None
    user: User | None = None
    mounts: Mounts = []
    secrets: Secrets = []
    network: Network = Network()
    networks: Annotated[list[Join], Field(max_length=JOINS_MAX)] = []
    queue: Name = QUEUE_DEFAULT
    tier: Tier = Tier.PRODUCTION
    priority: Priority = PRIORITY_DEFAULT
    placement: PlacementRules = PlacementRules()
    labels: Labels = {}

    @model_validator(mode="after")
    def _has_something_to_run(self) -> ServiceSpec:
        if self.addresses and (self.image or self.command or self.scaling or self.prepare or self.fork):
            say = "addresses: servers that are there already have no image, command, prepare, scaling or fork"
            raise ValueError(say)
        if not self.addresses and self.engine is EngineName.COMMAND and self.image is None:
            raise ValueError("image: engine command needs one")
        if not self.addresses and self.engine is EngineName.COMMAND and self.port is None:
            raise ValueError("port: engine command needs one")
        if self.scaling is not None and self.roles:
            raise ValueError("scaling and roles: give one of them")
        return self

    @property
    def restarts(self) -> dict[str, Any]:
        """Of what is declared that by which replicas differ: when it changes there is a new revision."""
        kept = {"name", "replicas", "scaling", "routing", "strategy", "drain", "public", "fork", "labels", "roles"}
        return self.model_dump(mode="json", exclude=kept)


class Health(StrEnum):
    PROVISIONING = "provisioning"  # not yet
    HEALTHY = "healthy"
    DEGRADED = "degraded"  # of a service: it serves, with fewer than wanted; of a replica: left out for a while
    UNHEALTHY = "unhealthy"


class ServiceState(StrEnum):
    ACTIVE = "active"
    DELETING = "deleting"
    DELETED = "deleted"


_S = ServiceState
SERVICE_MOVES: Moves[ServiceState] = {(_S.ACTIVE, _S.DELETING): "api", (_S.DELETING, _S.DELETED): "settle"}
SERVICE_FINAL = frozenset({_S.DELETED})


class Slot(StrEnum):
    PRODUCTION = "production"
    STAGING = "staging"  # a revision that has not been promoted: a canary's, or the other colour


class Replica(Frozen):
    """A replica, as the API shows it."""

    sandbox: str
    name: str
    node: str | None = None
    revision: int
    role: Role = Role.BOTH
    slot: Slot = Slot.PRODUCTION
    state: S
    health: Health
    reason: str | None = None
    weight: float = 0.0
    """Share of the traffic, 0 to 1; 0: none."""
    draining: bool = False
    in_flight: int = 0
    restarts: int = 0
    created_at: datetime


class Revision(Frozen):
    service: str
    """Id."""
    number: int
    spec: ServiceSpec
    image_digest: str | None = None
    command: list[str] | None = None
    """The image's own, as it was then, where the spec gives none."""
    volumes: dict[str, str] = {}
    created_at: datetime
    reason: str = ""


class StartDisk(Frozen):
    """A checkpoint that replicas start from; where it is gone they start from the image."""

    checkpoint: str
    """Its id."""
    tries: int = 1
    """How often one was asked for."""
    retry_at: datetime | None = None
    """It could not be made: when another is asked for. None: never."""


class Signals(Frozen):
    """What gateways have seen of a service in the last seconds, over all of them."""

    in_flight: int = 0
    waiting: int = 0
    requests_per_s: float = 0.0
    tokens_per_s: float = 0.0
    ttft_p50_s: float | None = None
    ttft_p95_s: float | None = None
    ttft_p99_s: float | None = None
    tpot_p95_s: float | None = None
    errors_per_s: float = 0.0
    cache_use: float | None = None
    """Of its engines' KV caches, 0 to 1, the mean of its replicas at the gateway that sees most. None: none told."""


class Service(Frozen):
    """The record, and what is filled in on reading."""

    id: str
    project: str
    owner: str = ""
    name: str
    state: ServiceState
    spec: ServiceSpec
    """Of the newest revision."""
    revision: int = 1
    """The one that it is to be: most often the newest."""
    serving: int = 1
    """The revision in production: another one while that is rolled out, or stands in staging."""
    rollout: RolloutStatus | None = None
    """From `serving` to `revision`. None: they are one."""
    wanted: int = 1
    """Replicas: as declared, or as the autoscaler has it."""
    wanted_reason: str = ""
    unknown: str | None = None
    """Of which targets of its autoscaler nothing is known, and why: there are never fewer replicas because of that."""
    starts_s: list[float] = []
    """How long each of the last new replicas took from when it was made until it was healthy, the newest last."""
    made: int = 0
    """Replicas made so far: the number of the newest."""
    failures: int = 0
    """Replicas in a row that were lost before they were ever healthy."""
    failure: str | None = None
    """Why the newest of them was lost."""
    retry_at: datetime | None = None
    """None is made before."""
    checkpoints: dict[int, StartDisk] = {}
    """Revision -> what its replicas start from, with `fork`."""
    image_digest: str | None = None
    volumes: dict[str, str] = {}
    reason: str | None = None
    status: Health = Health.PROVISIONING
    """Can it serve."""
    ready: int = 0
    """Replicas that are healthy and in production."""
    ever_healthy: bool = False
    replicas: list[Replica] = []
    signals: Signals | None = None
    url: str | None = None
    operation: str | None = None
    created_at: datetime
    updated_at: datetime


class ScaleRequest(Frozen):
    replicas: Annotated[int, Field(ge=0, le=REPLICAS_MAX)] | None = None
    """Of one that is not scaled by itself."""
    role: Role | None = None
    """Of which role, where it has several."""
    minimum: Annotated[int, Field(ge=0, le=REPLICAS_MAX)] | None = None
    """Of one that is scaled by itself, as the next."""
    maximum: Annotated[int, Field(ge=1, le=REPLICAS_MAX)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ScaleRequest:
        bounds = self.minimum is not None or self.maximum is not None
        if (self.replicas is None) is not bounds:
            raise ValueError("give replicas, or minimum and maximum of a service that is scaled by itself")
        return self
