"""The client's ssh-agent, as a socket inside the sandbox that only the user who logged in can reach."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from skerry.agent.ssh.guest_user import GuestUser, within
from skerry.agent.ssh.pump import pump_both
from skerry.errors import Failed

CONNECTIONS_MAX = 8
"""Of one login at one time; the others are closed at once."""
BACKLOG = 8
FOLDER = b"/tmp"


class ForwardedAgent:
    """Listens inside, and leads each connection to `host_path`, where asyncssh carries it on to the client. The folder
    and the socket are made by the user's own thread: what the guest may have put at /tmp leads nowhere else."""

    def __init__(self, user: GuestUser, host_path: str, moved: Callable[[], Awaitable[None]]) -> None:
        self._user = user
        self._host_path = host_path
        self._moved = moved
        self._name = b"ssh-" + os.urandom(8).hex().encode()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def path(self) -> str:
        """What SSH_AUTH_SOCK says."""
        return os.fsdecode(FOLDER + b"/" + self._name + b"/agent")

    async def open(self) -> None:
        """Raises Failed where that user cannot make a folder in /tmp."""
        try:
            listening = await self._user.do(self._listen)
        except OSError as error:
            raise Failed("the agent cannot be forwarded: /tmp cannot be written", because=str(error)) from None
        self._server = await asyncio.start_unix_server(self._serve, sock=listening)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(OSError, Exception):  # the sandbox may be gone, and the guest may have removed it itself
            await self._user.do(self._remove)
        self._user.close()

    def _listen(self, root: int) -> socket.socket:
        folder = within(root, FOLDER, os.O_PATH | os.O_DIRECTORY)
        try:
            os.mkdir(self._name, 0o700, dir_fd=folder)
            own = within(folder, self._name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        finally:
            os.close(folder)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(f"/proc/self/fd/{own}/agent")
            listening.listen(BACKLOG)
            listening.setblocking(False)
        except BaseException:
            listening.close()
            raise
        finally:
            os.close(own)
        return listening

    def _remove(self, root: int) -> None:
        folder = within(root, FOLDER, os.O_PATH | os.O_DIRECTORY)
        try:
            own = within(folder, self._name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                os.unlink("agent", dir_fd=own)
            finally:
                os.close(own)
            os.rmdir(self._name, dir_fd=folder)
        finally:
            os.close(folder)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._tasks) >= CONNECTIONS_MAX:
                return
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            there_reader, there_writer = await asyncio.open_unix_connection(self._host_path)
            try:
                await pump_both(reader, writer, there_reader, there_writer, self._moved)
            finally:
                there_writer.close()
        except OSError:
            return
        finally:
            writer.close()
