"""The files API over a real server: statuses, streams, limits, and clients that hang up."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from yarl import URL

from tests.agent.files_world import World, serving

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the agent does")

Ask = Callable[[aiohttp.ClientSession], Awaitable[None]]
BOX = "/sandboxes/sb-1"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def served(world: World, ask: Ask, **limits: int) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), serving(world, **limits) as client:
            await ask(client)

    uvloop.run(run())  # as the agent does


async def refused(
    client: aiohttp.ClientSession, method: str, url: str | URL, status: int, code: str, **more: Any
) -> dict[str, str]:
    async with client.request(method, url, **more) as answer:
        text = await answer.text()
        assert answer.status == status, text
        error = json.loads(text)["error"]
        assert error["code"] == code
        return error


def test_a_file_there_and_back(world: World):
    async def ask(client: aiohttp.ClientSession) -> None:
        data = os.urandom(5_000_000)
        async with client.put(f"{BOX}/files", params={"path": "/srv/a/b", "mode": "0600"}, data=data) as answer:
            assert answer.status == 200
            info = await answer.json()
            assert (info["path"], info["mode"], info["size_bytes"], info["kind"]) == (
                "/srv/a/b",
                "0600",
                len(data),
                "file",
            )
        async with client.get(f"{BOX}/files", params={"path": "/srv/a/b"}) as answer:
            assert answer.headers["content-length"] == str(len(data))
            assert answer.content_type == "application/octet-stream"
            assert await answer.read() == data
        async with client.head(f"{BOX}/files", params={"path": "/srv/a/b"}) as answer:
            assert answer.headers["content-length"] == str(len(data))
        async with client.get(f"{BOX}/files/stat", params={"path": "/srv/a/b"}) as answer:
            assert await answer.json() == info
        async with client.get(f"{BOX}/files/list", params={"path": "/", "depth": "3"}) as answer:
            assert "/srv/a/b" in [item["path"] for item in (await answer.json())["items"]]
        async with client.post(f"{BOX}/files/rename", json={"source": "/srv/a/b", "target": "/srv/c"}) as answer:
            assert (await answer.json())["path"] == "/srv/c"
        async with client.post(f"{BOX}/files/mkdir", json={"path": "/srv/x/y", "mode": "0700"}) as answer:
            assert (await answer.json())["mode"] == "0700"
        async with client.delete(f"{BOX}/files", params={"path": "/srv/x", "recursive": "true"}) as answer:
            assert (answer.status, await answer.read()) == (204, b"")
        assert sorted(p.name for p in (world.disk / "srv").iterdir()) == ["a", "c"]

    served(world, ask)


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_ranges(world: World, size: int):
    data = os.urandom(size)
    (world.disk / "srv/file").write_bytes(data)

    async def ask(client: aiohttp.ClientSession) -> None:
        for given, expected in (
            ("bytes=0-9", data[:10]),
            ("bytes=990-", data[990:]),
            ("bytes=-7", data[-7:]),
            (f"bytes=5-{size * 2}", data[5:]),
        ):
            async with client.get(f"{BOX}/files", params={"path": "/srv/file"}, headers={"range": given}) as answer:
                assert answer.status == 206, given
                assert await answer.read() == expected, given
                assert answer.headers["content-range"].endswith(f"/{size}")
        async with client.get(
            f"{BOX}/files", params={"path": "/srv/file"}, headers={"range": f"bytes={size}-"}
        ) as answer:
            assert answer.status == 416
            assert answer.headers["content-range"] == f"bytes */{size}"
        for ignored in ("bytes=5-2,7-9", "lines=1-2", "bytes=-", "bytes=x-"):
            async with client.get(f"{BOX}/files", params={"path": "/srv/file"}, headers={"range": ignored}) as answer:
                assert (answer.status, await answer.read()) == (200, data)

    served(world, ask)


def test_bad_requests_are_answered_with_the_field_and_what_is_allowed(world: World):
    async def ask(client: aiohttp.ClientSession) -> None:
        files = f"{BOX}/files"
        assert (await refused(client, "GET", files, 400, "invalid"))["field"] == "path"
        for path in ("srv", "/srv/../etc", "/" + "x" * 5000):
            assert (await refused(client, "GET", files, 400, "invalid", params={"path": path}))["field"] == "path"
        await refused(client, "GET", files, 404, "not_found", params={"path": "/none"})
        await refused(client, "GET", files, 400, "invalid", params={"path": "/etc"})
        await refused(client, "GET", "/sandboxes/sb-2/files", 404, "not_found", params={"path": "/"})
        error = await refused(client, "GET", files, 400, "invalid", params={"path": "/", "pth": "x"})
        assert "'pth'" in error["message"]
        for depth in ("0", "33", "-1", "x", "١"):
            error = await refused(client, "GET", f"{files}/list", 400, "invalid", params={"path": "/", "depth": depth})
            assert error["field"] == "depth"
            assert "1 to 32" in error["message"]
        for mode in ("9", "rw-r--r--", "77777"):
            error = await refused(client, "PUT", files, 400, "invalid", params={"path": "/srv/x", "mode": mode})
            assert error["field"] == "mode"
        params = {"path": "/srv", "recursive": "maybe"}
        assert (await refused(client, "DELETE", files, 400, "invalid", params=params))["field"] == "recursive"
        await refused(client, "PUT", files, 403, "forbidden", params={"path": "/mnt/frozen/x"}, data=b"x")
        await refused(client, "DELETE", files, 409, "in_use", params={"path": "/mnt", "recursive": "true"})
        await refused(client, "POST", f"{files}/mkdir", 400, "invalid", data=b"{")
        await refused(client, "POST", f"{files}/mkdir", 413, "too_large", data=b" " * 100_000)
        error = await refused(client, "POST", f"{files}/mkdir", 400, "invalid", json={"path": "/a/../b"})
        assert error["field"] == "path"
        await refused(client, "POST", f"{files}/rename", 400, "invalid", json={"source": "/a"})
        await refused(client, "GET", f"{BOX}/nothing", 404, "not_found")
        await refused(client, "PATCH", files, 405, "invalid")
        await refused(client, "PUT", "/checkpoints/cp-1/files", 405, "invalid", params={"path": "/x"}, data=b"x")

    served(world, ask)


def test_a_name_that_is_not_utf8_is_reached_by_its_bytes(world: World):
    with open(os.fsencode(world.disk) + b"/srv/caf\xe9", "wb") as file:
        file.write(b"found")

    async def ask(client: aiohttp.ClientSession) -> None:
        url = URL(f"http://agent{BOX}/files?path=/srv/caf%E9", encoded=True)
        async with client.get(url) as answer:
            assert await answer.read() == b"found"
        async with client.get(f"{BOX}/files/list", params={"path": "/srv"}) as answer:
            assert [item["name"] for item in (await answer.json())["items"]] == ["caf\\xe9"]
        await refused(client, "GET", URL(f"http://agent{BOX}/files?path=/x%00", encoded=True), 400, "invalid")
        async with client.put(f"{BOX}/files", params={"path": "/srv/a+b & ü"}, data=b"x") as answer:
            assert (await answer.json())["name"] == "a+b & ü"

    served(world, ask)


def test_an_upload_that_is_too_large_or_cut_off_leaves_nothing(world: World):
    (world.disk / "srv/file").write_bytes(b"old")

    async def ask(client: aiohttp.ClientSession) -> None:
        params = {"path": "/srv/file"}
        await refused(client, "PUT", f"{BOX}/files", 413, "too_large", params=params, data=b"x" * 200_001)

        async def chunks():
            for _ in range(30):
                yield b"x" * 10_000

        await refused(client, "PUT", f"{BOX}/files", 413, "too_large", params=params, data=chunks())

        reader, writer = await asyncio.open_unix_connection(str(world.top / "agent.sock"))
        head = f"PUT {BOX}/files?path=/srv/file HTTP/1.1\r\nhost: agent\r\ncontent-length: 100000\r\n\r\n"
        writer.write(head.encode() + b"x" * 5000)
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        async with asyncio.timeout(30):
            while [p.name for p in (world.disk / "srv").iterdir()] != ["file"]:  # noqa: ASYNC110 — nobody tells us
                await asyncio.sleep(0.01)
        del reader
        assert (world.disk / "srv/file").read_bytes() == b"old"

    served(world, ask, upload_bytes_max=200_000)


def test_archives_in_both_directions(world: World):
    (world.disk / "srv/tree/sub").mkdir(parents=True)
    (world.disk / "srv/tree/sub/file").write_bytes(os.urandom(3_000_000))
    os.symlink("tree", world.disk / "srv/link")

    async def ask(client: aiohttp.ClientSession) -> None:
        async with client.get(f"{BOX}/files/archive", params={"path": "/srv/tree"}) as answer:
            assert (answer.status, answer.content_type) == (200, "application/x-tar")
            data = await answer.read()
        async with client.put(f"{BOX}/files/archive", params={"path": "/copy/here"}, data=data) as answer:
            assert await answer.json() == {"files": 1, "bytes": 3_000_000}
        copied = world.disk / "copy/here/tree/sub/file"
        assert copied.read_bytes() == (world.disk / "srv/tree/sub/file").read_bytes()
        async with client.get(f"{BOX}/files/archive", params={"path": "/srv/link"}) as answer:
            with tarfile.open(fileobj=io.BytesIO(await answer.read())) as archive:
                assert archive.getmembers()[0].linkname == "tree"
        async with client.get(f"{BOX}/files/archive", params={"path": "/srv/link", "follow": "true"}) as answer:
            with tarfile.open(fileobj=io.BytesIO(await answer.read())) as archive:
                assert archive.getnames() == ["link", "link/sub", "link/sub/file"]
        archive_url = f"{BOX}/files/archive"
        await refused(client, "GET", archive_url, 404, "not_found", params={"path": "/none"})
        await refused(client, "PUT", archive_url, 400, "invalid", params={"path": "/srv"}, data=b"x" * 3_000_000)
        await refused(client, "PUT", archive_url, 400, "invalid", params={"path": "/srv"}, data=data[: len(data) // 2])
        params = {"path": "/not/there", "parents": "false"}
        await refused(client, "PUT", archive_url, 404, "not_found", params=params, data=data)
        await refused(client, "PUT", archive_url, 403, "forbidden", params={"path": "/mnt/frozen"}, data=data)

    served(world, ask)


def test_a_client_that_hangs_up_costs_nothing_for_long(world: World):
    """Descriptors and threads are given back when downloads, archives and watches are cut off in the middle."""
    (world.disk / "srv/big").write_bytes(bytes(30_000_000))

    def held() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    async def ask(client: aiohttp.ClientSession) -> None:
        async with client.get(f"{BOX}/files/stat", params={"path": "/"}) as answer:
            assert answer.status == 200
        before = held()
        for kind in ("files", "files/archive", "files/watch"):
            for _ in range(5):
                reader, writer = await asyncio.open_unix_connection(str(world.top / "agent.sock"))
                path = "/srv" if kind == "files/watch" else "/srv/big"
                writer.write(f"GET {BOX}/{kind}?path={path} HTTP/1.1\r\nhost: agent\r\n\r\n".encode())
                await reader.readexactly(100)
                writer.close()
        for _ in range(600):
            if held() <= before + 2:
                break
            await asyncio.sleep(0.05)
        assert held() <= before + 2
        async with client.get(f"{BOX}/files/archive", params={"path": "/srv/big"}) as answer:
            assert len(await answer.read()) > 30_000_000, "no archive's place is lost"

    served(world, ask)


def test_checkpoints_are_read_and_compared(world: World):
    for name, content in (("cp-1", b"one"), ("cp-2", b"second")):
        (world.top / name).mkdir()
        (world.top / name / "file").write_bytes(content)

    async def ask(client: aiohttp.ClientSession) -> None:
        async with client.get("/checkpoints/cp-1/files", params={"path": "/file"}) as answer:
            assert await answer.read() == b"one"
        async with client.get("/checkpoints/cp-1/files/list", params={"path": "/"}) as answer:
            assert [item["path"] for item in (await answer.json())["items"]] == ["/file"]
        async with client.get("/checkpoints/cp-1/diff", params={"checkpoint": "cp-2"}) as answer:
            assert await answer.json() == {"items": [{"path": "/file", "change": "modified"}], "truncated": False}
        async with client.get("/checkpoints/cp-1/diff", params={"sandbox": "sb-1"}) as answer:
            changes = {item["path"]: item["change"] for item in (await answer.json())["items"]}
        assert changes["/file"] == "removed"
        assert changes["/etc/hostname"] == "added"
        await refused(client, "GET", "/checkpoints/cp-9/files", 404, "not_found", params={"path": "/"})
        await refused(client, "GET", "/checkpoints/cp-1/diff", 400, "invalid")
        await refused(client, "GET", "/checkpoints/cp-1/diff", 404, "not_found", params={"checkpoint": "cp-9"})

    served(world, ask)


class Lines:
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def next(self) -> dict[str, str]:
        async with asyncio.timeout(30):
            return json.loads(await self._answer.content.readline())

    async def until(self, kind: str, path: str) -> list[dict[str, str]]:
        seen: list[dict[str, str]] = []
        while not seen or seen[-1] != {"kind": kind, "path": path}:
            seen.append(await self.next())
        return seen


def test_watch_tells_what_happens(world: World):
    srv = world.disk / "srv"
    (srv / "old").mkdir()
    os.symlink("/srv", world.disk / "link")

    async def ask(client: aiohttp.ClientSession) -> None:
        params = {"path": "/link", "recursive": "true"}
        async with client.get(f"{BOX}/files/watch", params=params) as answer:
            lines = Lines(answer)
            assert await lines.next() == {"kind": "ready"}
            (srv / "a").write_bytes(b"x")
            assert {"kind": "created", "path": "/link/a"} in await lines.until("modified", "/link/a")
            os.rename(srv / "a", srv / "b")
            assert await lines.until("renamed", "/link/b") == [
                {"kind": "removed", "path": "/link/a"},
                {"kind": "renamed", "path": "/link/b"},
            ]
            (srv / "old/below").write_bytes(b"")
            await lines.until("created", "/link/old/below")
            (srv / "new/deep").mkdir(parents=True)
            (srv / "new/deep/file").write_bytes(b"")
            await lines.until("created", "/link/new/deep/file")
            os.rename(srv / "old", srv / "new/moved")
            await lines.until("renamed", "/link/new/moved")
            (srv / "new/moved/below").unlink()
            await lines.until("removed", "/link/new/moved/below")
            (srv / "b").chmod(0o600)
            await lines.until("modified", "/link/b")
            (await client.put(f"{BOX}/files", params={"path": "/srv/put"}, data=b"x")).raise_for_status()
            (srv / "#7").write_bytes(b"")
            told = await lines.until("modified", "/link/#7")
            assert {event["path"] for event in told} == {"/link/put", "/link/#7"}, "no nameless file is told"
            os.rename(srv, world.disk / "gone")
            await lines.until("removed", "/link")
            assert await answer.content.readline() == b"", "the watch ends with its directory"
        await refused(client, "GET", f"{BOX}/files/watch", 400, "invalid", params={"path": "/etc/hostname"})
        await refused(client, "GET", f"{BOX}/files/watch", 404, "not_found", params={"path": "/none"})

    served(world, ask)


def test_a_watch_ends_when_its_disk_is_replaced(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("skerry.agent.files.routes.LOOK_S", 0.1)

    async def ask(client: aiohttp.ClientSession) -> None:
        async with client.get(f"{BOX}/files/watch", params={"path": "/srv"}) as answer:
            assert await Lines(answer).next() == {"kind": "ready"}
            os.rename(world.disk, world.top / "old-disk")
            (world.disk / "srv").mkdir(parents=True)
            async with asyncio.timeout(30):
                assert await answer.content.readline() == b""

    served(world, ask)


def test_a_watch_has_limits(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("skerry.agent.files.watch.FOLDERS_MAX", 4)
    for n in range(3):
        (world.disk / f"srv/{n}").mkdir()

    async def ask(client: aiohttp.ClientSession) -> None:
        url, params = f"{BOX}/files/watch", {"path": "/srv", "recursive": "true"}
        async with client.get(url, params=params) as answer:
            lines = Lines(answer)
            await lines.next()
            (world.disk / "srv/one-more").mkdir()
            await lines.until("overflow", "/srv/one-more")
        error = await refused(client, "GET", url, 429, "limit_reached", params=params)
        assert "watch a part" in error["message"]

    served(world, ask)


def test_what_is_full_says_when_to_come_back_and_a_defect_says_nothing_of_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    async def broken(checkpoint_id: str) -> None:
        raise RuntimeError("an inner detail")

    monkeypatch.setattr(world, "checkpoint_view", broken)

    async def ask(client: aiohttp.ClientSession) -> None:
        monkeypatch.setattr("skerry.agent.files.routes.ARCHIVES_MAX", 0)
        async with client.get(f"{BOX}/files/archive", params={"path": "/srv"}) as answer:
            assert answer.status == 429
            assert answer.headers["retry-after"] == "1"
        error = await refused(client, "GET", "/checkpoints/cp-1/files", 500, "error", params={"path": "/x"})
        assert "inner detail" not in error["message"]

    served(world, ask)
