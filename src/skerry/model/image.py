"""An image: a read-only disk that sandboxes start from, known by the digest of its content and by names."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from skerry.model.fields import Frozen
from skerry.model.moves import Moves


class ImageState(StrEnum):
    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


_S = ImageState
IMAGE_MOVES: Moves[ImageState] = {
    (_S.CREATING, _S.READY): "create",
    (_S.CREATING, _S.FAILED): "create",
    (_S.DELETING, _S.DELETED): "delete",
    (_S.CREATING, _S.DELETING): "api",
    (_S.READY, _S.DELETING): "api",
    (_S.FAILED, _S.DELETING): "api",
}

_IMAGE_NAME = re.compile(r"^[a-z0-9][a-z0-9._/-]{0,199}(:[A-Za-z0-9_][A-Za-z0-9._-]{0,63})?$")
_PACKAGE = re.compile(r"^[a-z0-9][a-z0-9+.-]{1,99}$")


def image_name(name: str) -> str:
    """`debian` -> `debian:latest`; raises ValueError for anything that is not NAME[:TAG]."""
    if not _IMAGE_NAME.fullmatch(name) or ".." in name or "//" in name:
        raise ValueError("expected an image name such as debian:12 or team/tools:2026-11")
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def _source(source: str) -> str:
    if not re.fullmatch(r"docker://[A-Za-z0-9][A-Za-z0-9._:/@-]{0,500}", source):
        raise ValueError("expected docker://[HOST[:PORT]/]NAME[:TAG|@DIGEST]; send archives with upload")
    return source


def _packages(names: list[str]) -> list[str]:
    for name in names:
        if not _PACKAGE.fullmatch(name):
            raise ValueError(f"{name[:50]!r} is not a Debian package name")
    return names


ImageName = Annotated[str, AfterValidator(image_name)]


class ImageSource(Frozen):
    """Where an image comes from: exactly one of source (a registry) and recipe (built here)."""

    source: Annotated[str, AfterValidator(_source)] | None = None
    recipe: Literal["debian:12", "debian:bookworm", "debian:13", "debian:trixie"] | None = None
    include: Annotated[list[str], Field(max_length=256), AfterValidator(_packages)] = []
    """Packages to put in besides the minimal set; with recipe only."""
    insecure: bool = False
    """Allow plain HTTP to the registry; refused unless its host is this machine's loopback."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.source is None) == (self.recipe is None):
            raise ValueError("give exactly one of source and recipe")
        if self.include and self.recipe is None:
            raise ValueError("include goes with recipe")
        return self


class ImageRequest(ImageSource):
    name: ImageName


class ImageConfig(Frozen):
    """What the image says about itself, used where a sandbox's spec is silent."""

    env: dict[str, str] = {}
    workdir: str | None = None
    user: str | None = None
    entrypoint: list[str] = []
    cmd: list[str] = []


class Image(Frozen):
    id: str
    project: str
    name: str
    state: ImageState
    source: str
    """`docker://…`, `recipe:debian:12`, `upload`, `sandbox:ID`, `archive` (came with a sandbox)."""
    include: list[str] = []
    insecure: bool = False
    digest: str | None = None
    """sha256 of the OCI manifest it was unpacked from; two names of one digest share one disk."""
    size_bytes: int | None = None
    config: ImageConfig = ImageConfig()
    reason: str | None = None
    node: str | None = None
    operation: str | None = None
    users: int = 0
    """Sandboxes whose disk began from it; filled in on reading."""
    created_at: datetime
    updated_at: datetime
