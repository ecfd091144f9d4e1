"""The door that a sandbox has to us lets in what its spec of today allows, not that of its first start."""

from __future__ import annotations

import asyncio
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from skerry.agent.guest import GuestDoor
from skerry.model.sandbox import SandboxSpec
from skerry.model.sleep import Lease, LeaseRequest


async def asked(path: Path, what: str) -> str:
    reader, writer = await asyncio.open_unix_connection(path)
    body = '{"for_s": 60, "note": "a build"}'
    head = f"POST /v1/{what} HTTP/1.1\r\nHost: sandbox\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write((head + body).encode())
    answer = await reader.read()
    writer.close()
    return answer.split()[1].decode()


def test_a_door_opened_for_something_else_is_opened_anew() -> None:
    async def tell(_: str, __: dict[str, str] | None) -> None: ...

    async def grant(_: str, asked: LeaseRequest) -> Lease:
        return Lease(id="le-1", note=asked.note, until=datetime.now(UTC))

    async def use(folder: Path) -> None:
        door = GuestDoor(folder=folder, chance=os.urandom, tell=tell, grant=grant)
        path = door.folder("sb-1") / "api.sock"
        lease = SandboxSpec(image="x", self_lease=True)
        await door.open("sb-1", lease, uid=os.getuid())
        assert await asked(path, "leases") == "201"
        await door.open("sb-1", SandboxSpec(image="x", self_checkpoint=True), uid=os.getuid())
        assert await asked(path, "leases") == "404"
        await door.open("sb-1", lease, uid=os.getuid())
        assert await asked(path, "leases") == "201"
        await door.close_all()

    with tempfile.TemporaryDirectory(prefix="skerry-g-") as folder:
        asyncio.run(use(Path(folder)))
