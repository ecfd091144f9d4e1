"""`skerry top`: services, machines and jobs as they are now, again and again until somebody has seen enough."""

from __future__ import annotations

import contextlib
import select
import sys
import termios
import time
import tty
from collections.abc import Generator
from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import DURATION, command
from skerry.cli.output import part
from skerry.cli.service import ready
from skerry.cli.top_view import BAD, Look, row, table, totals
from skerry.client import flows
from skerry.client.calls import jobs, nodes, services
from skerry.errors import Forbidden, SkerryError

EVERY_S = 2.0
EVERY_S_MIN = 0.2
COUNTED_MAX = 200
"""Jobs of one state: a page of them."""
JOB_STATES = ("running", "pending")


@command("top")
@click.option("--once", is_flag=True, help="One look, and end; so it is too where nobody sees a terminal.")
@click.option("--every", type=DURATION, default=EVERY_S, metavar="TIME", help="Between two looks [2s].")
def top(invocation: Invocation, once: bool, every: float) -> None:
    """What goes on, live: of each service its replicas, requests, tokens, time to the first token and cache, and below
    what machines have promised. Busy services come first. q or Ctrl-C ends it.

    \b
      skerry top
      skerry top --once
      skerry top --json | jq '.services[] | select(.waiting > 0)'
    """
    output = invocation.output
    if output.json:
        output.emit(look(invocation).json())
    elif once or output.quiet or not (output.is_terminal and sys.stdin.isatty()):
        seen = look(invocation)
        for text in [*totals(seen), "", *table(rows(seen))]:
            output.line(text)
    else:
        _live(invocation, max(every, EVERY_S_MIN))


def look(invocation: Invocation) -> Look:
    found = invocation.run(flows.gather(lambda token: services.list_page(limit=flows.PAGE_ITEMS, page_token=token)))
    machines: list[Any] = []
    try:
        machines = invocation.run(flows.gather(lambda token: nodes.list_page(page_token=token)))
    except Forbidden:
        pass  # they are the operator's to see
    counts = {
        state: len(invocation.ask(jobs.list_page(state=state, limit=COUNTED_MAX))["items"]) for state in JOB_STATES
    }
    return Look(found, machines, counts)


def rows(seen: Look) -> list[list[str]]:
    def busy(service: Any) -> tuple[float, str]:
        signals = part(service, "signals")
        asked: float = sum(signals.get(name, 0) for name in ("in_flight", "waiting", "requests_per_s"))
        return -asked, service["name"]

    return [row(each, ready(each)) for each in sorted(seen.services, key=busy)]


def _live(invocation: Invocation, every_s: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(no_color=not invocation.output.coloured)
    with _keys(), Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                try:
                    shown = _drawn(look(invocation), console.height)
                except SkerryError as error:  # the server may be on its way back
                    shown = _says(error.say)
                live.update(shown, refresh=True)
                if _pressed(every_s) in ("q", "Q", "\x03"):
                    return
        except KeyboardInterrupt:
            return


def _drawn(seen: Look, height: int) -> Any:
    from rich.text import Text

    head = totals(seen)
    lines = table(rows(seen))
    room = max(1, height - len(head) - 4)
    text = Text(no_wrap=True, overflow="crop")
    text.append(f"skerry top  {time.strftime('%H:%M:%S')}  q ends it\n", style="bright_black")
    text.append("\n".join(head) + "\n\n")
    text.append(lines[0] + "\n", style="bold")
    for line in lines[1 : room + 1]:
        status = line.split()[1] if len(line.split()) > 1 else ""
        text.append(line + "\n", style=BAD.get(status, ""))
    if len(lines) - 1 > room:
        text.append(f"and {len(lines) - 1 - room} more\n", style="bright_black")
    return text


def _says(say: str) -> Any:
    from rich.text import Text

    return Text(f"{say}; asking again\n", style="yellow")


@contextlib.contextmanager
def _keys() -> Generator[None]:
    """Keys come one by one and are not shown."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _pressed(seconds: float) -> str:
    """The key; empty: none in so long."""
    found, _, _ = select.select([sys.stdin], [], [], seconds)
    return sys.stdin.read(1) if found else ""
