"""A volume: a folder with a name and a size of its own, which several sandboxes may mount, and which outlives them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from skerry.model.fields import Frozen, Labels, Name, Size
from skerry.model.moves import Moves
from skerry.model.sandbox import GIB, MIB

SIZE_DEFAULT = 10 * GIB
VolumeSize = Annotated[Size, Field(ge=16 * MIB, le=16 * 1024 * GIB)]


class VolumeState(StrEnum):
    CREATING = "creating"
    READY = "ready"
    RESIZING = "resizing"  # its machine is being told of another size; it is used as ever
    FAILED = "failed"  # could not be made; `reason` says why
    DELETING = "deleting"
    DELETED = "deleted"


_S = VolumeState
VOLUME_MOVES: Moves[VolumeState] = {
    (_S.CREATING, _S.READY): "create",
    (_S.CREATING, _S.FAILED): "create",
    (_S.RESIZING, _S.READY): "resize",
    (_S.DELETING, _S.DELETED): "delete",
    (_S.READY, _S.RESIZING): "api",
    **{(was, _S.DELETING): "api" for was in (_S.CREATING, _S.READY, _S.RESIZING, _S.FAILED)},
}

USABLE = frozenset({_S.READY, _S.RESIZING})
"""States in which a volume may be mounted and copied."""
UNDER_WAY = frozenset({_S.CREATING, _S.RESIZING, _S.DELETING})


class VolumeRequest(Frozen):
    name: Name
    size: VolumeSize | None = None
    """What may be written to it: bytes, or text such as 20GiB. None: 10GiB, or the size of its source."""
    labels: Labels = {}
    source: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Name or id of a volume to begin as a copy of, which takes no time and no room. None: empty."""
    readonly: bool = False
    """A snapshot: its source as it is at this moment, which nobody changes."""

    @model_validator(mode="after")
    def _snapshot_is_of_something(self) -> VolumeRequest:
        if self.readonly and self.source is None:
            raise ValueError("readonly: nothing could ever be written to it; name the volume to copy as source")
        if self.readonly and self.size is not None:
            raise ValueError("size: nothing is written to a read-only volume; leave its size out")
        return self


class VolumeUpdate(Frozen):
    size: VolumeSize | None = None
    """Not less than what it holds."""
    labels: Labels | None = None
    """In place of all that it has."""


class Volume(Frozen):
    """The record, and what is filled in on reading."""

    id: str
    project: str
    name: str
    state: VolumeState
    size_bytes: int
    resize_bytes: int | None = None
    """What its size is to become, while it is RESIZING."""
    labels: Labels = {}
    readonly: bool = False
    source: str | None = None
    """Id of the volume that it began as a copy of."""
    reason: str | None = None
    """Why it FAILED, or why its size could not be changed."""
    node: str | None = None
    operation: str | None = None
    used_by: list[str] = []
    """Names of the sandboxes that mount it, whatever their state; filled in on reading."""
    used_bytes: int | None = None
    """What was written to it, as of some seconds ago; filled in on reading, None while its machine does not answer."""
    created_at: datetime
    updated_at: datetime
