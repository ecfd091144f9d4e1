"""An image as an OCI archive that skopeo, podman and docker take: one gzipped layer made from its tree."""

from __future__ import annotations

import asyncio
import hashlib
import tarfile
import zlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from skerry.agent.commands import CHUNK_BYTES
from skerry.agent.images.layout import LAYER, canonical, config_document
from skerry.agent.images.tree_tar import tar_of_tree
from skerry.agent.images.unpack import CHECK_BYTES
from skerry.agent.images.work import Job
from skerry.model.image import ImageConfig

GZIP_LEVEL = 1
"""Half the time of level 6 for a tenth more bytes."""
_GZIP_FORMAT = 31
_BLOCK = 512


@dataclass(frozen=True)
class Archive:
    """A finished layout, as the tar it will be: names with their files, and the size of the whole."""

    parts: list[tuple[str, Path]]
    size_bytes: int

    async def stream(self) -> AsyncGenerator[bytes, None]:
        for name, path in self.parts:
            yield _header(name, path.stat().st_size)
            with path.open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    yield chunk
            yield bytes(-path.stat().st_size % _BLOCK)
        yield bytes(2 * _BLOCK)


async def build_archive(tree: Path, config: ImageConfig, name: str, job: Job) -> Archive:
    """Write the layer first, since index.json, which names its digest, comes before it in the tar."""
    layout = job.layout
    layout.create()
    diff_id, digest, size_bytes = await _write_layer(tree, job)
    config_raw = config_document(config, [diff_id])
    manifest = layout.write_image(config_raw, [(LAYER + "+gzip", digest, size_bytes)])
    layout.point_at(name, manifest)
    blobs = sorted(path for path in (layout.folder / "blobs" / "sha256").iterdir())
    # `docker load` before version 25 reads only this file.
    config_name = f"blobs/sha256/{hashlib.sha256(config_raw).hexdigest()}"
    layer_name = f"blobs/sha256/{digest.removeprefix('sha256:')}"
    for_docker = [{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]
    (layout.folder / "manifest.json").write_bytes(canonical(for_docker))
    names = ["oci-layout", "index.json", "manifest.json", *(f"blobs/sha256/{path.name}" for path in blobs)]
    return archive_of(layout.folder, names)


def archive_of(folder: Path, names: Sequence[str]) -> Archive:
    """Of files below `folder`, in this order."""
    parts = [(name, folder / name) for name in names]
    sizes = [(one, path.stat().st_size) for one, path in parts]
    padded_bytes = sum(len(_header(one, size)) + size + -size % _BLOCK for one, size in sizes)
    return Archive(parts, padded_bytes + 2 * _BLOCK)


def _header(name: str, size_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


async def _write_layer(tree: Path, job: Job) -> tuple[str, str, int]:
    """(digest of the tar, digest of the gzip, bytes of the gzip)."""
    packer = _Packer(job.folder / "layer.tar.gz")
    unchecked_bytes = 0
    try:
        async with aclosing(tar_of_tree(tree, job.environment)) as chunks:
            async for chunk in chunks:
                await asyncio.to_thread(packer.write, chunk)
                unchecked_bytes += len(chunk)
                if unchecked_bytes > CHECK_BYTES:
                    unchecked_bytes = 0
                    await job.check()
    finally:
        packer.close()
    digest = f"sha256:{packer.packed.hexdigest()}"
    (job.folder / "layer.tar.gz").rename(job.layout.blob_path(digest))
    return f"sha256:{packer.plain.hexdigest()}", digest, packer.size_bytes


class _Packer:
    """Compresses into a file and knows the digests on both sides."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._gzip = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
        self.plain = hashlib.sha256()
        self.packed = hashlib.sha256()
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        self.plain.update(chunk)
        self._put(self._gzip.compress(chunk))

    def close(self) -> None:
        self._put(self._gzip.flush())
        self._file.close()

    def _put(self, packed: bytes) -> None:
        self.packed.update(packed)
        self.size_bytes += len(packed)
        self._file.write(packed)
