"""From a layout to a tree of files, by umoci, which applies whiteouts and keeps every path inside the tree."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from skerry.agent.commands import run, running
from skerry.agent.images.layout import LAYER, ConfigDocument, Layout, layer_type, read_config, read_manifest
from skerry.agent.images.progress import Progress, Step, watched
from skerry.agent.images.tool_errors import from_local
from skerry.agent.images.work import LAYOUT, RETRY_AFTER_S, TAG, Job
from skerry.errors import Invalid, NoRoom

POLL_S = 0.2
CHECK_BYTES = 64 * 1024 * 1024
# Every id of a sandbox, as itself. An id beyond has no place here, and umoci says so.
_IDS = ("--uid-map", "0:0:65536", "--gid-map", "0:0:65536")

CELL = "cell/root"
# umoci 0.4.7 takes a whiteout named ".wh..." to mean "delete the folder above". In a mount namespace of its own, where
# the tree is mounted alone in an empty folder, there is nothing above, and a mounted folder cannot be deleted.
_CONTAIN = (
    *("unshare", "--mount", "--propagation=private"),
    *("sh", "-c", f'mount --bind "$0" {CELL} && exec "$@"'),
)


class Unpacker:
    def __init__(self, room: Callable[[], Awaitable[tuple[int, int]]], reserve_bytes: int) -> None:
        self._room = room
        self._reserve_bytes = reserve_bytes

    async def unpack(self, job: Job, manifest_digest: str, target: Path, progress: Progress) -> None:
        """The image's files into `target`, on top of what is there."""
        total_bytes = await self._prepare(job, manifest_digest)
        pids: list[int] = []

        async def look() -> None:
            await self._check_room()
            for pid in pids:
                progress(Step.UNPACK, min(_bytes_read(pid), total_bytes), total_bytes)

        target.chmod(0o755)  # for images whose layers say nothing of "/"
        progress(Step.UNPACK, 0, total_bytes)
        (job.folder / CELL).mkdir(parents=True, exist_ok=True)
        command = [*_CONTAIN, str(target), "umoci", "--log=error", "raw", "unpack", *_IDS]
        command += ["--image", f"{LAYOUT}:{TAG}", CELL]
        work = run(command, environment=job.environment, folder=job.folder, on_start=pids.append)
        ran = await watched(work, look, POLL_S)
        if ran.code != 0:
            raise from_local(ran.stderr, "the image's layers cannot be unpacked")
        progress(Step.UNPACK, total_bytes, total_bytes)

    async def _check_room(self) -> None:
        # A small layer may unpack to terabytes; those who run in the pool must not notice.
        _, free_bytes = await self._room()
        if free_bytes < self._reserve_bytes:
            raise NoRoom("the pool is too full for this image", retry_after_s=RETRY_AFTER_S)

    async def _prepare(self, job: Job, manifest_digest: str) -> int:
        """Point the layout's index at a manifest that umoci can read; returns the bytes of its layers."""
        layout = job.layout
        manifest = read_manifest(layout.read_blob(manifest_digest))
        diff_ids = check_config(layout, manifest_digest).rootfs.diff_ids
        layers: list[tuple[str, str, int]] = []
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
            blob = layout.blob_path(layer.digest)
            if not blob.exists():
                raise Invalid(f"the archive lacks layer {layer.digest}")
            kind, digest, size = layer_type(blob), layer.digest, layer.size
            if kind.endswith("+zstd"):
                kind, digest, size = LAYER, diff_id, await _decompress(job, blob, diff_id)
            layers.append((kind, digest, size))
        config_raw = layout.read_blob(manifest.config.digest)
        layout.point_at(TAG, layout.write_image(config_raw, layers))
        return sum(size for _, _, size in layers)


def check_config(layout: Layout, manifest_digest: str) -> ConfigDocument:
    """What the image says of itself; raises Invalid if it is for another kind of machine or contradicts itself."""
    manifest = read_manifest(layout.read_blob(manifest_digest))
    config = read_config(layout.read_blob(manifest.config.digest))
    config.check_machine()
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise Invalid("the image's config and manifest do not agree about its layers")
    return config


async def _decompress(job: Job, blob: Path, diff_id: str) -> int:
    """A zstd layer as plain tar, since umoci 0.4 reads gzip only; its digest is the one the config promises."""
    target = job.layout.blob_path(diff_id)
    digest = hashlib.sha256()
    size_bytes = unchecked_bytes = 0
    async with running(["zstd", "-dc", "--", str(blob)], environment=job.environment) as program:
        with target.open("wb") as file:
            async for chunk in program.chunks():
                digest.update(chunk)
                file.write(chunk)
                size_bytes += len(chunk)
                unchecked_bytes += len(chunk)
                if unchecked_bytes > CHECK_BYTES:
                    unchecked_bytes = 0
                    await job.check()
        code, stderr = await program.wait()
    if code != 0:
        raise from_local(stderr, "a layer of the image cannot be decompressed")
    if f"sha256:{digest.hexdigest()}" != diff_id:
        raise Invalid("a layer of the image is not what its config promises")
    return size_bytes


def _bytes_read(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("rchar: "):
                return int(line.removeprefix("rchar: "))
    return 0
