"""`skerry proxy`: ports of this machine that lead to ports in a sandbox, wherever its server is."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack
from types import FrameType

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import command, sandbox_argument
from skerry.cli.port import parsed
from skerry.client.calls import ports as calls
from skerry.client.port_socket import PortSocket
from skerry.errors import Unavailable

READ_BYTES = 64 * 1024
LOOK_EVERY_S = 0.5


@command("proxy")
@click.option("--address", default="127.0.0.1", metavar="IP", help="Of this machine, to listen on [127.0.0.1].")
@click.option("-W", "stdio", type=click.IntRange(1, 65_535), metavar="PORT", help="Tie stdin and stdout to PORT.")
@sandbox_argument
@click.argument("ports", nargs=-1, metavar="[LOCAL:]REMOTE…")
def proxy(invocation: Invocation, sandbox: str, ports: tuple[str, ...], address: str, stdio: int | None) -> None:
    """Reach ports of SANDBOX from this machine, through the API, until Ctrl-C. The sandbox wakes for it.

    \b
      skerry proxy db 5432              127.0.0.1:5432 here is 5432 there
      skerry proxy web 8080:80 9090     two at once
      skerry proxy web 0:80             on a free port here, which is printed
      ssh -o ProxyCommand='skerry proxy web -W 22' root@web
    """
    if (stdio is None) == (not ports):
        raise click.UsageError("name ports, or one with -W")
    if stdio is not None:
        with invocation.transport.port_socket(calls.connect_path(sandbox, stdio)) as inside:
            tie(inside)
        return
    _listen(invocation, sandbox, [parsed(calls.forward_from_text, text) for text in ports], address)


def _listen(invocation: Invocation, sandbox: str, wanted: list[tuple[int | None, int]], address: str) -> None:
    from skerry.client.calls import sandboxes
    from skerry.client.forward import Forward

    record = invocation.ask(sandboxes.get(sandbox))  # a name that is wrong is told before anybody connects
    over = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        over.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with ExitStack() as stack:
        forwards: list[Forward] = []
        for local, remote in wanted:
            port = remote if local is None else local
            path = calls.connect_path(record["id"], remote)
            forward = stack.enter_context(Forward(invocation.transport, path, port=port, address=address))
            forwards.append(forward)
            told = {"address": address, "local": forward.port, "remote": remote}
            if invocation.output.json:
                invocation.output.emit_line(told)
            else:
                invocation.output.line(f"{address}:{forward.port} -> {record['name']}:{remote}")
        invocation.output.stream.flush()
        told_problems = ["" for _ in forwards]
        while not over.wait(LOOK_EVERY_S):
            for number, forward in enumerate(forwards):
                problem = forward.problem.say if forward.problem is not None else ""
                if problem and problem != told_problems[number]:
                    invocation.output.note(f"error: {wanted[number][1]}: {problem}")
                told_problems[number] = problem


def tie(inside: PortSocket) -> None:
    """Our stdin and stdout to a connection, until the other side has said all."""

    def send() -> None:
        while data := os.read(source, READ_BYTES):
            inside.send(data)
        inside.end()

    source, target = sys.stdin.fileno(), sys.stdout.fileno()
    threading.Thread(target=send, daemon=True).start()
    try:
        while data := inside.receive():
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(target, rest) :]
    except BrokenPipeError:
        raise Unavailable("whoever read our output has gone") from None
