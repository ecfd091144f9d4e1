"""Ask a program on its unix socket whether it serves yet, with nothing but a socket."""

from __future__ import annotations

import socket
import struct

ANSWER_S_MAX = 0.5
_CREDENTIALS = struct.Struct("3i")
"""Process, user and group of whoever listens at the other end."""


def serving_pid(socket_path: str) -> int | None:
    """Which process answers there; None: none does. A predecessor may still answer at the place of the next one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_S_MAX)
        try:
            connection.connect(socket_path)
            told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n")
            answers = connection.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return None
    return int(_CREDENTIALS.unpack(told)[0]) if answers else None


def answers_health(socket_path: str) -> bool:
    return serving_pid(socket_path) is not None
