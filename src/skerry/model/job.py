"""A job: work that ends. One task or many, each of one sandbox or of a gang of them that start together."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, field_serializer, model_validator

from skerry.model.fields import Command, Duration, Env, Frozen, GuestPath, Labels, Name, User, matching
from skerry.model.identity import QUEUE_DEFAULT
from skerry.model.moves import Moves
from skerry.model.network import JOINS_MAX, Join
from skerry.model.resources import Demand, PlacementRules
from skerry.model.sandbox import GIB, Cpu, Disk, Memory, Mounts, Network, Pids
from skerry.model.secret import Secrets
from skerry.model.tier import PRIORITY_DEFAULT, Priority, Tier
from skerry.model.usage import Used

TASKS_MAX = 100_000
MEMBERS_MAX = 4096
SWEEP_PARAMETERS_MAX = 16
SWEEP_VALUES_MAX = 10_000
DEPENDENCIES_MAX = 64
NOTIFICATIONS_MAX = 16
RETRIES_MAX = 1000
PORT_DEFAULT = 29_400
"""Where the first member of a gang listens for the others; torchrun's own default is 29500 or 29400."""


class JobState(StrEnum):
    BLOCKED = "blocked"  # waits for jobs that it depends on
    PENDING = "pending"  # in its queue; no task of it has started
    RUNNING = "running"
    CANCELLING = "cancelling"  # what runs of it is being stopped
    SUCCEEDED = "succeeded"  # every task has
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # what it depends on ended otherwise than it wanted


_S = JobState
JOB_MOVES: Moves[JobState] = {
    (_S.BLOCKED, _S.PENDING): "depend",
    (_S.BLOCKED, _S.SKIPPED): "depend",
    (_S.PENDING, _S.RUNNING): "advance",
    (_S.PENDING, _S.FAILED): "advance",
    (_S.RUNNING, _S.SUCCEEDED): "advance",
    (_S.RUNNING, _S.FAILED): "advance",
    (_S.CANCELLING, _S.CANCELLED): "advance",
    (_S.CANCELLING, _S.FAILED): "advance",
    **{(was, _S.CANCELLING): "api" for was in (_S.BLOCKED, _S.PENDING, _S.RUNNING)},
}
JOB_FINAL = frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELLED, _S.SKIPPED})


class TaskState(StrEnum):
    PENDING = "pending"  # to be started: its sandboxes wait in the queue, or are not made yet
    RUNNING = "running"  # all its members do
    STOPPING = "stopping"  # one member has ended, or it is cancelled, or its place was taken: the rest is being stopped
    BACKING_OFF = "backing-off"  # has failed and will be tried again at `starts_at`
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_T = TaskState
TASK_MOVES: Moves[TaskState] = {
    (_T.PENDING, _T.RUNNING): "advance",
    (_T.PENDING, _T.STOPPING): "advance",
    (_T.PENDING, _T.CANCELLED): "advance",
    (_T.PENDING, _T.FAILED): "advance",
    (_T.RUNNING, _T.STOPPING): "advance",
    (_T.STOPPING, _T.SUCCEEDED): "advance",
    (_T.STOPPING, _T.FAILED): "advance",
    (_T.STOPPING, _T.CANCELLED): "advance",
    (_T.STOPPING, _T.BACKING_OFF): "advance",
    (_T.STOPPING, _T.PENDING): "advance",
    (_T.BACKING_OFF, _T.PENDING): "advance",
    (_T.BACKING_OFF, _T.CANCELLED): "advance",
}
TASK_FINAL = frozenset({_T.SUCCEEDED, _T.FAILED, _T.CANCELLED})


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    FINISHED = "finished"  # however it ended


class Dependency(Frozen):
    job: Annotated[str, Field(min_length=1, max_length=128)]
    """Name or id."""
    outcome: Outcome = Outcome.SUCCEEDED


class Retry(Frozen):
    """Of a task, all its members together."""

    limit: Annotated[int, Field(ge=0, le=RETRIES_MAX)] = 0
    """Tries after the first. Those whose place was taken, or whose machine was lost, do not count."""
    on: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(max_length=256)] = []
    """Exit codes after which it is tried again. Empty: any but 0."""
    backoff_s: Annotated[Duration, Field(ge=0, le=86_400)] = 5.0
    """Before the first; doubled for each that follows."""
    backoff_s_max: Annotated[Duration, Field(ge=0, le=86_400)] = 600.0


class When(StrEnum):
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    FINISHED = "finished"  # however it ended
    RETRYING = "retrying"
    PREEMPTED = "preempted"


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


if TYPE_CHECKING:
    HttpAddress = str
else:
    HttpAddress = matching(r"^https?://.+$", "an address that begins with http:// or https://")


class Notification(Frozen):
    """Exactly one of `webhook` and `slack`."""

    webhook: Annotated[HttpAddress, Field(max_length=2048)] | None = None
    """Gets a POST of JSON, signed with `secret` as X-Skerry-Signature: t=SECONDS,v1=HMAC-SHA256 of `SECONDS.BODY`."""
    slack: Annotated[HttpAddress, Field(max_length=2048)] | None = None
    """Incoming webhook of Slack, or of what takes the same: gets {"text": …}."""
    secret: Name | None = None
    """Name of a secret."""
    on: Annotated[list[When], Field(max_length=16), BeforeValidator(_one_or_many)] = [When.FINISHED]

    @model_validator(mode="after")
    def _goes_to_one(self) -> Notification:
        if (self.webhook is None) == (self.slack is None):
            raise ValueError("give exactly one of webhook and slack")
        return self


def _command(value: Any) -> Any:
    """Text is for the shell of the image."""
    return ["/bin/sh", "-c", value] if isinstance(value, str) else value


def _array(value: Any) -> Any:
    """5 -> 0 to 4; "3-7", "1-9:2", "1,4,8" as Slurm writes them."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    if isinstance(value, int):
        return list(range(min(max(value, 0), TASKS_MAX + 1)))
    found: list[int] = []
    for part in value.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?\s*", part)
        if not match:
            raise ValueError("expected a number of tasks, or indices such as 0-9, 1-9:2 or 1,4,8")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or step < 1:
            raise ValueError(f"{part.strip()}: the last index is not before the first, and a step is at least 1")
        found.extend(range(first, min(last + 1, first + (TASKS_MAX + 1) * step), step))
    return found


def as_ranges(array: list[int]) -> str:
    """[0, 1, 2, 8] -> "0-2,8", in the order given."""
    parts: list[str] = []
    first = last = array[0]
    for index in [*array[1:], -1]:
        if index != last + 1:
            parts.append(str(first) if first == last else f"{first}-{last}")
            first = index
        last = index
    return ",".join(parts)


Parameter = str | int | float | bool
ParameterName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
RESERVED_PARAMETERS = frozenset({"index", "rank", "attempt", "job", "task"})


class JobSpec(Demand):
    """What a user may declare of a job. `{index}`, `{rank}`, `{attempt}`, `{job}` and the names of a sweep's parameters
    stand for their values in command, environment, workdir and hostnames; any other brace stays as it is."""

    name: Name | None = None
    """None: we choose a free one. A name is free again when the job that had it has ended."""
    image: Annotated[str, Field(min_length=1, max_length=512)]
    command: Annotated[Command, BeforeValidator(_command)]
    """A list is run as it is; text is run by /bin/sh."""
    queue: Name = QUEUE_DEFAULT
    tier: Tier = Tier.BEST_EFFORT
    priority: Priority = PRIORITY_DEFAULT
    nodes: Annotated[int, Field(ge=1, le=MEMBERS_MAX)] = 1
    """Members of each task: sandboxes that start together, on as many nodes as it takes."""
    nodes_min: Annotated[int, Field(ge=1, le=MEMBERS_MAX)] | None = None
    """Members without whom a task does not start. None: all."""
    array: Annotated[
        Annotated[list[Annotated[int, Field(ge=0, le=999_999_999)]], Field(min_length=1, max_length=TASKS_MAX)] | None,
        BeforeValidator(_array),
    ] = None
    """Indices of its tasks. None: a single one, of index 0."""
    sweep: Annotated[
        dict[ParameterName, Annotated[list[Parameter], Field(min_length=1, max_length=SWEEP_VALUES_MAX)]],
        Field(max_length=SWEEP_PARAMETERS_MAX),
    ] = {}
    """A task for each combination of these values, the last parameter varying first."""
    parallel: Annotated[int, Field(ge=1, le=TASKS_MAX)] | None = None
    """Tasks that run or wait in the queue at once. None: as many as the server allows."""
    fail_fast: bool = False
    """The first task that fails for good cancels the others."""
    cpu: Cpu = 1.0
    """Of each member, as all that follows."""
    memory: Memory = 1 * GIB
    disk: Disk = 10 * GIB
    pids: Pids = 1024
    env: Env = {}
    workdir: GuestPath | None = None
    user: User | None = None
    mounts: Mounts = []
    output: Name | None = None
    """A volume that all members have at /output; SKERRY_OUTPUT is the folder in it that is the task's own."""
    secrets: Secrets = []
    network: Network = Network()
    networks: Annotated[list[Join], Field(max_length=JOINS_MAX - 1)] = []
    """Besides the one of its gang."""
    placement: PlacementRules = PlacementRules()
    port: Annotated[int, Field(ge=1, le=65_535)] = PORT_DEFAULT
    """MASTER_PORT."""
    retry: Retry = Retry()
    timeout: Annotated[Duration, Field(ge=1, le=31_536_000)] | None = None
    """Seconds that one try of a task may run; then it has failed, with code 124."""
    max_duration: Annotated[Duration, Field(ge=1, le=31_536_000)] | None = None
    """Seconds that one try of a task is expected to take at most, and may: what the queue plans with. None: the
    queue's; without either nothing is said of when it ends."""
    grace_s: Annotated[Duration, Field(ge=0, le=3600)] = 30.0
    """Between SIGTERM and SIGKILL, when it is cancelled, out of time, or has to make room."""
    depends_on: Annotated[list[Dependency], Field(max_length=DEPENDENCIES_MAX)] = []
    notify: Annotated[list[Notification], Field(max_length=NOTIFICATIONS_MAX)] = []
    keep_s: Annotated[Duration, Field(ge=0, le=31_536_000)] = 0.0
    """How long its sandboxes stay, stopped, after the task has ended. 0: they go at once; output and logs stay."""
    labels: Labels = {}

    @model_validator(mode="after")
    def _tasks_are_counted(self) -> JobSpec:
        if self.array is not None and len(set(self.array)) != len(self.array):
            raise ValueError("array: an index is given twice")
        for name in self.sweep:
            if name in RESERVED_PARAMETERS:
                raise ValueError(
                    f"sweep.{name}: this name is taken; taken are {', '.join(sorted(RESERVED_PARAMETERS))}"
                )
        if self.array is not None and self.sweep:
            raise ValueError("array and sweep: give one of them")
        if self.task_count > TASKS_MAX:
            raise ValueError(f"sweep: {self.task_count} combinations are too many; at most {TASKS_MAX} are allowed")
        if self.nodes_min is not None and self.nodes_min > self.nodes:
            raise ValueError("nodes_min: at most as many as nodes")
        return self

    @field_serializer("array")
    def _as_ranges(self, array: list[int] | None) -> str | None:
        """As text: a hundred thousand indices need not be a hundred thousand numbers in every answer."""
        return None if array is None else as_ranges(array)

    @property
    def task_count(self) -> int:
        if self.array is not None:
            return len(self.array)
        count = 1
        for values in self.sweep.values():
            count *= len(values)
        return count

    @property
    def indices(self) -> list[int]:
        return self.array if self.array is not None else list(range(self.task_count))

    def parameters(self, index: int) -> dict[str, Parameter]:
        """Of a sweep's task."""
        chosen: dict[str, Parameter] = {}
        for name, values in reversed(self.sweep.items()):
            index, at = divmod(index, len(values))
            chosen[name] = values[at]
        return dict(reversed(chosen.items()))


class Member(Frozen):
    """One sandbox of one try of a task."""

    rank: int
    sandbox: str | None = None
    """Id, while it is there."""
    node: str | None = None
    exit_code: int | None = None
    ended: bool = False


class Task(Frozen):
    """The record of one task of a job."""

    job: str
    index: int
    project: str
    state: TaskState
    attempt: int = 0
    """Counts tries from 0; those whose place was taken count here too."""
    failures: int = 0
    """Tries that failed by themselves: what `retry.limit` counts."""
    members: list[Member] = []
    outcome: TaskState | None = None
    """While it is STOPPING: what it is going to be."""
    reason: str | None = None
    exit_code: int | None = None
    """Of the first member that ended otherwise than with 0; 0 if none did."""
    starts_at: datetime | None = None
    """While it is BACKING_OFF."""
    started_at: datetime | None = None
    """Of this try."""
    ended_at: datetime | None = None
    created_at: datetime
    updated_at: datetime

    @property
    def id(self) -> str:
        """Of its job and in it, for who waits for a change of it."""
        return f"{self.job}/{self.index}"


class Progress(Frozen):
    """How many of a job's tasks are in which state."""

    total: int
    pending: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


class Job(Frozen):
    """The record, and what is filled in on reading."""

    id: str
    project: str
    owner: str = ""
    """Name of the key by which it was submitted: the user, for shares and quotas."""
    name: str
    state: JobState
    spec: JobSpec
    image_digest: str | None = None
    network: str | None = None
    """Name of the private network of its gangs."""
    volumes: dict[str, str] = {}
    reason: str | None = None
    outcome: JobState | None = None
    """While it is CANCELLING: FAILED where `fail_fast` does it."""
    progress: Progress | None = None
    used: Used | None = None
    """What its sandboxes have held so far; filled in where one job is read."""
    operation: str | None = None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None


class CancelRequest(Frozen):
    reason: Annotated[str, Field(max_length=1000)] = ""
    indices: Annotated[list[int], Field(max_length=TASKS_MAX)] = []
    """Tasks of it. Empty: all."""
