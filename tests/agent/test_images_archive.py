"""Uploads, exports and commits: every form of archive in, the same files out, hostile ones refused or kept inside."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry.agent.images.catalog import ImageEntry
from skerry.agent.images.store import ImageLimits, ImageStore
from skerry.errors import Invalid, NoRoom, NotFound, SkerryError, TooLarge
from tests.agent.images_machine import (
    MEDIA,
    FolderRuntime,
    Told,
    describe,
    entry,
    folder_entry,
    make_store,
    nothing_left,
    small_rootfs,
    tar_folder,
    tar_of,
    write_layout,
)

pytestmark = pytest.mark.system


@pytest.fixture
def runtime(tmp_path: Path) -> FolderRuntime:
    return FolderRuntime(tmp_path / "pool")


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(65536):
            yield chunk


async def _load(store: ImageStore, archive: Path) -> ImageEntry:
    upload = await store.receive("im-up", _chunks(archive), None)
    try:
        return await store.load(upload, Told())
    finally:
        await upload.close()


def load(tmp_path: Path, runtime: FolderRuntime, archive: Path, **options: Any) -> ImageEntry:
    """Into a fresh store; whatever happens, the work folder is empty after it."""

    async def loading() -> ImageEntry:
        store = make_store(tmp_path / "data", runtime, **options)
        await store.open()
        return await _load(store, archive)

    try:
        return asyncio.run(loading())
    finally:
        assert nothing_left(tmp_path / "data", runtime)


def oci_archive(tmp_path: Path, *layers: bytes, **options: Any) -> tuple[Path, str]:
    digest = write_layout(tmp_path / "layout", list(layers), **options)
    return tar_folder(tmp_path / "layout", tmp_path / "image.tar"), digest


@pytest.mark.parametrize("kind", ["", "+gzip", "+zstd"])
def test_oci_archive_with_every_kind_of_layer(runtime: FolderRuntime, tmp_path: Path, kind: str) -> None:
    archive, digest = oci_archive(tmp_path, small_rootfs(), tar_of(entry("./second", b"2")), kind=kind)
    made = load(tmp_path, runtime, archive)
    assert made.digest == digest
    assert made.config.cmd == ["-x"]
    assert (runtime.image_path(digest) / "second").read_text() == "2"
    assert (runtime.image_path(digest) / "bin/su").stat().st_nlink == 2


def test_tar_of_a_layout_folder_gzipped(runtime: FolderRuntime, tmp_path: Path) -> None:
    digest = write_layout(tmp_path / "layout", [small_rootfs()])
    archive = tar_folder(tmp_path / "layout", tmp_path / "image.tar.gz", inside=False, flags="-czf")
    assert load(tmp_path, runtime, archive).digest == digest


def test_docker_archive_plain_and_gzip_are_one_image(runtime: FolderRuntime, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", [small_rootfs()])
    plain, packed = tmp_path / "docker.tar", tmp_path / "docker.tar.gz"
    command = ["skopeo", "copy", "--quiet", f"oci:{tmp_path}/layout", f"docker-archive:{plain}:box:1"]
    subprocess.run(command, check=True)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    first = load(tmp_path, runtime, plain)
    assert load(tmp_path, runtime, packed) == first
    assert runtime.unpacked == 1
    assert first.config.workdir == "/srv"
    assert (runtime.image_path(first.digest) / "home/me/file").stat().st_uid == 1000


def test_export_comes_back_the_same(runtime: FolderRuntime, tmp_path: Path) -> None:
    archive, digest = oci_archive(tmp_path, small_rootfs(), tar_of(entry("./" + "long/" * 40 + "file", b"2")))
    exported = tmp_path / "exported.tar"

    async def round_trip() -> tuple[ImageEntry, ImageEntry]:
        store = make_store(tmp_path / "data", runtime)
        await store.open()
        first = await _load(store, archive)
        async with store.export(digest, "team/box:7") as made:
            with exported.open("wb") as file:
                async for chunk in made.stream():
                    file.write(chunk)
            assert exported.stat().st_size == made.size_bytes
        return first, await _load(store, exported)

    first, second = asyncio.run(round_trip())
    assert first.digest != second.digest
    assert first.config == second.config
    before = describe(runtime.image_path(first.digest))
    assert describe(runtime.image_path(second.digest)) == before
    assert before["home/me/file"][-1] == {"user.colour": b"red"}
    assert nothing_left(tmp_path / "data", runtime)
    subprocess.run(["skopeo", "inspect", f"oci-archive:{exported}:team/box:7"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["skopeo", "inspect", f"docker-archive:{exported}"], check=True, stdout=subprocess.DEVNULL)


def test_an_unknown_image_is_not_exported(runtime: FolderRuntime, tmp_path: Path) -> None:
    async def export(digest: str, name: str) -> None:
        store = make_store(tmp_path / "data", runtime)
        await store.open()
        async with store.export(digest, name):
            raise AssertionError("made something of nothing")

    with pytest.raises(NotFound):
        asyncio.run(export("sha256:" + "0" * 64, "box"))
    with pytest.raises(Invalid):
        asyncio.run(export("../../etc", "box"))


@pytest.mark.parametrize(
    "hostile",
    [
        [entry("../../escaped", b"x")],
        [entry("/../../../escaped", b"x")],
        [entry("out", type=tarfile.SYMTYPE, linkname="{outside}"), entry("out/escaped", b"x")],
        [entry("out", type=tarfile.SYMTYPE, linkname="../../../../../../../..{outside}"), entry("out/escaped", b"x")],
        [entry("link", type=tarfile.LNKTYPE, linkname="{outside}/secret"), entry("link", b"overwritten")],
        [entry("link", type=tarfile.LNKTYPE, linkname="../../../../../../..{outside}/secret")],
        [entry("out", type=tarfile.SYMTYPE, linkname="{outside}"), entry("out/.wh.secret")],
        [entry("out", type=tarfile.SYMTYPE, linkname="{outside}"), entry("out/.wh..wh..opq")],
        [entry(".wh...")],
        [entry("etc/kept"), entry(".wh..")],
        [entry(".wh.")],
        [entry("up", type=tarfile.SYMTYPE, linkname="/"), entry("up/.wh...")],
    ],
)
def test_no_layer_reaches_outside(
    runtime: FolderRuntime, tmp_path: Path, hostile: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    for info, _ in hostile:
        info.linkname = info.linkname.replace("{outside}", str(outside))
    archive, _ = oci_archive(tmp_path, tar_of(folder_entry("./"), *hostile))
    with contextlib.suppress(SkerryError):  # refused or kept inside, as long as it is one of the two
        load(tmp_path, runtime, archive)
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert (outside / "secret").stat().st_nlink == 1
    assert not list(tmp_path.glob("escaped")) + list((tmp_path / "pool").glob("*/escaped"))


@pytest.mark.parametrize("ids", [{"uid": 65536}, {"gid": 70_000}, {"uid": 4_000_000_000}])
def test_ids_no_sandbox_can_have_are_refused(runtime: FolderRuntime, tmp_path: Path, ids: dict[str, int]) -> None:
    archive, _ = oci_archive(tmp_path, tar_of(entry("./file", b"x", **ids)))
    with pytest.raises(Invalid, match="65535"):
        load(tmp_path, runtime, archive)
    assert list((runtime.root / "images").iterdir()) == []


def _damage_blob(layout: Path) -> None:
    largest = max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(b"!" + largest.read_bytes()[1:])


def _drop_blob(layout: Path) -> None:
    max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size).unlink()


def _two_images(layout: Path) -> None:
    index = json.loads((layout / "index.json").read_text())
    other = {**index["manifests"][0], "digest": "sha256:" + "1" * 64}
    (layout / "index.json").write_text(json.dumps({**index, "manifests": [*index["manifests"], other]}))


def _other_machine(layout: Path) -> None:
    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0]["platform"] = {"os": "linux", "architecture": "s390x"}
    (layout / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_damage_blob, "has other content"),
        (_drop_blob, "damaged|lacks|cannot"),
        (_two_images, "one image per archive"),
        (_other_machine, "no image for linux/"),
        (lambda layout: (layout / "index.json").write_text("{"), "damaged index"),
    ],
)
def test_a_spoilt_archive_is_refused_in_one_sentence(
    runtime: FolderRuntime, tmp_path: Path, spoil: Any, words: str
) -> None:
    write_layout(tmp_path / "layout", [small_rootfs()])
    spoil(tmp_path / "layout")
    with pytest.raises(SkerryError, match=words) as caught:
        load(tmp_path, runtime, tar_folder(tmp_path / "layout", tmp_path / "image.tar"))
    assert "\n" not in caught.value.say
    assert len(caught.value.say) < 300


@pytest.mark.parametrize(
    "content",
    [b"", b"hello" * 1000, gzip.compress(b"hello" * 1000), b"\x1f\x8b rubbish", small_rootfs(), b"\0" * 10240],
)
def test_what_is_no_image_archive_is_refused(runtime: FolderRuntime, tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    with pytest.raises(Invalid):
        load(tmp_path, runtime, archive)


def test_a_header_of_senseless_size_is_not_read(runtime: FolderRuntime, tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 8 * 1024**3
    archive = tmp_path / "archive"
    with archive.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(9 * 1024**3)
    limits = ImageLimits(upload_bytes_max=1024)
    with pytest.raises(TooLarge):
        load(tmp_path, runtime, archive, limits=limits)
    archive.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(Invalid, match="senseless"):
        load(tmp_path, runtime, archive)


def test_an_image_for_another_machine_is_refused(runtime: FolderRuntime, tmp_path: Path) -> None:
    archive, _ = oci_archive(tmp_path, small_rootfs(), architecture="s390x")
    with pytest.raises(Invalid, match="linux/s390x"):
        load(tmp_path, runtime, archive)


def test_too_many_layers_are_refused(runtime: FolderRuntime, tmp_path: Path) -> None:
    layers = [tar_of(entry(f"./{n}")) for n in range(129)]
    archive, _ = oci_archive(tmp_path, *layers)
    with pytest.raises(TooLarge, match="129 layers"):
        load(tmp_path, runtime, archive)


def test_a_bomb_stops_before_the_pool_is_full(runtime: FolderRuntime, tmp_path: Path) -> None:
    archive, _ = oci_archive(tmp_path, tar_of(entry("./zeros", bytes(400 * 1024 * 1024))))
    assert archive.stat().st_size < 4 * 1024 * 1024
    runtime.free_bytes = 1024
    with pytest.raises(NoRoom):
        load(tmp_path, runtime, archive)


def test_a_full_disk_is_told_as_such(runtime: FolderRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    archive, _ = oci_archive(tmp_path, small_rootfs())
    monkeypatch.setattr("skerry.agent.images.archive._copy", full)
    with pytest.raises(NoRoom):
        load(tmp_path, runtime, archive)


def test_docker_types_in_an_oci_layout(runtime: FolderRuntime, tmp_path: Path) -> None:
    """What `docker save` of a recent Docker writes."""
    write_layout(tmp_path / "layout", [small_rootfs()])
    blobs = tmp_path / "layout/blobs/sha256"
    index = json.loads((tmp_path / "layout/index.json").read_text())
    manifest = blobs / index["manifests"][0]["digest"].removeprefix("sha256:")
    text = manifest.read_text().replace(
        MEDIA + "layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"
    )
    text = text.replace(MEDIA + "manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
    text = text.replace(MEDIA + "config.v1+json", "application/vnd.docker.container.image.v1+json")
    digest = hashlib.sha256(text.encode()).hexdigest()
    (blobs / digest).write_text(text)
    index["manifests"][0].update(digest=f"sha256:{digest}", size=len(text))
    (tmp_path / "layout/index.json").write_text(json.dumps(index))
    made = load(tmp_path, runtime, tar_folder(tmp_path / "layout", tmp_path / "image.tar"))
    assert made.digest == f"sha256:{digest}"
    assert (runtime.image_path(made.digest) / "etc/hostname").exists()


def _sandbox(runtime: FolderRuntime, outside: Path) -> Path:
    disk = runtime.disk_path("sb-1")
    (disk / "etc/ssh").mkdir(parents=True)
    (disk / "etc/machine-id").write_text("0123456789abcdef\n")
    (disk / "etc/ssh/ssh_host_rsa_key").write_text("private")
    (disk / "etc/ssh/sshd_config").write_text("kept")
    (disk / "work").write_text("done")
    os.chown(disk / "work", 1000, 1001)
    (disk / "var/lib").mkdir(parents=True)
    (outside / "dbus").mkdir(parents=True)
    (outside / "dbus/machine-id").write_text("the host's")
    (disk / "var/lib/dbus").symlink_to(outside / "dbus")
    return disk


def test_commit_inherits_config_and_forgets_identity(runtime: FolderRuntime, tmp_path: Path) -> None:
    archive, digest = oci_archive(tmp_path, small_rootfs())
    disk = _sandbox(runtime, tmp_path / "outside")

    async def commit() -> tuple[ImageEntry, ImageEntry]:
        store = make_store(tmp_path / "data", runtime, digest_of_sandbox={"sb-1": digest}.get)
        await store.open()
        await _load(store, archive)
        first = await store.commit("im-1", "sb-1", "tools put in", Told())
        (disk / "etc/machine-id").write_text("another\n")
        again = await store.commit("im-2", "sb-1", "", Told())
        with pytest.raises(NotFound):
            await store.commit("im-3", "sb-none", "", Told())
        return first, again

    first, again = asyncio.run(commit())
    assert first == again  # nothing but identity differs
    assert first.config.cmd == ["-x"]
    assert first.comment == "tools put in"
    tree = runtime.image_path(first.digest)
    assert (tree / "etc/machine-id").read_bytes() == b""
    assert sorted(path.name for path in (tree / "etc/ssh").iterdir()) == ["sshd_config"]
    assert ((tree / "work").stat().st_uid, (tree / "work").stat().st_gid) == (1000, 1001)
    assert (tmp_path / "outside/dbus/machine-id").read_text() == "the host's"
    assert (disk / "etc/ssh/ssh_host_rsa_key").read_text() == "private"
    assert asyncio.run(runtime.checkpoints()) == []
    assert nothing_left(tmp_path / "data", runtime)


def test_what_a_killed_agent_left_is_gone_at_the_next_start(runtime: FolderRuntime, tmp_path: Path) -> None:
    half = tmp_path / "data/incoming/im-1-abc/layout"
    half.mkdir(parents=True)
    (half / "blob").write_text("half")
    unknown = "sha256:" + "a" * 64
    (runtime.root / "images" / unknown.replace(":", "-")).mkdir()
    for name in ("commit-im-9", "cp-1"):
        (runtime.root / "checkpoints" / name).mkdir()
    gone = ImageEntry(digest="sha256:" + "b" * 64, size_bytes=1)
    (tmp_path / "data/images").mkdir()
    (tmp_path / "data/images" / f"{gone.digest.replace(':', '-')}.json").write_text(gone.model_dump_json())
    (tmp_path / "data/images/torn.json").write_text('{"dig')

    async def start() -> None:
        store = make_store(tmp_path / "data", runtime)
        await store.open()
        assert store.images() == []
        assert await runtime.images() == []
        assert await runtime.checkpoints() == ["cp-1"]
        await store.delete(unknown)
        await store.delete(unknown)

    asyncio.run(start())
    assert nothing_left(tmp_path / "data", runtime)
    assert list((tmp_path / "data/images").iterdir()) == []
