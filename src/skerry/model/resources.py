"""What work asks of a machine and what a machine has: cores, memory, disk, accelerators, and more."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from skerry.model.fields import Frozen, Labels, Size, matching

GPU_MILLI = 1000
"""One whole device; shares are whole thousandths of it."""
GPUS_MAX = 4096
EXTRAS_MAX = 16
TERMS_MAX = 32
VALUES_MAX = 64

if TYPE_CHECKING:
    Kind = str
    LabelKey = str
else:
    Kind = matching(r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$", "a kind of accelerator such as h100, in lower case")
    LabelKey = matching(r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$", "a label's name, 1 to 63 characters")
LabelValue = Annotated[str, Field(max_length=256)]
Topology = LabelKey
"""What counts as one place: `node`, or the label of nodes that names their rack, zone or switch."""


def _gpu(value: float) -> float:
    milli = round(value * GPU_MILLI)
    if value and (milli == 0 or not math.isclose(milli / GPU_MILLI, value, abs_tol=1e-9)):
        raise ValueError("expected whole thousandths of a device, such as 0.125")
    if value > 1 and value != int(value):
        raise ValueError("expected a share of one device, such as 0.5, or a whole number of devices")
    return value


def _extras(extras: dict[str, int]) -> dict[str, int]:
    for name, count in extras.items():
        if not re.fullmatch(r"[a-z0-9]([a-z0-9./-]{0,61}[a-z0-9])?", name):
            raise ValueError(f"{name[:70]!r}: expected a name such as licenses or fpga")
        if not 0 <= count <= 2**40:
            raise ValueError(f"{name}: {count} is not allowed; give 0 to {2**40}")
    return extras


Gpu = Annotated[float, Field(ge=0, le=GPUS_MAX), AfterValidator(_gpu)]
"""Devices: a share of one, such as 0.5, or a whole number."""
Extras = Annotated[dict[str, int], Field(max_length=EXTRAS_MAX), AfterValidator(_extras)]
"""Whatever else nodes are set up to count, by name."""


class Accelerator(Frozen):
    """Devices of one kind on a node."""

    kind: Kind
    count: Annotated[int, Field(ge=1, le=64)]
    memory: Annotated[Size, Field(ge=0, le=2**50)] = 0
    """Bytes of each; 0: not known, and then memory is not shared out."""
    link_size: Annotated[int, Field(ge=1, le=64)] | None = None
    """How many, in the order of their numbers, share a fast link (NVLink) with each other. None: all of the node."""


def _groups(value: Any) -> Any:
    return [[each] if isinstance(each, str) else each for each in value] if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]


DevicePath = Annotated[str, Field(max_length=256, pattern=r"^/dev(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$")]


class AcceleratorSetting(Accelerator):
    """What a machine's settings say of its devices: also by which files of /dev a sandbox uses them."""

    paths: Annotated[
        list[Annotated[list[DevicePath], Field(max_length=8)]], Field(max_length=64), BeforeValidator(_groups)
    ] = []
    """For each device, in the order of their numbers, its file or its files. Empty: no sandbox is given any."""
    shared: Annotated[list[DevicePath], Field(max_length=8)] = []
    """Files that go with every one of them, such as /dev/nvidiactl."""

    @model_validator(mode="after")
    def _paths_are_of_each(self) -> AcceleratorSetting:
        if self.paths and len(self.paths) != self.count:
            raise ValueError(f"paths: there are {self.count} devices; give the files of each, or of none")
        if self.shared and not self.paths:
            raise ValueError("shared: goes with paths, the files of each device")
        return self


class Amounts(Frozen):
    """Of a quota. A resource that is not named is not limited, or not guaranteed."""

    cpu: Annotated[float, Field(ge=0, le=10_000_000)] | None = None
    memory: Annotated[Size, Field(ge=0, le=2**60)] | None = None
    gpu: Annotated[float, Field(ge=0, le=10_000_000)] | None = None
    """Of any kind, shares added up."""
    gpu_kinds: Annotated[dict[Kind, Annotated[float, Field(ge=0, le=10_000_000)]], Field(max_length=EXTRAS_MAX)] = {}
    """Of one kind."""
    extras: Extras = {}


class Total(Frozen):
    """Of what nodes have, or of what work has of them: counted, never kept."""

    cpu: float = 0.0
    memory_bytes: int = 0
    gpu: float = 0.0
    """Of any kind, shares added up."""
    gpu_kinds: dict[str, float] = {}
    extras: dict[str, int] = {}

    def __add__(self, other: Total) -> Total:
        return Total(
            cpu=self.cpu + other.cpu,
            memory_bytes=self.memory_bytes + other.memory_bytes,
            gpu=self.gpu + other.gpu,
            gpu_kinds=_added(self.gpu_kinds, other.gpu_kinds),
            extras=_added(self.extras, other.extras),
        )


def _added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted({*one, *other})}


def _values(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Selector = Annotated[
    dict[LabelKey, Annotated[list[LabelValue], Field(max_length=VALUES_MAX), BeforeValidator(_values)]],
    Field(max_length=TERMS_MAX),
]
"""Label -> the values allowed, one of which a node must have. `[]`: any value. A value that begins with `!` is one that
it must not have, and `!` alone says that it must not have the label."""


def selects(selector: Mapping[str, Sequence[str]], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels is among those that are meant."""
    return all(_is_allowed(values, labels.get(key)) for key, values in selector.items())


def _is_allowed(values: Sequence[str], has: str | None) -> bool:
    if "!" in values:
        return has is None
    wanted = [value for value in values if not value.startswith("!")]
    if wanted or not values:
        return has is not None and (not values or has in wanted) and f"!{has}" not in values
    return f"!{has}" not in values


class Affinity(Frozen):
    """A wish to be, or not to be, where sandboxes with these labels are."""

    labels: Labels
    """All of which the others have."""
    topology: Topology = "node"
    required: bool = True
    """False: only preferred."""


class Spread(Frozen):
    """Evenly over places, among sandboxes with these labels."""

    labels: Labels = {}
    """Of those that are counted. Empty: the other members of its gang or its job."""
    topology: Topology = "node"
    skew: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many more the fullest place may have than the emptiest."""
    required: bool = False


class PlacementRules(Frozen):
    """Where work may run, besides where it fits."""

    nodes: Selector = {}
    arch: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")] | None = None
    """Machine architecture such as x86_64 or aarch64. None: its image's, which is the server's own."""
    tolerations: Annotated[list[Annotated[str, Field(max_length=320)]], Field(max_length=TERMS_MAX)] = []
    """Taints it may run beside: KEY=VALUE, or KEY for whatever value, or `*`."""
    near: Annotated[list[Affinity], Field(max_length=TERMS_MAX)] = []
    away: Annotated[list[Affinity], Field(max_length=TERMS_MAX)] = []
    spread: Annotated[list[Spread], Field(max_length=TERMS_MAX)] = []
    together: Topology | None = None
    """All members of a gang in one such place, such as one rack. None: wherever they fit."""


GpuKinds = Annotated[list[Kind], Field(max_length=VALUES_MAX), BeforeValidator(_values)]
GpuMemory = Annotated[Size, Field(ge=0, le=2**50)]


class Demand(Frozen):
    """Fields that sandboxes and jobs share: what beyond cores, memory and disk they ask for."""

    gpu: Gpu = 0.0
    """Accelerators: a share of one device, such as 0.5, or whole devices."""
    gpu_kind: GpuKinds = []
    """Kinds it runs on, such as h100. Empty: any."""
    gpu_memory: GpuMemory | None = None
    """Bytes of memory on each device. None: its share of what the device has."""
    extras: Extras = {}

    @model_validator(mode="after")
    def _memory_is_of_something(self) -> Demand:
        if not self.gpu and (self.gpu_kind or self.gpu_memory):
            raise ValueError("gpu_kind and gpu_memory go with gpu, how many devices or what share of one")
        return self
