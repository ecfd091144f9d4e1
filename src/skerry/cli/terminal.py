"""Our terminal tied to a command in a sandbox: raw while it runs, resized with it, and given back whatever happens."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import tty as ttymode
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from skerry.cli.output import is_terminal
from skerry.client.exec_socket import ExecSocket

READ_BYTES = 64 * 1024
_ENDING = (signal.SIGTERM, signal.SIGHUP)


def size() -> tuple[int, int]:
    """(rows, columns) of our terminal."""
    try:
        found = os.get_terminal_size(sys.stdin.fileno())
    except OSError:
        return 24, 80
    return max(1, found.lines), max(1, found.columns)


def converse(socket: ExecSocket, *, tty: bool, stdin: bool, close: bool = True, leave_key: bytes | None = None) -> Any:
    """Pass bytes both ways until the command ends; returns its exit as the server tells it, None if we left before.

    `close`: where we have no stdin to send, the command is told that there is none.
    `leave_key`: the byte that, typed at a terminal, leaves the command running.
    """
    from skerry.cli.execute import show

    with _raw_terminal(tty), _resizes(tty) as resized:
        if stdin:
            leave_by = leave_key if tty else None
            threading.Thread(target=_send_stdin, args=(socket, resized, leave_by), daemon=True).start()
        else:
            if close:
                socket.close_stdin()
            if tty:
                threading.Thread(target=_send_resizes, args=(socket, resized), daemon=True).start()
        for frame in socket.frames():
            end = show(frame)
            if end is not None:
                return end
    return None


@contextmanager
def _raw_terminal(wanted: bool) -> Generator[None]:
    descriptor = sys.stdin.fileno() if wanted and is_terminal(sys.stdin) else None
    if descriptor is None:
        yield
        return
    before = termios.tcgetattr(descriptor)

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    handlers = {number: signal.signal(number, leave) for number in _ENDING}
    try:
        ttymode.setraw(descriptor, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _resizes(wanted: bool) -> Generator[int]:
    """A descriptor that becomes readable when the terminal's size changes: a signal handler must not send by itself."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def changed(number: int, frame: FrameType | None) -> None:
        try:
            os.write(writer, b"r")
        except BlockingIOError:
            pass

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGWINCH, changed) if wanted else None
    try:
        yield reader
    finally:
        if wanted:
            signal.signal(signal.SIGWINCH, before)


def _send_stdin(socket: ExecSocket, resized: int, leave_key: bytes | None) -> None:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        socket.close_stdin()
        return
    source = sys.stdin.fileno()
    while True:
        ready, _, _ = select.select([source, resized], [], [])
        if resized in ready:
            _send_size(socket, resized)
        if source in ready:
            data = os.read(source, READ_BYTES)
            if not data:
                socket.close_stdin()
                return
            if leave_key is not None and leave_key in data:
                socket.leave()
                return
            socket.send_stdin(data)


def _send_resizes(socket: ExecSocket, resized: int) -> None:
    while True:
        select.select([resized], [], [])
        _send_size(socket, resized)


def _send_size(socket: ExecSocket, resized: int) -> None:
    os.read(resized, 4096)
    socket.resize(*size())
