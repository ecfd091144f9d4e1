"""How control speaks to one machine's agent: typed orders and reports over its unix socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from multidict import CIMultiDict
from pydantic import BaseModel
from yarl import URL

from skerry.errors import Failed, SkerryError, TooLarge, Unavailable, from_wire
from skerry.model.archive import ArchivedSandbox, ImportOrder, ImportPending
from skerry.model.image import Image, ImageConfig
from skerry.model.node import Capacity
from skerry.model.order import Order, Report
from skerry.model.port import HeldPort
from skerry.model.sleep import SleepRequest
from skerry.model.stats import Stats, WorkAsked, Works
from skerry.model.volume import Volume
from skerry.model.weights import ModelFile, ModelOrder

M = TypeVar("M", bound=BaseModel)

CONNECT_S_MAX = 5.0
QUICK_S_MAX = 30.0
"""For what the agent answers from memory or with one system call."""
START_S_MAX = 180.0
"""A start from an image is some 30 ms; this allows for a machine under heavy load. Repeating the order is harmless."""
CHECKPOINT_S_MAX = 120.0
"""A checkpoint first writes the sandbox's dirty pages, which may be many."""
SILENCE_S_MAX = 15.0
"""Three beats of the agent's report stream: one lost beat does not make a machine unreachable."""
IMAGE_SILENCE_S_MAX = 1800.0
"""A step of an image that tells no progress (unpacking a big layer) may take this long."""
ANSWER_BYTES_MAX = 64 * 1024**2
CHUNK_BYTES = 64 * 1024

FROM_AIOHTTP: dict[type[Exception], tuple[type[SkerryError], str]] = {
    aiohttp.ClientConnectorError: (Unavailable, "the agent of this machine does not answer; it may be starting"),
    aiohttp.ServerDisconnectedError: (Unavailable, "the agent of this machine went away while it was asked"),
    aiohttp.ClientOSError: (Unavailable, "the connection to this machine's agent broke"),
    aiohttp.ClientPayloadError: (Unavailable, "the agent of this machine went away while it answered"),
    aiohttp.ClientError: (Unavailable, "the agent of this machine could not be asked"),
    TimeoutError: (Unavailable, "the agent of this machine did not answer in time"),
    OSError: (Unavailable, "the connection to this machine's agent broke"),
}


def translate(error: Exception) -> SkerryError:
    """The most specific entry of the table wins."""
    for kind in type(error).__mro__:
        if kind in FROM_AIOHTTP:
            made, say = FROM_AIOHTTP[kind]
            return made(say, because=f"{type(error).__name__}: {error}", retry_after_s=1)
    return Failed("the agent of this machine answered what was not understood", because=repr(error))


class AgentClient:
    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # No limit of connections here: a follower of logs must never make an order wait.
            connector=aiohttp.UnixConnector(path=str(self._socket_path), limit=0, keepalive_timeout=4.0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S_MAX),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None, "the client is used inside `async with`"
        return self._session

    # Sandboxes

    async def capacity(self) -> Capacity:
        return Capacity.model_validate_json(await self._call("GET", "/capacity", QUICK_S_MAX))

    async def reports(self) -> list[Report]:
        answer = json.loads(await self._call("GET", "/reports", QUICK_S_MAX))
        return [Report.model_validate(item) for item in answer["items"]]

    async def watch_reports(self) -> AsyncGenerator[list[Report] | Report | None]:
        """First all of them, then each change; None is a beat. Raises Unavailable when the agent falls silent."""
        async with self._open("GET", "/reports?watch=true") as answer:
            async for line in _lines(answer, SILENCE_S_MAX):
                match line.get("type"):
                    case "snapshot":
                        yield [Report.model_validate(item) for item in line["items"]]
                    case "report":
                        yield Report.model_validate(line["item"])
                    case _:
                        yield None

    async def start(self, order: Order) -> Report:
        return await self._report("PUT", f"/sandboxes/{order.sandbox_id}", order.model_dump_json(), START_S_MAX)

    async def change(self, order: Order) -> Report:
        """As `start`, but for what does not run any more: that is left as it is."""
        path = f"/sandboxes/{order.sandbox_id}?start=false"
        return await self._report("PUT", path, order.model_dump_json(), START_S_MAX)

    async def stop(self, sandbox_id: str, generation: int, grace_s: float) -> Report:
        body = json.dumps({"generation": generation, "grace_s": grace_s})
        return await self._report("POST", f"/sandboxes/{sandbox_id}/stop", body, grace_s + QUICK_S_MAX)

    async def restore(self, order: Order, checkpoint_id: str) -> Report:
        body = json.dumps(
            {"generation": order.generation, "checkpoint": checkpoint_id, "order": order.model_dump(mode="json")}
        )
        return await self._report("POST", f"/sandboxes/{order.sandbox_id}/restore", body, START_S_MAX)

    async def delete(self, sandbox_id: str, generation: int, keep_log: str | None = None) -> Report:
        """`keep_log`: as what its output is kept."""
        kept = "" if keep_log is None else f"&keep_log={keep_log}"
        return await self._report("DELETE", f"/sandboxes/{sandbox_id}?generation={generation}{kept}", None, START_S_MAX)

    @asynccontextmanager
    async def log(self, path: str) -> AsyncGenerator[AsyncIterator[bytes]]:
        """What is printed, as it comes. Raises NotFound where there is none."""
        async with self._open("GET", path) as answer:
            yield answer.content.iter_any()

    async def forget_logs(self, job_id: str) -> None:
        await self._call("DELETE", f"/job-logs/{job_id}", START_S_MAX)

    async def sleep(self, sandbox_id: str, asked: SleepRequest) -> Report:
        return await self._report("POST", f"/sandboxes/{sandbox_id}/sleep", asked.model_dump_json(), START_S_MAX)

    async def wake(self, sandbox_id: str) -> Report:
        return await self._report("POST", f"/sandboxes/{sandbox_id}/wake", None, START_S_MAX)

    async def stats(self, sandbox_id: str) -> Stats:
        return Stats.model_validate_json(await self._call("GET", f"/sandboxes/{sandbox_id}/stats", QUICK_S_MAX))

    async def busy(self, sandbox_ids: Sequence[str]) -> Works:
        body = WorkAsked(sandboxes=list(sandbox_ids)).model_dump_json()
        return Works.model_validate_json(await self._call("POST", "/busy", QUICK_S_MAX, body))

    async def held_ports(self) -> list[HeldPort]:
        """What programs of the machine listen on that are no sandbox's."""
        answer = json.loads(await self._call("GET", "/ports/held", QUICK_S_MAX))
        return [HeldPort.model_validate(item) for item in answer["items"]]

    # Checkpoints

    async def checkpoint(self, sandbox_id: str, checkpoint_id: str, request_id: str | None) -> float:
        """Milliseconds the sandbox stood still."""
        path = f"/sandboxes/{sandbox_id}/checkpoints/{checkpoint_id}"
        body = json.dumps({} if request_id is None else {"request_id": request_id})
        return float(json.loads(await self._call("PUT", path, CHECKPOINT_S_MAX, body))["frozen_ms"])

    async def refuse_checkpoint(self, sandbox_id: str, request_id: str, message: str) -> None:
        body = json.dumps({"request_id": request_id, "message": message})
        await self._call("POST", f"/sandboxes/{sandbox_id}/checkpoint-refused", QUICK_S_MAX, body)

    async def checkpoint_ids(self) -> list[str]:
        return [str(item) for item in json.loads(await self._call("GET", "/checkpoints", QUICK_S_MAX))["items"]]

    async def delete_checkpoint(self, checkpoint_id: str) -> None:
        await self._call("DELETE", f"/checkpoints/{checkpoint_id}", QUICK_S_MAX)

    # Images

    async def create_image(self, image: Image) -> AsyncGenerator[dict[str, Any]]:
        """Progress lines, the last one of type `done`; raises the typed error of an `error` line. Leaving early
        cancels the work and leaves nothing."""
        kind, _, rest = image.source.partition(":")
        body: dict[str, Any] = {"image_id": image.id, "include": image.include, "insecure": image.insecure}
        path = "/images"
        if kind == "recipe":
            body["recipe"] = rest
        elif kind == "sandbox":
            path = "/images/commit"
            body = {"image_id": image.id, "sandbox_id": rest, "comment": ""}
        else:
            body["source"] = image.source
        async with aclosing(self._progress(path, json.dumps(body).encode())) as lines:
            async for line in lines:
                yield line

    async def upload_image(self, image_id: str, chunks: AsyncIterator[bytes]) -> AsyncGenerator[dict[str, Any]]:
        async with aclosing(self._progress(f"/images/upload?image_id={image_id}", chunks)) as lines:
            async for line in lines:
                yield line

    async def _progress(
        self, path: str, data: bytes | AsyncIterator[bytes], method: str = "POST"
    ) -> AsyncGenerator[dict[str, Any]]:
        async with self._open(method, path, data=data) as answer:
            async for line in _lines(answer, IMAGE_SILENCE_S_MAX):
                if line.get("type") == "error":
                    error = from_wire(line)
                    # A registry that does not answer is not an agent that does not: repeating is the user's choice.
                    raise Failed(error.say) if isinstance(error, Unavailable) else error
                yield line
                if line.get("type") == "done":
                    return
        raise Unavailable("the agent of this machine went away in the middle", retry_after_s=1)

    async def image_digests(self) -> list[str]:
        answer = json.loads(await self._call("GET", "/images", QUICK_S_MAX))
        return [str(item["digest"]) for item in answer["items"]]

    async def delete_image(self, digest: str) -> None:
        await self._call("DELETE", f"/images/{digest}", CHECKPOINT_S_MAX)

    # Volumes

    async def create_volume(self, volume: Volume) -> None:
        body = {"size_bytes": volume.size_bytes, "source": volume.source, "readonly": volume.readonly}
        await self._call("PUT", f"/volumes/{volume.id}", CHECKPOINT_S_MAX, json.dumps(body))

    async def resize_volume(self, volume_id: str, size_bytes: int) -> None:
        body = json.dumps({"size_bytes": size_bytes})
        await self._call("POST", f"/volumes/{volume_id}/resize", CHECKPOINT_S_MAX, body)

    async def volumes(self) -> dict[str, int]:
        """Id -> bytes written to it, of every volume there is on the machine."""
        answer = json.loads(await self._call("GET", "/volumes", QUICK_S_MAX))
        return {str(item["id"]): int(item["used_bytes"]) for item in answer["items"]}

    async def delete_volume(self, volume_id: str) -> None:
        await self._call("DELETE", f"/volumes/{volume_id}", QUICK_S_MAX)

    # Models

    async def create_model(self, model_id: str, order: ModelOrder) -> AsyncGenerator[dict[str, Any]]:
        """As `create_image`; but what was fetched stays, for the next call to go on from."""
        data = order.model_dump_json().encode()
        async with aclosing(self._progress(f"/models/{model_id}", data, "PUT")) as lines:
            async for line in lines:
                yield line

    async def models(self) -> list[str]:
        """Ids of those that are there."""
        return [str(item) for item in json.loads(await self._call("GET", "/models", QUICK_S_MAX))["items"]]

    async def model_files(self, model_id: str) -> list[ModelFile]:
        answer = json.loads(await self._call("GET", f"/models/{model_id}", QUICK_S_MAX))
        return [ModelFile.model_validate(item) for item in answer["files"]]

    async def delete_model(self, model_id: str) -> None:
        await self._call("DELETE", f"/models/{model_id}", CHECKPOINT_S_MAX)

    # Archives

    async def receive_archive(self, sandbox_id: str, chunks: AsyncIterator[bytes]) -> ArchivedSandbox:
        async with self._open("POST", f"/imports/{sandbox_id}", data=chunks) as answer:
            return ArchivedSandbox.model_validate_json(await _read(answer))

    async def make_import(self, sandbox_id: str, order: ImportOrder) -> ImageDone:
        """What its disk has come to stand on. Leaving early gives the import up."""
        async with aclosing(self._progress(f"/imports/{sandbox_id}/make", order.model_dump_json().encode())) as lines:
            async for line in lines:
                if line.get("type") == "done":
                    return image_done(line)
        raise AssertionError("unreachable")

    async def keep_import(self, order: Order) -> None:
        await self._call("POST", f"/imports/{order.sandbox_id}/keep", QUICK_S_MAX, order.model_dump_json())

    async def give_up_import(self, sandbox_id: str, *, image: bool) -> None:
        """`image`: with that which it brought."""
        path = f"/imports/{sandbox_id}?image={'true' if image else 'false'}"
        await self._call("DELETE", path, CHECKPOINT_S_MAX)

    async def pending_imports(self) -> list[ImportPending]:
        answer = json.loads(await self._call("GET", "/imports", QUICK_S_MAX))
        return [ImportPending.model_validate(item) for item in answer["items"]]

    # Requests

    async def _report(self, method: str, path: str, body: str | None, limit_s: float) -> Report:
        return Report.model_validate_json(await self._call(method, path, limit_s, body))

    async def _call(self, method: str, path: str, limit_s: float, body: str | None = None) -> bytes:
        """The whole answer. Raises the agent's own error in its type, Unavailable when there was no answer."""
        try:
            async with asyncio.timeout(limit_s):
                async with self._open(method, path, data=None if body is None else body.encode()) as answer:
                    return await _read(answer)
        except TimeoutError as error:
            raise translate(error) from error

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, data: bytes | AsyncIterator[bytes] | None = None
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        try:
            async with self.request(method, path, {}, data) as answer:
                if answer.status >= 400:
                    raise _typed(answer.status, await _read(answer))
                yield answer
        except (aiohttp.ClientError, OSError) as error:
            raise translate(error) from error

    def request(
        self, method: str, path: str, headers: Mapping[str, str], data: Any
    ) -> aiohttp.client._RequestContextManager:  # pyright: ignore[reportPrivateUsage]
        """Untouched: for answers that are passed on. `path` is quoted already, query and all."""
        url = URL(f"http://agent{path}", encoded=True)
        return self.session.request(method, url, headers=CIMultiDict(headers), data=data, allow_redirects=False)


def _typed(status: int, body: bytes) -> SkerryError:
    try:
        return from_wire(json.loads(body))
    except ValueError:
        return Failed(f"the agent of this machine answered {status}", because=body[:500].decode(errors="replace"))


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    answer_bytes = await answer.content.read(ANSWER_BYTES_MAX + 1)
    parts = [answer_bytes]
    size = len(answer_bytes)
    while answer_bytes:
        answer_bytes = await answer.content.read(CHUNK_BYTES)
        size += len(answer_bytes)
        if size > ANSWER_BYTES_MAX:
            raise TooLarge("the agent's answer is larger than is allowed")
        parts.append(answer_bytes)
    return b"".join(parts)


async def _lines(answer: aiohttp.ClientResponse, silence_s: float) -> AsyncIterator[dict[str, Any]]:
    """JSON lines of any length up to the limit of an answer (a snapshot of 4,000 sandboxes is one line)."""
    rest = b""
    while True:
        async with asyncio.timeout(silence_s):
            chunk = await answer.content.readany()
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > ANSWER_BYTES_MAX:
            raise TooLarge("the agent sent a line larger than is allowed")
        for line in lines:
            if line:
                yield json.loads(line)


ImageDone = tuple[str, int, ImageConfig]
"""(digest, size in bytes, what the image says about itself)"""


def image_done(line: dict[str, Any]) -> ImageDone:
    return str(line["digest"]), int(line["size_bytes"]), ImageConfig.model_validate(line.get("config") or {})
