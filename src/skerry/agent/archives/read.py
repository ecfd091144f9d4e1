"""An archive that came from anywhere: every byte of it is accounted for before any of it is used, or none is."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from skerry.agent.images.archive import Form, extract, members_of
from skerry.agent.images.layout import Descriptor, Layout, read_manifest
from skerry.agent.images.progress import Step
from skerry.agent.images.unpack import check_config
from skerry.agent.images.work import Job
from skerry.errors import Invalid
from skerry.model.archive import FORMAT, SANDBOX_MEDIA_TYPE, ArchivedSandbox

_KIND = SANDBOX_MEDIA_TYPE.partition(".v")[0]


@dataclass(frozen=True)
class Layer:
    kind: str
    digest: str
    size_bytes: int
    diff_id: str


@dataclass(frozen=True)
class Received:
    """Verified, and in the job's layout."""

    document: ArchivedSandbox
    base: str
    """Digest of the manifest of the image's disk."""
    layers: list[Layer]
    """On top of that: one to each checkpoint, then one to the disk."""


async def read_archive(archive: Path, job: Job) -> Received:
    """Into the job's layout; the archive is used up. Raises Invalid in one sentence."""
    with archive.open("rb") as file:
        members = await asyncio.to_thread(lambda: list(members_of(file, Form.SANDBOX)))
        by_name = {member.name: member for member in members}
        if len(by_name) < len(members):
            raise Invalid("the archive holds something twice")
        for name in ("oci-layout", "index.json"):
            if name not in by_name:
                raise Invalid(f"the archive has no {name}; {Form.SANDBOX.value}")
        await extract(file, by_name, "", job, _silent)
    archive.unlink()
    return await asyncio.to_thread(_verify, job.layout)


def _silent(step: Step, done_bytes: int | None, total_bytes: int | None) -> None:
    """Who sends has only to wait."""


def _verify(layout: Layout) -> Received:
    document = _document(layout)
    if document.base is None or document.disk is None:
        raise Invalid("the archive does not say which disks it holds")
    base = _disk(layout, document.base)
    below = base
    layers: list[Layer] = []
    for manifest in [*(checkpoint.manifest for checkpoint in document.checkpoints), document.disk]:
        if manifest is None:
            raise Invalid("the archive lacks the disk of a checkpoint")
        disk = _disk(layout, manifest)
        if disk[:-1] != below:
            raise Invalid("the archive's disks are not one on top of the other")
        layers.append(disk[-1])
        below = disk
    if not base:
        raise Invalid("the archive's image has no layer")
    return Received(document, document.base, layers)


def _document(layout: Layout) -> ArchivedSandbox:
    found = [one for one in _index(layout) if one.media_type.startswith(_KIND)]
    if not found:
        raise Invalid("this archive holds no sandbox; an image is read by: skerry image upload")
    if len(found) > 1:
        raise Invalid("the archive holds several sandboxes; one is expected")
    _check_size(layout, found[0])
    raw = layout.read_blob(found[0].digest)
    try:
        told: Any = json.loads(raw)["format"]
    except (ValueError, TypeError, KeyError):
        raise Invalid("the archive's document of the sandbox names no format") from None
    if found[0].media_type != SANDBOX_MEDIA_TYPE or told != FORMAT:
        raise Invalid(f"the archive has format {str(told)[:20]}; this Skerry reads format {FORMAT}")
    try:
        return ArchivedSandbox.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise Invalid(
            f"the archive's sandbox is not one that this Skerry knows: {where}: {first['msg']}", because=str(error)
        ) from None


def _index(layout: Layout) -> list[Descriptor]:
    try:
        body: Any = json.loads((layout.folder / "index.json").read_bytes())
        return [Descriptor.model_validate(one) for one in body["manifests"]]
    except (ValueError, TypeError, KeyError) as error:
        raise Invalid("the archive has a damaged index", because=str(error)) from None


def _disk(layout: Layout, manifest_digest: str) -> list[Layer]:
    """Its layers, all of which are there in their whole size."""
    manifest = read_manifest(layout.read_blob(manifest_digest))
    _check_size(layout, manifest.config)
    diff_ids = check_config(layout, manifest_digest).rootfs.diff_ids
    for layer in manifest.layers:
        _check_size(layout, layer)
    return [
        Layer(one.media_type, one.digest, one.size, diff_id)
        for one, diff_id in zip(manifest.layers, diff_ids, strict=True)
    ]


def _check_size(layout: Layout, blob: Descriptor) -> None:
    path = layout.blob_path(blob.digest)
    if not path.exists():
        raise Invalid(f"the archive lacks blob {blob.digest}, which it refers to")
    if path.stat().st_size != blob.size:
        raise Invalid(f"the archive is damaged: blob {blob.digest} has another size than it should")
