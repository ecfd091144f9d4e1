"""Look at a service's health: whether somebody listens on its port, by a request to it, or a command beside it.

These are ours and nobody's use of the sandbox: they go round the dialer and the sessions, which both count as activity.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from skerry.agent.namespaces import socket_inside
from skerry.agent.ports.listening import listeners_of
from skerry.errors import SkerryError
from skerry.model.exec import ExecSpec
from skerry.model.guest_service import GuestServiceSpec, Health, MainHealth
from skerry.model.port import Protocol
from skerry.runtime.contract import ExecPlan, Process, Runtime

LOOKS_MAX = 64
"""At one time on this machine, each with a thread or a process."""
STATUS_LINE_BYTES_MAX = 4096
LOOPBACK = "127.0.0.1"
_REFUSED = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED})
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")


class Looks:
    def __init__(
        self,
        *,
        runtime: Runtime,
        plan: Callable[[str, ExecSpec], ExecPlan],
        place: Callable[[str], tuple[Path, str | None]],
        chance: Callable[[int], bytes],
    ) -> None:
        """`place` gives a sandbox's network namespace and its address."""
        self._runtime = runtime
        self._plan = plan
        self._place = place
        self._chance = chance
        self._turns = asyncio.Semaphore(LOOKS_MAX)

    async def fault(self, sandbox_id: str, spec: GuestServiceSpec, looks: Health) -> str | None:
        """What is wrong with it, in words; None: all is well."""
        async with self._turns:
            try:
                async with asyncio.timeout(looks.timeout):
                    if looks.command is not None:
                        return await self._by_command(sandbox_id, spec, looks)
                    assert spec.port is not None, "the model sees to it"
                    network, address = self._place(sandbox_id)
                    status = looks.status if isinstance(looks, MainHealth) else None
                    return await _by_port(network, address, spec.port, looks.http, status)
            except TimeoutError:
                return f"its health was not answered for within {looks.timeout:g} s"
            except SkerryError as error:
                return error.say

    async def _by_command(self, sandbox_id: str, spec: GuestServiceSpec, looks: Health) -> str | None:
        assert looks.command is not None
        asked = ExecSpec(command=looks.command, env=spec.env, user=spec.user, workdir=spec.workdir)
        plan = replace(self._plan(sandbox_id, asked), name=f"health-{self._chance(6).hex()}")
        process = await self._runtime.exec(sandbox_id, plan)
        try:
            while await process.read() is not None:
                pass
            code = await process.wait()
        finally:
            await asyncio.shield(_end(process))
        return None if code == 0 else f"its health command ended with code {code}"


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        await process.kill(signal.SIGKILL)
    await process.close()


async def _by_port(network: Path, address: str | None, port: int, path: str | None, status: int | None) -> str | None:
    """`status`: the only one that is well."""
    if path is None:
        # The kernel's table, not a connection: that would be one that the program has to serve, and many small servers
        # die of one that goes away at once.
        found = await asyncio.to_thread(listeners_of, network)
        listens = any(item.port == port and item.protocol is Protocol.TCP for item in found)
        return None if listens else f"nobody listens on port {port}"
    # Its address first, as for those who use it; many listen on loopback alone.
    for host in (*([address] if address else []), LOOPBACK):
        with socket_inside(network, socket.AF_INET, socket.SOCK_STREAM) as fresh:
            fresh.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(fresh, (host, port))
                return await _answer(fresh, port, path, status)
            except OSError as error:
                if error.errno not in _REFUSED:
                    return f"port {port}: {error.strerror}"
    return f"nobody listens on port {port}"


async def _answer(connected: socket.socket, port: int, path: str, status: int | None) -> str | None:
    loop = asyncio.get_running_loop()
    asked = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: skerry-health\r\nConnection: close\r\n\r\n"
    await loop.sock_sendall(connected, asked.encode())
    line = b""
    while b"\n" not in line and len(line) < STATUS_LINE_BYTES_MAX:
        chunk = await loop.sock_recv(connected, STATUS_LINE_BYTES_MAX)
        if not chunk:
            break
        line += chunk
    found = _STATUS.match(line)
    if found is None:
        return f"GET {path} was not answered in HTTP"
    code = int(found[1])
    well = 200 <= code < 400 if status is None else code == status
    return None if well else f"GET {path} was answered with {code}" + (f", not {status}" if status else "")
