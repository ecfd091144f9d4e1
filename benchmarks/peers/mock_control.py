"""A control that knows one service and one key, for the gateway alone: `python mock_control.py FOLDER KEY`, where the
service is FOLDER/route.json and the socket FOLDER/control.sock."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aiohttp import web

from skerry.model.traffic import ACCESS, TAKE, TRAFFIC, USAGE, Access, ServiceRoute, Take, Taken
from skerry.model.url import RouteNews

BEAT_S = 5.0


async def serve(folder: Path, key: str) -> None:
    route = ServiceRoute.model_validate_json((folder / "route.json").read_text())

    async def news(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        told = RouteNews(every=[], services=[route])
        while True:
            await answer.write(told.model_dump_json(exclude_none=True).encode() + b"\n")
            await asyncio.sleep(BEAT_S)
            told = RouteNews()

    async def access(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {key}":
            return web.Response(status=401)
        return web.json_response(text=Access(project="default", client="bench", id="key-bench").model_dump_json())

    async def take(request: web.Request) -> web.Response:
        asked = Take.model_validate_json(await request.read())
        given = Taken(requests=asked.requests, tokens=asked.tokens, concurrency=asked.concurrency, for_s=60)
        return web.json_response(text=given.model_dump_json())

    async def hear(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/internal/routes", news)
    app.router.add_get(ACCESS, access)
    app.router.add_post(TAKE, take)
    app.router.add_post(TRAFFIC, hear)
    app.router.add_post(USAGE, hear)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(folder / "control.sock")).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
