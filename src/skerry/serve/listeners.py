"""The address of the gateways, bound once and held by the supervisor: while one is replaced, whoever connects waits in
its line instead of being refused."""

from __future__ import annotations

import socket

from skerry.errors import Failed

BACKLOG = 2048


def bind(listen: str, count: int = 1) -> list[socket.socket]:
    """One socket for each of `count` gateways, among which the kernel shares out who connects. Raises Failed."""
    sockets: list[socket.socket] = []
    try:
        host, _, port = listen.rpartition(":")
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        for _ in range(count):
            bound = socket.socket(family, kind)
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if count > 1:  # alone, an address that somebody else listens on must be an error
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(address)
            address = bound.getsockname()
    except OSError as error:
        for bound in sockets:
            bound.close()
        say = f"cannot listen on {listen}: {error.strerror}; stop what uses it, or serve with another --url-listen"
        raise Failed(say, because=repr(error)) from error
    for bound in sockets:
        bound.listen(BACKLOG)
        bound.setblocking(False)
    return sockets
