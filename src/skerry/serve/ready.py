"""Ask a program on its unix socket whether it serves yet, with nothing but a socket."""

from __future__ import annotations

import socket

ANSWER_S_MAX = 0.5


def answers_health(socket_path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_S_MAX)
        try:
            connection.connect(socket_path)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


def holds_lock(lock_path: str, pid: int) -> bool:
    """Whether this very process has the program's lock: until then its predecessor may still answer for it."""
    try:
        with open(lock_path) as lock:
            return lock.read() == str(pid)
    except OSError:
        return False
