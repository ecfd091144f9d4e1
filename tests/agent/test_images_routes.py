"""The image API over a real socket: progress lines, errors where they belong, and hanging up as a way to cancel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from skerry.agent.images.routes import image_routes
from skerry.agent.images.store import ImageLimits, ImageStore
from skerry.errors import SkerryError
from tests.agent.images_machine import (
    FolderRuntime,
    LocalRegistry,
    entry,
    local_registry,
    make_store,
    nothing_left,
    small_rootfs,
    tar_folder,
    tar_of,
    until,
    write_layout,
)

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with local_registry(tmp_path_factory.mktemp("registry")) as one:
        yield one


async def _answer(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SkerryError)
    return JSONResponse(error.wire(), status_code=404 if error.code == "not_found" else 400)


@contextlib.asynccontextmanager
async def served(store: ImageStore, socket: Path) -> AsyncGenerator[aiohttp.ClientSession, None]:
    """As the agent does it: uvicorn on a unix socket."""
    app = Starlette(routes=image_routes(store), exception_handlers={SkerryError: _answer})
    server = uvicorn.Server(uvicorn.Config(app, uds=str(socket), log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        async with aiohttp.ClientSession("http://agent", connector=aiohttp.UnixConnector(str(socket))) as session:
            yield session
    finally:
        server.should_exit = True
        await serving


async def lines(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    assert response.status == 200, await response.text()
    return [json.loads(line) async for line in response.content]


def run(tmp_path: Path, body: Any, **options: Any) -> FolderRuntime:
    runtime = FolderRuntime(tmp_path / "pool")

    async def running() -> None:
        store = make_store(tmp_path / "data", runtime, **options)
        await store.open()
        async with served(store, tmp_path / "agent.sock") as session:
            await body(session, runtime)
        await store.close()

    asyncio.run(running())
    assert nothing_left(tmp_path / "data", runtime)
    return runtime


def test_an_image_from_pull_to_deletion(registry: LocalRegistry, tmp_path: Path) -> None:
    digest = write_layout(tmp_path / "layout", [small_rootfs()])
    registry.push(tmp_path / "layout", "box:1")
    order = {"image_id": "im-1", "source": f"docker://{registry.host}/box:1", "insecure": True}

    async def body(http: aiohttp.ClientSession, _: FolderRuntime) -> None:
        async with http.post("/images", json=order) as response:
            told = await lines(response)
        assert next(line["step"] for line in told if line["type"] == "progress") == "resolve"
        done = told[-1]
        assert (done["type"], done["digest"], done["config"]["cmd"]) == ("done", digest, ["-x"])
        async with http.get("/images") as response:
            assert await response.json() == {"items": [{"digest": digest, "size_bytes": done["size_bytes"]}]}
        async with http.get(f"/images/{digest}/export", params={"name": "box:2"}) as response:
            archive = await response.read()
            assert len(archive) == int(response.headers["content-length"])
        async with http.post("/images/upload", params={"image_id": "im-2"}, data=archive) as response:
            assert (await lines(response))[-1]["config"] == done["config"]
        for _ in range(2):
            async with http.delete(f"/images/{digest}") as response:
                assert response.status == 204
        async with http.get(f"/images/{digest}/export") as response:
            assert response.status == 404
            assert (await response.json())["error"]["code"] == "not_found"

    run(tmp_path, body)


def test_an_error_ends_the_stream(registry: LocalRegistry, tmp_path: Path) -> None:
    async def body(http: aiohttp.ClientSession, _: FolderRuntime) -> None:
        order = {"image_id": "im-1", "source": f"docker://{registry.host}/none:1", "insecure": True}
        async with http.post("/images", json=order) as response:
            last = (await lines(response))[-1]
        assert (last["type"], last["error"]["code"]) == ("error", "not_found")
        async with http.post("/images/upload?image_id=im-2", data=b"rubbish" * 100) as response:
            assert (await lines(response))[-1]["error"]["code"] == "invalid"
        async with http.post("/images/commit", json={"image_id": "im-3", "sandbox_id": "sb-none"}) as response:
            assert (await lines(response))[-1]["error"]["code"] == "not_found"

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/images", {"image_id": "../x", "recipe": "debian:12"}),
        ("/images", {"image_id": "im-1"}),
        ("/images", {"image_id": "im-1", "recipe": "arch:1"}),
        ("/images", {"image_id": "im-1", "recipe": "debian:12", "include": ["a; rm -rf /"]}),
        ("/images", {"image_id": "im-1", "source": "docker://a", "recipe": "debian:12"}),
        ("/images", ["im-1"]),
        ("/images/commit", {"image_id": "im-1", "sandbox_id": "../../etc"}),
        ("/images/upload", {}),
    ],
)
def test_bad_requests_are_refused_before_any_work(tmp_path: Path, path: str, body: Any) -> None:
    async def ask(http: aiohttp.ClientSession, _: FolderRuntime) -> None:
        async with http.post(path, json=body) as response:
            assert response.status == 400
            assert (await response.json())["error"]["code"] == "invalid"

    run(tmp_path, ask)


def test_hanging_up_cancels_a_pull(registry: LocalRegistry, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", [tar_of(entry("./big", os.urandom(48 * 1024 * 1024)))])
    registry.push(tmp_path / "layout", "big:1")
    order = {"image_id": "im-1", "source": f"docker://{registry.host}/big:1", "insecure": True}

    async def body(http: aiohttp.ClientSession, runtime: FolderRuntime) -> None:
        async with http.post("/images", json=order) as response:
            async for line in response.content:
                if json.loads(line)["step"] == "download":
                    break
            response.close()
        await until(lambda: nothing_left(tmp_path / "data", runtime))
        async with http.get("/images") as response:
            assert await response.json() == {"items": []}

    assert run(tmp_path, body).unpacked == 0


def test_hanging_up_while_sending_leaves_nothing(tmp_path: Path) -> None:
    async def body(_: aiohttp.ClientSession, runtime: FolderRuntime) -> None:
        incoming = tmp_path / "data/incoming"
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "agent.sock"))
        writer.write(b"POST /images/upload?image_id=im-1 HTTP/1.1\r\nHost: agent\r\nContent-Length: 1000000\r\n\r\n")
        writer.write(b"x" * 100_000)
        await until(lambda: any(incoming.iterdir()))
        writer.close()
        await until(lambda: nothing_left(tmp_path / "data", runtime))
        del reader

    run(tmp_path, body)


def test_an_upload_over_the_limit_is_refused(tmp_path: Path) -> None:
    async def endless() -> AsyncGenerator[bytes, None]:
        for _ in range(8):
            yield bytes(512 * 1024)

    async def body(http: aiohttp.ClientSession, _: FolderRuntime) -> None:
        for data in (bytes(4 * 1024 * 1024), endless()):  # told in advance, and found out on the way
            with contextlib.suppress(aiohttp.ClientOSError):
                async with http.post("/images/upload?image_id=im-1", data=data) as response:
                    assert (await response.json())["error"]["code"] == "too_large"

    run(tmp_path, body, limits=ImageLimits(upload_bytes_max=1024 * 1024))


def test_a_layout_folder_in_a_tar_is_taken(tmp_path: Path) -> None:
    digest = write_layout(tmp_path / "layout", [small_rootfs()])
    archive = tar_folder(tmp_path / "layout", tmp_path / "image.tar", inside=False)

    async def body(http: aiohttp.ClientSession, _: FolderRuntime) -> None:
        async with http.post("/images/upload?image_id=im-1", data=archive.read_bytes()) as response:
            assert (await lines(response))[-1]["digest"] == digest

    run(tmp_path, body)
