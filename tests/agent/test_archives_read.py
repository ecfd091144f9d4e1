"""An archive from anywhere: taken as it was written, and refused whole for whatever is wrong with it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from skerry.agent.archives.read import Received, read_archive
from skerry.agent.images.work import WorkFolder
from skerry.errors import SkerryError

TIME = datetime(2026, 11, 26, tzinfo=UTC).isoformat()
SANDBOX = "application/vnd.skerry.sandbox.v1+json"
OCI = "application/vnd.oci.image."


class Draft:
    """The files of an archive, each of which a test may change, with everything that names it or without."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.layers: list[dict[str, Any]] = []
        self.diff_ids: list[str] = []
        manifests = [self.disk(name) for name in ("base", "v1", "disk")]
        spec = {"name": "box", "image": "debian:12"}
        about = {"number": 1, "origin": "user", "comment": "first", "spec": spec, "created_at": TIME}
        self.document: dict[str, Any] = {
            "format": 1,
            "skerry": "0.1",
            "sandbox": "sb-000000000000",
            "name": "box",
            "spec": spec,
            "running": True,
            "image": {"name": "debian:12", "digest": "sha256:" + "0" * 64},
            "checkpoints": [{**about, "manifest": manifests[1]}],
            "created_at": TIME,
            "started_at": TIME,
            "exported_at": TIME,
            "base": manifests[0],
            "disk": manifests[2],
        }
        self.extra: list[tarfile.TarInfo] = []

    def blob(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest

    def described(self, kind: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": kind, "digest": self.blob(data), "size": len(data)}

    def disk(self, content: str) -> str:
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as layer:
            info = tarfile.TarInfo(content)
            layer.addfile(info)
        self.diff_ids.append(f"sha256:{hashlib.sha256(tar.getvalue()).hexdigest()}")
        self.layers.append(self.described(OCI + "layer.v1.tar+gzip", gzip.compress(tar.getvalue(), mtime=0)))
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": self.diff_ids}}).encode()
        manifest = {"config": self.described(OCI + "config.v1+json", config), "layers": self.layers}
        return self.blob(json.dumps({"schemaVersion": 2, **manifest}).encode())

    def write(self, path: Path, kind: str = SANDBOX) -> bytes:
        index = {"schemaVersion": 2, "manifests": [self.described(kind, json.dumps(self.document).encode())]}
        files = {"oci-layout": b"{}", "index.json": json.dumps(index).encode()}
        files |= {f"blobs/sha256/{digest[7:]}": data for digest, data in self.blobs.items()}
        with tarfile.open(path, "w") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            for info in self.extra:
                tar.addfile(info)
        return path.read_bytes()


def read(folder: Path, draft: Draft, kind: str = SANDBOX, spoil: Callable[[bytes], bytes] = bytes) -> Received:
    return asyncio.run(_read(folder, draft, kind, spoil))


async def _read(folder: Path, draft: Draft, kind: str, spoil: Callable[[bytes], bytes]) -> Received:
    work = WorkFolder(folder / "work", {}, 1024**3)
    await work.open()
    async with work.job("job") as job:
        archive = job.folder / "archive"
        archive.write_bytes(spoil(draft.write(archive, kind)))
        try:
            return await read_archive(archive, job)
        finally:
            assert list((folder / "work").iterdir()) == [job.folder]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    draft = Draft()
    received = read(tmp_path, draft)
    assert received.base == draft.document["base"]
    assert [layer.diff_id for layer in received.layers] == draft.diff_ids[1:]
    assert received.document.checkpoints[0].comment == "first"


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[Draft], None]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return lambda draft: draft.extra.append(info)


def _said(**fields: object) -> Callable[[Draft], None]:
    return lambda draft: draft.document.update(fields)


def _lost(draft: Draft) -> None:
    del draft.blobs[draft.layers[1]["digest"]]


def _mixed(draft: Draft) -> None:
    draft.document["disk"] = draft.document["base"]


def _twice(draft: Draft) -> None:
    draft.extra.append(tarfile.TarInfo("index.json"))


@pytest.mark.parametrize(
    ("spoil", "say"),
    [
        (_member("../../etc/passwd"), "etc/passwd"),
        (_member("blobs/sha256/" + "a" * 64, tarfile.SYMTYPE, "/etc/shadow"), "blobs/sha256/aaa"),
        (_member("blobs/sha256/" + "a" * 64, tarfile.LNKTYPE, "index.json"), "blobs/sha256/aaa"),
        (_member("blobs/sha256/" + "a" * 64), "has other content"),
        (_twice, "twice"),
        (_lost, "lacks"),
        (_mixed, "one on top of the other"),
        (_said(format=2), "has format 2; this Skerry reads format 1"),
        (_said(spec={"name": "box", "image": "x", "wings": 2}), "spec.wings"),
        (_said(disk=None), "which disks"),
        (_said(checkpoints=[]), "one on top of the other"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_is_wrong_is_refused_in_a_sentence(tmp_path: Path, spoil: Callable[[Draft], None], say: str) -> None:
    draft = Draft()
    spoil(draft)
    with pytest.raises(SkerryError, match=say):
        read(tmp_path, draft)


def test_a_newer_format_and_another_kind_of_archive_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SkerryError, match="this Skerry reads format 1"):
        read(tmp_path, Draft(), "application/vnd.skerry.sandbox.v2+json")
    with pytest.raises(SkerryError, match="holds no sandbox"):
        read(tmp_path, Draft(), OCI + "manifest.v1+json")


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_cut_short_or_turned_over_anywhere(tmp_path: Path, part: float) -> None:
    def cut(data: bytes) -> bytes:
        return data[: int(len(data.rstrip(b"\0")) * part)]

    def turned(data: bytes) -> bytes:
        at = data.index(b"\x1f\x8b") + 12
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    for spoil in (cut, turned):
        with pytest.raises(SkerryError):
            read(tmp_path, Draft(), spoil=spoil)
