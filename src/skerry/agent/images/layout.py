"""OCI image layouts on disk: what an image says of itself, which of several is this machine's, how we write our own.

Every image, wherever it comes from, becomes such a layout with one manifest, and the image's digest is that manifest's.
Images made here (recipe, commit) get a canonical manifest: one uncompressed tar layer, JSON with sorted keys and no
spaces, no dates; so the same files and config have the same digest whenever and wherever they are made.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from skerry.errors import Invalid, NotFound, TooLarge
from skerry.model.image import ImageConfig

LAYERS_MAX = 128
DOCUMENT_BYTES_MAX = 8 * 1024 * 1024
"""Largest manifest, index or config; real ones are a few KiB."""
INDEX_DEPTH_MAX = 3
REFERENCE_NAME = "org.opencontainers.image.ref.name"

OCI = "application/vnd.oci.image."
MANIFEST = OCI + "manifest.v1+json"
INDEX = OCI + "index.v1+json"
CONFIG = OCI + "config.v1+json"
LAYER = OCI + "layer.v1.tar"
_DOCKER = "application/vnd.docker."
_LAYERS = {
    *(LAYER + packing for packing in ("", "+gzip", "+zstd")),
    *(_DOCKER + "image.rootfs.diff.tar" + packing for packing in ("", ".gzip", ".zstd")),
}
_PACKED = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}
_GO_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Platform(_Document):
    architecture: str = ""
    os: str = ""


class Descriptor(_Document):
    media_type: str = Field("", alias="mediaType")
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    size: int = Field(ge=0)
    platform: Platform | None = None


class Manifest(_Document):
    media_type: str = Field("", alias="mediaType")
    config: Descriptor
    layers: list[Descriptor]


class Index(_Document):
    manifests: list[Descriptor]


class _Process(_Document):
    env: list[str] | None = Field(None, alias="Env")
    working_dir: str | None = Field(None, alias="WorkingDir")
    user: str | None = Field(None, alias="User")
    entrypoint: list[str] | None = Field(None, alias="Entrypoint")
    cmd: list[str] | None = Field(None, alias="Cmd")


class _Files(_Document):
    diff_ids: list[str]


class ConfigDocument(_Document):
    architecture: str = ""
    os: str = ""
    config: _Process | None = None
    rootfs: _Files

    @field_validator("config", mode="before")
    @classmethod
    def _absent(cls, value: Any) -> Any:
        return value or None

    def check_machine(self) -> None:
        """Raises Invalid for an image of another system or processor; one that says nothing passes."""
        mine = ("linux", architecture())
        if (self.os or mine[0], self.architecture or mine[1]) != mine:
            raise Invalid(f"the image is for {self.os}/{self.architecture}, this machine is {'/'.join(mine)}")

    def image_config(self) -> ImageConfig:
        process = self.config or _Process.model_validate({})
        pairs = (line.partition("=") for line in process.env or [])
        return ImageConfig(
            env={key: value for key, _, value in pairs if key and "\0" not in key + value},
            workdir=process.working_dir or None,
            user=process.user or None,
            entrypoint=process.entrypoint or [],
            cmd=process.cmd or [],
        )


def architecture() -> str:
    """This machine's, in the words OCI uses."""
    machine = platform.machine()
    return _GO_ARCHITECTURE.get(machine, machine)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical(document: dict[str, Any] | list[Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def is_index(raw: bytes) -> bool:
    """Whether this document lists images for several machines rather than being one image."""
    try:
        document: Any = json.loads(raw)
    except ValueError:
        raise Invalid("the image's manifest is not JSON") from None
    if not isinstance(document, dict):
        raise Invalid("the image's manifest is not a JSON object")
    if document.get("schemaVersion") == 1:  # pyright: ignore[reportUnknownMemberType]
        raise Invalid("the image has the old schema 1 format; push it again with a tool of this decade")
    return "manifests" in document


def read_manifest(raw: bytes) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise Invalid("this is not the manifest of a container image", because=str(error)) from None
    if len(manifest.layers) > LAYERS_MAX:
        raise TooLarge(f"the image has {len(manifest.layers)} layers; at most {LAYERS_MAX} are allowed")
    for layer in manifest.layers:
        if layer.media_type not in _LAYERS:
            raise Invalid(f"the image has a layer of type {layer.media_type[:100]!r}, which is not a file system layer")
    return manifest


def read_config(raw: bytes) -> ConfigDocument:
    try:
        return ConfigDocument.model_validate_json(raw)
    except ValidationError as error:
        raise Invalid("the image's config is not that of a container image", because=str(error)) from None


def choose(index_raw: bytes, what: str) -> Descriptor:
    """The one image of an index that is for this machine; raises NotFound or, if several fit, Invalid."""
    try:
        listed = Index.model_validate_json(index_raw).manifests
    except ValidationError as error:
        raise Invalid(f"{what} has a damaged index", because=str(error)) from None
    mine = [
        one
        for one in listed
        if one.platform is None or (one.platform.os, one.platform.architecture) == ("linux", architecture())
    ]
    if not mine:
        raise NotFound(f"{what} has no image for linux/{architecture()}")
    if len({one.digest for one in mine if one.platform is None}) > 1:
        raise Invalid(f"{what} holds {len(mine)} images; save one image per archive")
    return mine[0]


class Layout:
    """One layout folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def blob_path(self, digest: str) -> Path:
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def read_blob(self, digest: str) -> bytes:
        path = self.blob_path(digest)
        try:
            with path.open("rb") as file:
                data = file.read(DOCUMENT_BYTES_MAX + 1)
        except FileNotFoundError:
            raise Invalid(f"the archive lacks blob {digest}, which it refers to") from None
        if len(data) > DOCUMENT_BYTES_MAX:
            raise TooLarge(f"blob {digest} is larger than a manifest or config may be ({DOCUMENT_BYTES_MAX} bytes)")
        return data

    def write_blob(self, data: bytes) -> str:
        digest = digest_of(data)
        self.blob_path(digest).write_bytes(data)
        return digest

    def create(self) -> None:
        (self.folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (self.folder / "oci-layout").write_bytes(canonical({"imageLayoutVersion": "1.0.0"}))

    def find(self, what: str) -> str:
        """Digest of the manifest for this machine, however deep in the indexes."""
        path = self.folder / "index.json"
        if not path.exists() or path.stat().st_size > DOCUMENT_BYTES_MAX:
            raise Invalid(f"{what} has no index.json of a sensible size")
        chosen = choose(path.read_bytes(), what)
        for _ in range(INDEX_DEPTH_MAX):
            raw = self.read_blob(chosen.digest)
            if not is_index(raw):
                return chosen.digest
            chosen = choose(raw, what)
        raise Invalid(f"{what} has indexes nested more than {INDEX_DEPTH_MAX} deep")

    def point_at(self, tag: str, digest: str) -> None:
        """Make index.json hold this one manifest under `tag`."""
        entry: dict[str, Any] = {"mediaType": MANIFEST, "digest": digest, "size": self.blob_path(digest).stat().st_size}
        entry["annotations"] = {REFERENCE_NAME: tag}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
        (self.folder / "index.json").write_bytes(canonical(index))

    def relabel(self, manifest_digest: str) -> str:
        """The same image under a manifest that names what its layers really are; the digest of that one."""
        manifest = read_manifest(self.read_blob(manifest_digest))
        layers = [(layer_type(self.blob_path(one.digest)), one.digest, one.size) for one in manifest.layers]
        return self.write_image(self.read_blob(manifest.config.digest), layers)

    def write_image(self, config_raw: bytes, layers: list[tuple[str, str, int]]) -> str:
        """Manifest blob over a config and layers (media type, digest, size); returns its digest."""
        config = self.write_blob(config_raw)
        return self.write_blob(manifest_document(config, len(config_raw), layers))


def manifest_document(config_digest: str, config_size: int, layers: list[tuple[str, str, int]]) -> bytes:
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config_digest, "size": config_size},
            "layers": [{"mediaType": kind, "digest": digest, "size": size} for kind, digest, size in layers],
        }
    )


def config_document(config: ImageConfig, diff_ids: Sequence[str]) -> bytes:
    """The canonical config of an image made here, with the layers whose tars have these digests."""
    process = {
        "Env": [f"{key}={value}" for key, value in sorted(config.env.items())],
        "WorkingDir": config.workdir,
        "User": config.user,
        "Entrypoint": config.entrypoint,
        "Cmd": config.cmd,
    }
    return canonical(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": {key: value for key, value in process.items() if value},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        }
    )


def layer_type(blob: Path) -> str:
    """The OCI media type by what the blob really is: labels are Docker's or wrong (skopeo calls all layers gzip)."""
    with blob.open("rb") as file:
        begins = file.read(4)
    return LAYER + next((packing for magic, packing in _PACKED.items() if begins.startswith(magic)), "")
