"""Receive the terminal of an exec: crun makes it inside the sandbox and sends its outer end over a unix socket."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from pathlib import Path

MESSAGE_BYTES_MAX = 4096


class ConsoleSocket:
    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listener.setblocking(False)
        path.unlink(missing_ok=True)
        folder_fd = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
        try:
            # Through the folder's descriptor: the name of a socket has at most 107 bytes.
            self._listener.bind(f"/proc/self/fd/{folder_fd}/{path.name}")
        finally:
            os.close(folder_fd)
        self._listener.listen(1)

    async def terminal(self) -> int:
        """The terminal, non-blocking; waits for crun to connect."""
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(self._listener)
        with connection:
            arrived: asyncio.Future[int] = loop.create_future()
            loop.add_reader(connection.fileno(), _receive, connection, arrived)
            try:
                return await arrived
            finally:
                loop.remove_reader(connection.fileno())

    def close(self) -> None:
        self._listener.close()


def _receive(connection: socket.socket, arrived: asyncio.Future[int]) -> None:
    if arrived.done():
        return
    room = socket.CMSG_SPACE(array.array("i").itemsize)
    _, extras, _, _ = connection.recvmsg(MESSAGE_BYTES_MAX, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in extras:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fd = array.array("i", data[: array.array("i").itemsize])[0]
            os.set_blocking(fd, False)
            arrived.set_result(fd)
            return
    arrived.set_exception(ConnectionError("crun sent no terminal"))
