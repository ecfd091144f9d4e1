"""What a run is: where to, with what data, under what load. The command line's flags and files of plans become this.

Dataclasses, which `reading.py` has pydantic read by the limits that stand here: who sends holds a plan all the time,
and pydantic would be 12 MiB of the 55 that it weighs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le, MaxLen, MinLen

from skerry.bench.contract import Api

REQUESTS_MAX = 10_000_000
USERS_MAX = 100_000
RATE_MAX = 1_000_000.0
WORKERS_MAX = 256
SCENARIOS_MAX = 64
PICTURE = re.compile(r"[0-9]{1,5}x[0-9]{1,5}")


class Declared:
    """What pydantic reads, and tells of fields in it that are not known."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


class _Time:
    """Seconds, or `30s`, `10m`, `2h`."""

    def __get_pydantic_core_schema__(self, kind: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core.core_schema import no_info_before_validator_function

        from skerry.model.fields import parse_duration

        return no_info_before_validator_function(parse_duration, handler(kind))


Duration = Annotated[float, _Time()]
Rate = Annotated[float, Gt(0), Le(RATE_MAX)]


class DataKind(StrEnum):
    SYNTHETIC = "synthetic"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"
    HF = "hf"  # a folder of Hugging Face's datasets
    SHAREGPT = "sharegpt"
    LOG = "log"
    MOONCAKE = "mooncake"
    AZURE = "azure"  # and any CSV with when, tokens in, tokens out
    BAILIAN = "bailian"


@dataclass(frozen=True, kw_only=True)
class Data(Declared):
    kind: DataKind = DataKind.SYNTHETIC
    path: Annotated[str, MaxLen(4096)] | None = None
    prompt_column: Annotated[str, MinLen(1), MaxLen(256)] | None = None
    """Of rows. None: the first there is of the usual names."""
    input_tokens: str = "256"
    """Of each turn, as `data/lengths.py` reads them."""
    output_tokens: str = "128"
    turns: str = "1"
    think: Annotated[Duration, Ge(0), Le(86_400)] = 0.0
    """Mean seconds between turns."""
    prefix_tokens: Annotated[int, Ge(0), Le(1_000_000)] = 0
    prefix_groups: Annotated[int, Ge(1), Le(10_000)] = 1
    zipf: Annotated[float, Ge(0), Le(10)] = 0.0
    image_sizes: Annotated[list[str], MaxLen(16)] = field(default_factory=list[str])
    """Pictures of each turn, such as 512x512."""
    sound: str | None = None
    """Seconds of sound in each turn, as lengths are written; for transcriptions."""
    documents: str | None = None
    """For rerank: how many are put in order, as lengths are written, each as long as the query. None: one."""
    weight: Annotated[float, Gt(0), Le(1e6)] = 1.0
    """Of this scenario among several."""
    name: Annotated[str, MaxLen(64)] = ""
    limit: Annotated[int, Ge(1), Le(REQUESTS_MAX)] | None = None
    """Conversations to take from it."""
    repeat: bool = False
    """A file that ends begins anew, except by the times of a trace. Servers that cache prefixes find repeated ones."""

    def __post_init__(self) -> None:
        if (self.kind is DataKind.SYNTHETIC) != (self.path is None):
            raise ValueError("path: goes with every kind of data but synthetic, which has none")
        if wrong := [size for size in self.image_sizes if not PICTURE.fullmatch(size)]:
            raise ValueError(f"image_sizes: {wrong[0][:60]!r} is not allowed; give WIDTHxHEIGHT such as 512x512")


class Arrival(StrEnum):
    CONSTANT = "constant"
    POISSON = "poisson"
    GAMMA = "gamma"


@dataclass(frozen=True, kw_only=True)
class Step(Declared):
    duration: Annotated[Duration, Gt(0), Le(604_800)]
    rate: Rate
    to: Rate | None = None
    """Where it ends, linearly. None: as it began."""


@dataclass(frozen=True, kw_only=True)
class Fluctuation(Declared):
    period: Annotated[Duration, Gt(0), Le(86_400)]
    depth: Annotated[float, Gt(0), Le(1)] = 0.5


@dataclass(frozen=True, kw_only=True)
class LoadPlan(Declared):
    """One of: `rate`, `steps`, `concurrency`, `trace`."""

    rate: Rate | None = None
    """Conversations that begin per second: an open loop, which does not wait for answers."""
    steps: Annotated[list[Step], MaxLen(1000)] = field(default_factory=list[Step])
    arrival: Arrival = Arrival.POISSON
    burstiness: Annotated[float, Gt(0), Le(1e9)] = 1.0
    """Of `gamma`: less than 1 burstier than Poisson, more than 1 calmer."""
    fluctuation: Fluctuation | None = None
    concurrency: Annotated[int, Ge(1), Le(USERS_MAX)] | None = None
    """Users, each of whom asks again when it has its answer: a closed loop."""
    ramp: Annotated[Duration, Ge(0), Le(86_400)] = 0.0
    """Users begin over so many seconds."""
    trace: bool = False
    """At the times that the data has."""
    scale: Annotated[float, Gt(0), Le(1e6)] = 1.0
    """Of a trace: 2 is twice as quick."""
    in_flight_max: Annotated[int, Ge(1), Le(USERS_MAX)] | None = None
    duration: Annotated[Duration, Gt(0), Le(604_800)] | None = None
    requests: Annotated[int, Ge(1), Le(REQUESTS_MAX)] | None = None

    def __post_init__(self) -> None:
        given = [self.rate is not None, bool(self.steps), self.concurrency is not None, self.trace]
        if sum(given) != 1:
            raise ValueError("give exactly one of rate, steps, concurrency and trace")
        if self.steps and self.duration is not None:
            raise ValueError("duration: steps have their own")
        if self.duration is None and self.requests is None and not self.steps and not self.trace:
            raise ValueError("give duration or requests: without them it would never end")


class Records(StrEnum):
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True, kw_only=True)
class Plan(Declared):
    url: Annotated[str, MaxLen(2048)] = ""
    engine: Annotated[str, MaxLen(256)] | None = None
    """In the place of `url`: called in this process, as `MODULE:OBJECT` or by the name of a plug-in."""
    socket: Annotated[str, MaxLen(108)] | None = None
    model: Annotated[str, MinLen(1), MaxLen(256)]
    api: Api = Api.CHAT
    stream: bool = True
    headers: dict[str, str] = field(default_factory=dict[str, str])
    verify: bool = True
    """The certificate of an https server."""
    ca: Annotated[str, MaxLen(4096)] | None = None
    """File of the authorities that may have signed it. None: those that this machine trusts."""
    tokenizer: Annotated[str, MaxLen(4096)] | None = None
    ignore_eos: bool = True
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    """Merged into every body."""
    data: Annotated[list[Data], MinLen(1), MaxLen(SCENARIOS_MAX)] = field(default_factory=lambda: [Data()])
    load: LoadPlan
    warmup: Annotated[Duration, Ge(0), Le(86_400)] = 0.0
    """Seconds at the beginning that are not counted."""
    warmup_requests: Annotated[int, Ge(0), Le(REQUESTS_MAX)] = 0
    """Nor so many that were sent first."""
    cooldown: Annotated[Duration, Ge(0), Le(86_400)] = 0.0
    timeout: Annotated[Duration, Gt(0), Le(86_400)] = 600.0
    drain: Annotated[Duration, Ge(0), Le(86_400)] | None = None
    """What has not ended so long after the last was sent is cancelled. None: all may end."""
    workers: Annotated[int, Ge(1), Le(WORKERS_MAX)] = 1
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0
    slo: Annotated[str, MaxLen(1000)] = ""
    metrics_url: Annotated[str, MaxLen(2048)] | None = None
    """Of the server, in Prometheus' text format, read each second beside."""
    cost_per_hour: Annotated[float, Gt(0), Le(1e6)] | None = None
    """Of all that serves: tells what a million tokens cost."""
    keep_text: bool = False
    records: Records = Records.JSONL
    """The form in which each request is kept in the folder of the run."""

    def __post_init__(self) -> None:
        if bool(self.url) == (self.engine is not None):
            raise ValueError("give one of url, service and engine")


@dataclass(frozen=True)
class Run:
    name: str
    plan: Plan


@dataclass(frozen=True)
class Campaign:
    runs: tuple[Run, ...]
    repeat: int
