"""What the checks of `conformance.py` are made of: what a test harness lends to each, and the steps they share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from skerry.model.exec import STDERR, STDOUT
from skerry.runtime.contract import ExecPlan, OnOutput, Process, Runtime, StartPlan

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE_S = 30.0
POLL_S = 0.01


class Kit(Protocol):
    """What a test harness lends to a check."""

    runtime: Runtime
    image: str
    """Digest of an image with a minimal Debian in it."""

    def new_id(self) -> str: ...
    def plan(self, sandbox_id: str, command: Sequence[str] = ()) -> StartPlan: ...
    async def restart(self) -> None:
        """The agent dies and comes back: `runtime` is a new one, opened, over what still runs."""
        ...


# Steps that checks are made of


async def start(kit: Kit, sandbox_id: str, *command: str, on_output: OnOutput = lambda _: None) -> int:
    await kit.runtime.create_disk(sandbox_id, kit.image, None)
    return await kit.runtime.start(kit.plan(sandbox_id, command), on_output)


async def launch(kit: Kit, sandbox_id: str, *command: str, **wanted: object) -> Process:
    given: dict[str, object] = {"env": {"PATH": PATH}, "workdir": "/", "user": "root"}
    plan = ExecPlan(command=command, **(given | wanted))  # pyright: ignore[reportArgumentType]
    return await kit.runtime.exec(sandbox_id, plan)


async def finish(process: Process) -> tuple[int | None, bytes, bytes]:
    """(code, stdout, stderr) of a command, to its end."""
    streams = {STDOUT: bytearray(), STDERR: bytearray()}
    async with asyncio.timeout(PATIENCE_S):
        while (chunk := await process.read()) is not None:
            streams[chunk[0]] += chunk[1]
        code = await process.wait()
    await process.close()
    return code, bytes(streams[STDOUT]), bytes(streams[STDERR])


async def run(kit: Kit, sandbox_id: str, *command: str, **wanted: object) -> tuple[int | None, bytes, bytes]:
    return await finish(await launch(kit, sandbox_id, *command, **wanted))


async def write(kit: Kit, sandbox_id: str, path: str, text: str) -> None:
    code, _, _ = await run(kit, sandbox_id, "sh", "-c", f"echo {text} > {path}")
    assert code == 0


async def content(kit: Kit, sandbox_id: str, path: str) -> bytes:
    return (await run(kit, sandbox_id, "cat", path))[1]


async def refuses(kind: type[Exception], work: Awaitable[object]) -> None:
    try:
        await work
    except kind:
        return
    raise AssertionError(f"expected {kind.__name__}")


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE_S / POLL_S)):
        if condition():
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError("it did not come about")
