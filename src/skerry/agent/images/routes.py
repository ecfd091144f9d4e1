"""The agent's HTTP API over images. Making one answers with NDJSON: progress, then `done` or `error`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Protocol

from pydantic import Field, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from skerry.agent.images.catalog import ImageEntry
from skerry.agent.images.progress import Progress, Step, ended
from skerry.agent.images.store import ImageStore
from skerry.agent.images.streaming import Answer, StreamedAnswer
from skerry.agent.images.upload import Upload
from skerry.errors import Failed, Invalid, SkerryError, TooLarge
from skerry.model.fields import Frozen
from skerry.model.image import ImageRequest

NDJSON = "application/x-ndjson"
BODY_BYTES_MAX = 1024 * 1024
PENDING_MAX = 64
"""Progress lines kept for a caller who does not read; a newer one of the same step replaces the last."""
BEAT_S = 5.0
"""The last line again after so long without news, so that whoever is in between sees life."""

_log = logging.getLogger(__name__)

ImageId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Made(Protocol):
    def told(self) -> dict[str, Any]:
        """What control is told of it."""
        ...


Making = Callable[[Progress], Awaitable[Made]]


class CommitOrder(Frozen):
    image_id: ImageId
    sandbox_id: ImageId
    comment: Annotated[str, Field(max_length=4096)] = ""


def image_routes(store: ImageStore) -> list[Route]:
    routes = ImageRoutes(store)
    return [
        Route("/images", routes.list, methods=["GET"]),
        Route("/images", routes.make, methods=["POST"]),
        Route("/images/upload", routes.upload, methods=["POST"]),
        Route("/images/commit", routes.commit, methods=["POST"]),
        Route("/images/{digest}", routes.delete, methods=["DELETE"]),
        Route("/images/{digest}/export", routes.export, methods=["GET"]),
    ]


class ImageRoutes:
    def __init__(self, store: ImageStore) -> None:
        self._store = store

    async def list(self, _: Request) -> Response:
        items = [{"digest": one.digest, "size_bytes": one.size_bytes} for one in self._store.images()]
        return JSONResponse({"items": items})

    async def make(self, request: Request) -> Response:
        body = await _body(request)
        image_id = _image_id(body.pop("image_id", None))
        try:  # the name is control's; it stands here only for the one definition of a request
            asked = ImageRequest.model_validate({"name": "image", **body})
        except ValidationError as error:
            raise _invalid(error) from None

        async def making(progress: Progress) -> ImageEntry:
            if asked.source is not None:
                return await self._store.pull(image_id, asked.source, asked.insecure, progress)
            assert asked.recipe is not None
            return await self._store.build(image_id, asked.recipe, asked.include, progress)

        return making_answer(making)

    async def upload(self, request: Request) -> Response:
        image_id = _image_id(request.query_params.get("image_id"))
        length = request.headers.get("content-length", "")
        try:
            upload = await self._store.receive(image_id, request.stream(), int(length) if length.isdigit() else None)
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody
        return making_answer(lambda progress: self._store.load(upload, progress), upload)

    async def commit(self, request: Request) -> Response:
        try:
            asked = CommitOrder.model_validate(await _body(request))
        except ValidationError as error:
            raise _invalid(error) from None
        return making_answer(lambda tell: self._store.commit(asked.image_id, asked.sandbox_id, asked.comment, tell))

    async def delete(self, request: Request) -> Response:
        await self._store.delete(request.path_params["digest"])
        return Response(status_code=204)

    async def export(self, request: Request) -> Response:
        digest, name = request.path_params["digest"], request.query_params.get("name", "image")

        @asynccontextmanager
        async def opens() -> AsyncGenerator[Answer, None]:
            async with self._store.export(digest, name) as archive:
                yield Answer(archive.stream(), {"content-length": str(archive.size_bytes)})

        return StreamedAnswer(opens, "application/x-tar")


async def _body(request: Request) -> dict[str, Any]:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > BODY_BYTES_MAX:
            raise TooLarge(f"the body may be {BODY_BYTES_MAX} bytes at most")
    try:
        body: Any = json.loads(raw)
    except ValueError:
        raise Invalid("the body is not JSON") from None
    if not isinstance(body, dict):
        raise Invalid("the body is not a JSON object")
    return body  # pyright: ignore[reportUnknownVariableType]


def _image_id(value: object) -> str:
    try:
        return TypeAdapter[str](ImageId).validate_python(value)
    except ValidationError:
        raise Invalid("image_id is 1 to 63 lower-case letters, digits and '-'", field="image_id") from None


def _invalid(error: ValidationError) -> Invalid:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    return Invalid(message, field=".".join(str(part) for part in first["loc"]) or None)


def making_answer(making: Making, upload: Upload | None = None) -> Response:
    """Progress lines, then what was made or an error; `upload` is let go of at the end."""

    @asynccontextmanager
    async def opens() -> AsyncGenerator[Answer, None]:
        try:
            yield Answer(_lines(making))
        finally:
            if upload is not None:
                await upload.close()

    return StreamedAnswer(opens, NDJSON)


async def _lines(making: Making) -> AsyncGenerator[bytes, None]:
    """Progress as it comes, a beat when none does, and the outcome."""
    pending: deque[tuple[Step, int | None, int | None]] = deque(maxlen=PENDING_MAX)
    news = asyncio.Event()

    def tell(step: Step, done_bytes: int | None, total_bytes: int | None) -> None:
        if pending and pending[-1][0] is step:
            pending.pop()
        pending.append((step, done_bytes, total_bytes))
        news.set()

    async def make() -> dict[str, Any]:
        try:
            return await _outcome(making, tell)
        finally:
            news.set()

    task = asyncio.create_task(make())
    last = (Step.RESOLVE, None, None)
    try:
        while not task.done() or pending:
            try:
                async with asyncio.timeout(BEAT_S):
                    await news.wait()
            except TimeoutError:
                pending.append(last)
            news.clear()
            while pending:
                last = pending.popleft()
                yield _line({"type": "progress", "step": last[0], "done_bytes": last[1], "total_bytes": last[2]})
            if task.done():
                break
        yield _line(task.result())
    finally:
        await ended(task)


async def _outcome(making: Making, tell: Progress) -> dict[str, Any]:
    try:
        made = await making(tell)
    except SkerryError as error:
        _log.info("not made: %s (%s)", error.say, error.because)
        return {"type": "error", **error.wire()}
    except Exception:
        _log.exception("not made")
        return {"type": "error", **Failed("the agent failed in a way it did not expect; its log says why").wire()}
    return {"type": "done", **made.told()}


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
