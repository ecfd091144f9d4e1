"""What a run is: where to, with what data, under what load. The command line's flags and files of plans become this."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, model_validator

from skerry.bench.contract import Api
from skerry.model.fields import Duration, Frozen

REQUESTS_MAX = 10_000_000
USERS_MAX = 100_000
RATE_MAX = 1_000_000.0
WORKERS_MAX = 256
SCENARIOS_MAX = 64

Rate = Annotated[float, Field(gt=0, le=RATE_MAX)]


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


class Data(Frozen):
    kind: DataKind = DataKind.SYNTHETIC
    path: Annotated[str, Field(max_length=4096)] | None = None
    prompt_column: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Of rows. None: the first there is of the usual names."""
    input_tokens: str = "256"
    """Of each turn, as `data/lengths.py` reads them."""
    output_tokens: str = "128"
    turns: str = "1"
    think: Annotated[Duration, Field(ge=0, le=86_400)] = 0.0
    """Mean seconds between turns."""
    prefix_tokens: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    prefix_groups: Annotated[int, Field(ge=1, le=10_000)] = 1
    zipf: Annotated[float, Field(ge=0, le=10)] = 0.0
    image_sizes: Annotated[list[Annotated[str, Field(pattern=r"^[0-9]{1,5}x[0-9]{1,5}$")]], Field(max_length=16)] = []
    """Pictures of each turn, such as 512x512."""
    sound: str | None = None
    """Seconds of sound in each turn, as lengths are written; for transcriptions."""
    documents: str | None = None
    """For rerank: how many are put in order, as lengths are written, each as long as the query. None: one."""
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Of this scenario among several."""
    name: Annotated[str, Field(max_length=64)] = ""
    limit: Annotated[int, Field(ge=1, le=REQUESTS_MAX)] | None = None
    """Conversations to take from it."""
    repeat: bool = False
    """A file that ends begins anew, except by the times of a trace. Servers that cache prefixes find repeated ones."""

    @model_validator(mode="after")
    def _has_its_file(self) -> Data:
        if (self.kind is DataKind.SYNTHETIC) != (self.path is None):
            raise ValueError("path: goes with every kind of data but synthetic, which has none")
        return self


class Arrival(StrEnum):
    CONSTANT = "constant"
    POISSON = "poisson"
    GAMMA = "gamma"


class Step(Frozen):
    duration: Annotated[Duration, Field(gt=0, le=604_800)]
    rate: Rate
    to: Rate | None = None
    """Where it ends, linearly. None: as it began."""


class Fluctuation(Frozen):
    period: Annotated[Duration, Field(gt=0, le=86_400)]
    depth: Annotated[float, Field(gt=0, le=1)] = 0.5


class LoadPlan(Frozen):
    """One of: `rate`, `steps`, `concurrency`, `trace`."""

    rate: Rate | None = None
    """Conversations that begin per second: an open loop, which does not wait for answers."""
    steps: Annotated[list[Step], Field(max_length=1000)] = []
    arrival: Arrival = Arrival.POISSON
    burstiness: Annotated[float, Field(gt=0, le=1e9)] = 1.0
    """Of `gamma`: less than 1 burstier than Poisson, more than 1 calmer."""
    fluctuation: Fluctuation | None = None
    concurrency: Annotated[int, Field(ge=1, le=USERS_MAX)] | None = None
    """Users, each of whom asks again when it has its answer: a closed loop."""
    ramp: Annotated[Duration, Field(ge=0, le=86_400)] = 0.0
    """Users begin over so many seconds."""
    trace: bool = False
    """At the times that the data has."""
    scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Of a trace: 2 is twice as quick."""
    in_flight_max: Annotated[int, Field(ge=1, le=USERS_MAX)] | None = None
    duration: Annotated[Duration, Field(gt=0, le=604_800)] | None = None
    requests: Annotated[int, Field(ge=1, le=REQUESTS_MAX)] | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> LoadPlan:
        given = [self.rate is not None, bool(self.steps), self.concurrency is not None, self.trace]
        if sum(given) != 1:
            raise ValueError("give exactly one of rate, steps, concurrency and trace")
        if self.steps and self.duration is not None:
            raise ValueError("duration: steps have their own")
        if self.duration is None and self.requests is None and not self.steps and not self.trace:
            raise ValueError("give duration or requests: without them it would never end")
        return self


class Records(StrEnum):
    JSONL = "jsonl"
    PARQUET = "parquet"


class Plan(Frozen):
    url: Annotated[str, Field(max_length=2048)] = ""
    engine: Annotated[str, Field(max_length=256)] | None = None
    """In the place of `url`: called in this process, as `MODULE:OBJECT` or by the name of a plug-in."""
    socket: Annotated[str, Field(max_length=108)] | None = None
    model: Annotated[str, Field(min_length=1, max_length=256)]
    api: Api = Api.CHAT
    stream: bool = True
    headers: dict[str, str] = {}
    verify: bool = True
    """The certificate of an https server."""
    ca: Annotated[str, Field(max_length=4096)] | None = None
    """File of the authorities that may have signed it. None: those that this machine trusts."""
    tokenizer: Annotated[str, Field(max_length=4096)] | None = None
    ignore_eos: bool = True
    extra: dict[str, Any] = {}
    """Merged into every body."""
    data: Annotated[list[Data], Field(min_length=1, max_length=SCENARIOS_MAX)] = [Data()]
    load: LoadPlan
    warmup: Annotated[Duration, Field(ge=0, le=86_400)] = 0.0
    """Seconds at the beginning that are not counted."""
    warmup_requests: Annotated[int, Field(ge=0, le=REQUESTS_MAX)] = 0
    """Nor so many that were sent first."""
    cooldown: Annotated[Duration, Field(ge=0, le=86_400)] = 0.0
    timeout: Annotated[Duration, Field(gt=0, le=86_400)] = 600.0
    drain: Annotated[Duration, Field(ge=0, le=86_400)] | None = None
    """What has not ended so long after the last was sent is cancelled. None: all may end."""
    workers: Annotated[int, Field(ge=1, le=WORKERS_MAX)] = 1
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    slo: Annotated[str, Field(max_length=1000)] = ""
    metrics_url: Annotated[str, Field(max_length=2048)] | None = None
    """Of the server, in Prometheus' text format, read each second beside."""
    cost_per_hour: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Of all that serves: tells what a million tokens cost."""
    keep_text: bool = False
    records: Records = Records.JSONL
    """The form in which each request is kept in the folder of the run."""

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Plan:
        if bool(self.url) == (self.engine is not None):
            raise ValueError("give one of url, service and engine")
        return self


@dataclass(frozen=True)
class Run:
    name: str
    plan: Plan


@dataclass(frozen=True)
class Campaign:
    runs: tuple[Run, ...]
    repeat: int
