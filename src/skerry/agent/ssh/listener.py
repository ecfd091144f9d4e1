"""The SSH listener as the agent has it: a socket at first, the protocol on it from the first connection on."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.agent.ssh.inside import Inside
from skerry.agent.ssh.keys import KeyBook
from skerry.clock import Clock
from skerry.errors import Unavailable, Unsupported
from skerry.model.ssh import SshAccess, SshGrant
from skerry.telemetry import Log

if TYPE_CHECKING:
    from skerry.agent.ssh.engine import Engine

BACKLOG = 128
RETRY_S = 5.0
"""A port that another program holds may become free."""
OFF = "off"
_EVERYWHERE = ("0.0.0.0", "::", "*")


class SshListener:
    def __init__(self, *, listen: str, key_path: Path, folder: Path, inside: Inside, clock: Clock, log: Log) -> None:
        """`listen` is HOST:PORT, or `off`."""
        host, _, port = listen.rpartition(":")
        self._host = host.strip("[]")
        self._port = int(port) if listen != OFF else 0
        self._is_on = listen != OFF
        self._key_path = key_path
        self._inside = inside
        self._clock = clock
        self._log = log
        self.book = KeyBook(folder)
        self._engine: Engine | None = None
        self._serving: asyncio.Task[None] | None = None
        self._trouble: str | None = None
        self._importing = asyncio.Lock()

    def open(self, alive: set[str]) -> None:
        """`alive`: the sandboxes of this machine. A port that is taken keeps nobody from anything but SSH."""
        self.book.open(alive)
        if self._is_on:
            self._serving = asyncio.get_running_loop().create_task(self._serve())

    async def close(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        if self._engine is not None:
            self._engine.close()

    async def access(self, sandbox_id: str) -> SshAccess:
        """Raises Unsupported when there is no listener, Unavailable when its port is taken."""
        if not self._is_on:
            raise Unsupported("SSH is switched off on this machine; its operator sets ssh_listen")
        if self._trouble is not None:
            raise Unavailable(self._trouble, retry_after_s=RETRY_S)
        engine = await self._engine_made()
        return SshAccess(
            host=None if self._host in _EVERYWHERE else self._host,
            port=self._port,
            user=sandbox_id,
            host_key=engine.host_key,
            keys=[key.shown() for key in self.book.of(sandbox_id, self._clock.now())],
        )

    async def grant(self, sandbox_id: str, for_s: float) -> SshGrant:
        await self.access(sandbox_id)
        from skerry.agent.ssh.engine import new_key

        private_key, key = new_key(self._clock.now(), for_s, f"skerry {sandbox_id}")
        self.book.add(sandbox_id, key)
        self._log.info("ssh: a key was made", sandbox=sandbox_id, by=key.fingerprint, until=key.expires_at)
        access = await self.access(sandbox_id)
        return SshGrant(
            host=access.host,
            port=access.port,
            user=access.user,
            host_key=access.host_key,
            keys=access.keys,
            private_key=private_key,
            fingerprint=key.fingerprint,
            expires_at=key.expires_at,
        )

    def revoke(self, sandbox_id: str) -> None:
        """No key opens it any more, and who came in by one is out."""
        self.book.forget(sandbox_id)
        if self._engine is not None:
            self._engine.end(sandbox_id)

    async def _engine_made(self) -> Engine:
        async with self._importing:
            if self._engine is None:
                self._engine = await asyncio.to_thread(self._make_engine)
            return self._engine

    def _make_engine(self) -> Engine:
        from skerry.agent.ssh.engine import Engine

        return Engine(key_path=self._key_path, book=self.book, inside=self._inside, clock=self._clock, log=self._log)

    async def _serve(self) -> None:
        listening = await self._listening()
        try:
            await _readable(listening)
            engine = await self._engine_made()
            await engine.serve(listening)
        except BaseException as error:
            listening.close()
            if isinstance(error, Exception):
                self._trouble = "the SSH listener of this machine has failed; its log says why"
                self._log.error("ssh: the listener has failed", error=error)
                return
            raise

    async def _listening(self) -> socket.socket:
        while True:
            try:
                made = socket.create_server(
                    (self._host, self._port),
                    family=socket.AF_INET6 if ":" in self._host else socket.AF_INET,
                    backlog=BACKLOG,
                )
            except OSError as error:
                if self._trouble is None:
                    self._log.warning("ssh: cannot listen", port=self._port, because=error.strerror or str(error))
                self._trouble = f"SSH cannot listen on port {self._port} of this machine: another program has it"
                await asyncio.sleep(RETRY_S)
                continue
            self._trouble = None
            made.setblocking(False)
            return made


async def _readable(listening: socket.socket) -> None:
    """Until somebody connects, who waits in the kernel meanwhile."""
    loop = asyncio.get_running_loop()
    somebody: asyncio.Future[None] = loop.create_future()
    loop.add_reader(listening, lambda: None if somebody.done() else somebody.set_result(None))
    try:
        await somebody
    finally:
        loop.remove_reader(listening)
