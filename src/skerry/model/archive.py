"""A sandbox in a file: what an archive says of the sandbox whose disks it holds, so that it can be one elsewhere."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from skerry.model.checkpoint import Origin
from skerry.model.fields import Frozen, Name
from skerry.model.image import ImageName
from skerry.model.sandbox import SandboxSpec

FORMAT = 1
SANDBOX_MEDIA_TYPE = f"application/vnd.skerry.sandbox.v{FORMAT}+json"
BASE, DISK = "base", "disk"
"""Names in the archive of the image's disk and of the sandbox's as it was; a checkpoint's is v1, v2, …"""
ARCHIVED_CHECKPOINTS_MAX = 126
"""With the image's layer and that of the disk these are 128 layers, the most that tools for images take."""

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class ArchivedImage(Frozen):
    """What its disk began from."""

    name: ImageName
    digest: Digest


class ArchivedCheckpoint(Frozen):
    number: Annotated[int, Field(ge=1, le=999_999_999)]
    origin: Origin
    comment: Annotated[str, Field(max_length=1024)]
    spec: SandboxSpec
    created_at: datetime
    frozen_ms: float | None = None
    manifest: Digest | None = None
    """Of its disk; None until that is written."""

    @property
    def title(self) -> str:
        return f"v{self.number}"


class ArchivedSandbox(Frozen):
    """The document of an archive. Whoever knows its digest knows the digest of everything in the archive."""

    format: int = FORMAT
    skerry: str
    """Version that wrote it."""
    sandbox: str
    """Id that it had."""
    name: Name
    spec: SandboxSpec
    """Its env stands here in clear."""
    running: bool
    """Whether it was wanted running."""
    parent: str | None = None
    source_checkpoint: str | None = None
    image: ArchivedImage
    needs: list[str] = []
    """What the spec names that is no part of an archive, in words, for people."""
    checkpoints: Annotated[list[ArchivedCheckpoint], Field(max_length=ARCHIVED_CHECKPOINTS_MAX)] = []
    created_at: datetime
    started_at: datetime
    exported_at: datetime
    base: Digest | None = None
    disk: Digest | None = None
    """Manifests of the image's disk and of its own; None until they are written."""

    @model_validator(mode="after")
    def _numbers_rise(self) -> ArchivedSandbox:
        numbers = [checkpoint.number for checkpoint in self.checkpoints]
        if numbers != sorted(set(numbers)):
            raise ValueError("checkpoints: their numbers must rise")
        return self


def needs_of(spec: SandboxSpec) -> list[str]:
    """What a server must have for this spec besides the image."""
    needs = [
        f"{f'volume {mount.volume}' if mount.volume else f'host folder {mount.source}'} for {mount.target}"
        for mount in spec.mounts
    ]
    needs += [f"network {join.name}, address {join.address or 'any'}" for join in spec.networks]
    needs += [f"secret {use.name}" for use in spec.secrets]
    return needs + [f"port {port} of the server for {port.guest}" for port in spec.ports]


class ArchiveOrder(Frozen):
    """To an agent: write it."""

    document: ArchivedSandbox
    checkpoints: list[str]
    """Ids of the document's checkpoints, in their order."""


class Drop(StrEnum):
    """Fields of the spec that may be left behind."""

    PORTS = "ports"
    MOUNTS = "mounts"
    NETWORKS = "networks"
    SECRETS = "secrets"


class ImportRequest(Frozen):
    """How the sandbox of an archive is to be here."""

    name: Name | None = None
    """None: the one it had."""
    start: bool | None = None
    """None: as it was."""
    drop: list[Drop] = []


class ImportOrder(Frozen):
    """To an agent that has received an archive: make its disks, by these names."""

    checkpoints: list[str]
    hostname: str
    renew_identity: bool
    """The disk gets a machine-id of its own and loses its host keys: it is a copy of one that is here."""


class ImportPending(Frozen):
    """On an agent: received or made, and neither kept nor given up."""

    sandbox_id: str
    checkpoints: list[str] = []
    image_digest: str | None = None
    """If it brought the image."""
