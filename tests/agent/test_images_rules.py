"""What needs no tools: references, apt sources, error sentences, choosing among platforms, shared work."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from skerry.agent.images.apt_sources import DEFAULT_MIRROR, host_mirrors
from skerry.agent.images.layout import architecture, choose, is_index, read_config, read_manifest
from skerry.agent.images.progress import Progress, SharedWork, Step
from skerry.agent.images.recipe import failure_of
from skerry.agent.images.reference import parse
from skerry.agent.images.store import Turns
from skerry.agent.images.tool_errors import from_registry
from skerry.errors import Failed, Invalid, LimitReached, NoRoom, NotFound, SkerryError, Unauthenticated, Unavailable

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("source", "remote"),
    [
        ("debian:12", "docker.io/library/debian:12"),
        ("debian", "docker.io/library/debian:latest"),
        ("team/box", "docker.io/team/box:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest"),
        ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
        ("localhost/box:1", "localhost/box:1"),
        ("127.0.0.1:5000/box", "127.0.0.1:5000/box:latest"),
        (f"debian:12@{A}", f"docker.io/library/debian@{A}"),
    ],
)
def test_references(source: str, remote: str) -> None:
    assert parse(f"docker://{source}", insecure=False).remote == f"docker://{remote}"


@pytest.mark.parametrize(
    "source",
    ["", "UPPER", "a//b", "../x", "x@sha256:abc", "-x", "a b", "h.io/", "u:p@h.io/x", "h.io:x/y", "x:t/y"],
)
def test_malformed_references(source: str) -> None:
    with pytest.raises(Invalid):
        parse(f"docker://{source}", insecure=False)


@pytest.mark.parametrize("host", ["localhost:5000", "127.0.0.1:5000", "127.9.9.9"])
def test_plain_http_to_loopback(host: str) -> None:
    assert parse(f"docker://{host}/x", insecure=True).is_loopback


@pytest.mark.parametrize("host", ["10.0.0.1:5000", "localhost.example", "127.0.0.1.example", "docker.io"])
def test_no_plain_http_elsewhere(host: str) -> None:
    with pytest.raises(Invalid, match="plain HTTP"):
        parse(f"docker://{host}/x", insecure=True)


def _apt(folder: Path, **files: str) -> Path:
    (folder / "sources.list.d").mkdir(parents=True)
    for name, text in files.items():
        path = "sources.list" if name == "main" else f"sources.list.d/{name.replace('_', '.')}"
        (folder / path).write_text(text)
    return folder


def test_mirror_from_deb822(tmp_path: Path) -> None:
    debian = """# comment
Types: deb deb-src
# http://snapshot.example/
URIs: http://mirror.example/debian/
Suites: bookworm
 bookworm-updates
Components: main contrib

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
    mirrors = host_mirrors(_apt(tmp_path / "apt", debian_sources=debian))
    assert mirrors.lines("trixie") == [
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/debian-security trixie-security main",
    ]


def test_mirror_from_one_line_among_others_and_without_security(tmp_path: Path) -> None:
    mirrors = host_mirrors(
        _apt(
            tmp_path / "apt",
            a_list="deb https://apt.example.com bookworm main\n# deb http://old.example/debian bookworm main\n",
            b_list="deb-src http://s.example/debian bookworm main\ndeb [arch=amd64] https://d.example/debian x stable",
            main="deb [signed-by=/none.gpg] http://ftp.example.org/debian bookworm main # first\n",
            c_list_save="deb http://saved.example/debian bookworm main\n",
        )
    )
    assert mirrors.lines("bookworm") == ["deb http://ftp.example.org/debian bookworm main"]


def test_mirror_list_of_a_cloud_image_and_disabled_entries(tmp_path: Path) -> None:
    (tmp_path / "debian.list").write_text("# fast\nhttps://cdn.example/debian\thttps\n")
    text = f"Types: deb\nURIs: mirror+file://{tmp_path}/debian.list\nSuites: trixie\nComponents: main\n"
    off = "Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: trixie trixie-updates\nComponents: main\n"
    mirrors = host_mirrors(_apt(tmp_path / "apt", a_sources=off, b_sources=text))
    assert mirrors.main == "https://cdn.example/debian"


def test_a_host_that_is_not_debian_uses_debians_own(tmp_path: Path) -> None:
    ubuntu = "deb http://archive.ubuntu.com/ubuntu jammy main\ndeb cdrom:[Debian]/ bookworm main\n"
    assert host_mirrors(_apt(tmp_path / "apt", main=ubuntu)).main == DEFAULT_MIRROR
    assert host_mirrors(tmp_path / "none").main == DEFAULT_MIRROR


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("reading manifest 2 in h/x: manifest unknown: manifest unknown", NotFound),
        ("requested access to the resource is denied", Unauthenticated),
        ("unauthorized: authentication required", Unauthenticated),
        ('pinging container registry h: Get "https://h/v2/": dial tcp: lookup h: no such host', Unavailable),
        ("dial tcp 1.2.3.4:443: i/o timeout", Unavailable),
        ("received unexpected HTTP status: 503, StatusCode: 503", Unavailable),
        ("toomanyrequests: You have reached your pull rate limit", Unavailable),
        ("x509: certificate signed by unknown authority", Unavailable),
        ("http: server gave HTTP response to HTTPS client", Invalid),
        ("something else entirely", Failed),
    ],
)
def test_registry_errors(stderr: str, kind: type[SkerryError]) -> None:
    error = from_registry(f'time="…" level=fatal msg="{stderr}"', host="h", image="denied:timeout")
    assert type(error) is kind
    assert "\n" not in error.say


@pytest.mark.parametrize(
    ("stderr", "kind", "words"),
    [
        ("Reading package lists...\nE: Unable to locate package lesss", NotFound, "Debian has no package lesss"),
        ("E: Failed to fetch http://127.0.0.1:1/x  Could not connect to 127.0.0.1:1", Unavailable, "cannot be reached"),
        ("E: The repository 'http://m/debian sid Release' does not have a Release file.", Unavailable, "lacks"),
        ("tar: write error: No space left on device", NoRoom, "full"),
        ("E: mmdebstrap failed to run", Failed, "mmdebstrap"),
    ],
)
def test_build_errors(stderr: str, kind: type[SkerryError], words: str) -> None:
    error = failure_of(stderr)
    assert type(error) is kind
    assert words in error.say


def test_no_credential_gets_through() -> None:
    stderr = 'Get "https://me:hunter2@h/v2/?token=hunter2&x=1": Bearer hunter2hunter2 no such host'
    error = from_registry(stderr, host="h", image="x:1")
    assert "hunter2" not in f"{error.say} {error.because}"


def test_choosing_this_machines_image() -> None:
    def one(digest: str, **platform: str) -> dict[str, object]:
        return {"mediaType": "m", "digest": digest, "size": 1, "platform": platform}

    mine = one(A, os="linux", architecture=architecture())
    listed = [one(B, os="unknown", architecture="unknown"), one(B, os="windows", architecture=architecture()), mine]
    raw = json.dumps({"manifests": listed}).encode()
    assert is_index(raw)
    assert choose(raw, "box").digest == A
    with pytest.raises(NotFound, match="box has no image for linux/"):
        choose(json.dumps({"manifests": listed[:2]}).encode(), "box")


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"schemaVersion":1}', b'{"config":{"digest":"../../x","size":1},"layers":[]}', b"\xff"]
)
def test_what_is_no_manifest(raw: bytes) -> None:
    with pytest.raises(Invalid):
        read_manifest(b"" if is_index(raw) else raw)


def test_config_without_anything() -> None:
    config = read_config(b'{"config":null,"rootfs":{"type":"layers","diff_ids":[]}}').image_config()
    assert (config.env, config.cmd, config.user) == ({}, [], None)
    with pytest.raises(Invalid):
        read_config(b'{"config":{"Cmd":"sh"},"rootfs":{"diff_ids":[]}}')


def test_shared_work_ends_with_its_last_caller() -> None:
    cleaned: list[str] = []

    async def work(progress: Progress) -> int:
        progress(Step.DOWNLOAD, 1, 2)
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append("cleaned")
        return 1

    async def callers() -> None:
        shared: SharedWork[int] = SharedWork()
        told: list[object] = []
        one = asyncio.create_task(shared.join("k", work, lambda *line: told.append(line)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        late = asyncio.create_task(shared.join("k", work, lambda *line: told.append(line)))
        await asyncio.sleep(0)
        assert told == [(Step.DOWNLOAD, 1, 2)] * 2  # who comes late is told where it stands
        one.cancel()
        await asyncio.wait({one})
        assert cleaned == []
        late.cancel()
        await asyncio.wait({late})
        assert cleaned == ["cleaned"]

    asyncio.run(callers())


def test_only_so_many_wait_for_their_turn() -> None:
    async def crowd() -> None:
        turns = Turns("images", at_once=1, waiting_max=1)

        async def one() -> None:
            async with turns.turn():
                await asyncio.sleep(60)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one()) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(LimitReached, match="1 images are waiting"):
                await one()
            tasks[0].cancel()
            await asyncio.sleep(0.01)
            tasks[1].cancel()
        async with turns.turn():  # both gave their seat back
            pass

    asyncio.run(crowd())
