"""What image tests stand on: a runtime that is only folders, images made by hand, and a real registry on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

from skerry.agent.images.progress import Step
from skerry.agent.images.store import ImageLimits, ImageStore
from skerry.errors import NotFound
from skerry.runtime.contract import Runtime

MEDIA = "application/vnd.oci.image."
GIB = 1024**3


class FolderRuntime:
    """The part of a runtime that images use, on plain folders; counts how often it was told to unpack."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unpacked = 0
        self.free_bytes = 50 * GIB
        for name in ("images", "disks", "checkpoints", "incoming"):
            (root / name).mkdir(parents=True, exist_ok=True)

    async def import_image(self, digest: str, unpack: Callable[[Path], Awaitable[None]]) -> int:
        target = self.root / "images" / digest.replace(":", "-")
        if not target.exists():
            draft = self.root / "incoming" / target.name
            draft.mkdir()
            try:
                self.unpacked += 1
                await unpack(draft)
                draft.rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return sum(path.lstat().st_size for path in target.rglob("*") if path.is_file() and not path.is_symlink())

    def image_path(self, digest: str) -> Path:
        path = self.root / "images" / digest.replace(":", "-")
        if not path.exists():
            raise NotFound("no such image")
        return path

    async def images(self) -> list[str]:
        return [path.name.replace("-", ":") for path in (self.root / "images").iterdir()]

    async def delete_image(self, digest: str) -> None:
        shutil.rmtree(self.root / "images" / digest.replace(":", "-"), ignore_errors=True)

    def disk_path(self, sandbox_id: str) -> Path:
        return self.root / "disks" / sandbox_id

    async def checkpoint(self, sandbox_id: str, checkpoint_id: str) -> float:
        if not self.disk_path(sandbox_id).exists():
            raise NotFound(f"sandbox {sandbox_id} has no disk")
        subprocess.run(["cp", "-a", self.disk_path(sandbox_id), self.checkpoint_path(checkpoint_id)], check=True)
        return 0.0

    def checkpoint_path(self, checkpoint_id: str) -> Path:
        return self.root / "checkpoints" / checkpoint_id

    async def checkpoints(self) -> list[str]:
        return [path.name for path in (self.root / "checkpoints").iterdir()]

    async def delete_checkpoint(self, checkpoint_id: str) -> None:
        shutil.rmtree(self.checkpoint_path(checkpoint_id), ignore_errors=True)

    async def room(self) -> tuple[int, int]:
        return 100 * GIB, self.free_bytes


def make_store(folder: Path, runtime: FolderRuntime, **options: Any) -> ImageStore:
    options.setdefault("limits", ImageLimits())
    return ImageStore(runtime=cast(Runtime, runtime), data_dir=folder, environment={"HOME": "/root"}, **options)


class Told:
    """Progress as it was told."""

    def __init__(self) -> None:
        self.lines: list[tuple[Step, int | None, int | None]] = []

    def __call__(self, step: Step, done_bytes: int | None, total_bytes: int | None) -> None:
        self.lines.append((step, done_bytes, total_bytes))

    def steps(self) -> list[Step]:
        return list(dict.fromkeys(step for step, _, _ in self.lines))


async def until(true: Callable[[], bool]) -> None:
    """For what has no event to wait for, such as a folder being emptied."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def nothing_left(data_dir: Path, runtime: FolderRuntime) -> bool:
    return not any((data_dir / "incoming").iterdir()) and not any((runtime.root / "incoming").iterdir())


# Images by hand


def entry(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = 0o644, 1_700_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    info.size = len(data)
    return info, data


def folder_entry(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, **{"type": tarfile.DIRTYPE, "mode": 0o755, **fields})


def tar_of(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def small_rootfs() -> bytes:
    """Owners, modes, set-uid, links of both kinds, an extended attribute and a device."""
    return tar_of(
        folder_entry("./"),
        folder_entry("./etc"),
        entry("./etc/hostname", b"box\n"),
        entry("./etc/shadow", b"root:*\n", mode=0o640, uid=0, gid=42),
        folder_entry("./home/me", uid=1000, gid=1000, mode=0o700),
        entry("./home/me/file", b"mine", uid=1000, gid=65535, pax_headers={"SCHILY.xattr.user.colour": "red"}),
        entry("./bin/su", b"#!", mode=0o4755),
        entry("./bin/su2", type=tarfile.LNKTYPE, linkname="./bin/su", mode=0o4755),
        entry("./etc/link", type=tarfile.SYMTYPE, linkname="../../../../etc/hostname"),
        entry("./dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
    )


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


CONFIG = {
    "Env": ["PATH=/bin", "EMPTY=", "TWO=a=b"],
    "WorkingDir": "/srv",
    "User": "1000:1000",
    "Entrypoint": ["/bin/su"],
    "Cmd": ["-x"],
}


def write_layout(
    folder: Path, layers: list[bytes], *, kind: str = "+gzip", config: dict[str, Any] | None = None, **fields: Any
) -> str:
    """An OCI layout with one image; returns the digest of its manifest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media: str) -> dict[str, Any]:
        (blobs / sha(data).removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": MEDIA + media, "digest": sha(data), "size": len(data)}

    pack: dict[str, Callable[[bytes], bytes]] = {
        "": lambda data: data,
        "+gzip": lambda data: gzip.compress(data, 1, mtime=0),
        "+zstd": lambda data: subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout,
    }
    document = {"architecture": "amd64", "os": "linux", "config": CONFIG if config is None else config, **fields}
    document["rootfs"] = {"type": "layers", "diff_ids": [sha(layer) for layer in layers]}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MEDIA + "manifest.v1+json",
        "config": put(json.dumps(document).encode(), "config.v1+json"),
        "layers": [put(pack[kind](layer), f"layer.v1.tar{kind}") for layer in layers],
    }
    described = put(json.dumps(manifest).encode(), "manifest.v1+json")
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return described["digest"]


def tar_folder(folder: Path, archive: Path, *, inside: bool = True, flags: str = "-cf") -> Path:
    """`inside`: names relative to the folder; else the folder's own name comes first."""
    names = ["-C", str(folder), "."] if inside else ["-C", str(folder.parent), folder.name]
    subprocess.run(["tar", flags, str(archive), *names], check=True)
    return archive


def describe(tree: Path) -> dict[str, tuple[Any, ...]]:
    """All that a round trip must keep, of every file."""
    seen: dict[str, tuple[Any, ...]] = {}
    for path in sorted(tree.rglob("*")):
        stat = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        attributes = {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
        links = stat.st_nlink if path.is_file() else 0
        seen[str(path.relative_to(tree))] = (
            stat.st_mode,
            stat.st_uid,
            stat.st_gid,
            stat.st_rdev,
            links,
            int(stat.st_mtime),
            content,
            attributes,
        )
    return seen


# A registry


class LocalRegistry:
    def __init__(self, port: int) -> None:
        self.host = f"localhost:{port}"

    def push(self, layout: Path, name: str, *flags: str) -> None:
        command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", *flags, f"oci:{layout}"]
        subprocess.run([*command, f"docker://{self.host}/{name}"], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def local_registry(folder: Path) -> Iterator[LocalRegistry]:
    """Debian's docker-registry on a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = folder / "registry.json"  # JSON is YAML
    settings.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "error", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
                "http": {"addr": f"127.0.0.1:{port}"},
            }
        )
    )
    command = ["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve", str(settings)]
    with (folder / "registry.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/v2/")
            yield LocalRegistry(port)
        finally:
            process.kill()


def _wait_for(address: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nothing answers at {address}")
