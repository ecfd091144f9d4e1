"""How far a long piece of work is: a bar on a terminal (rich, imported only then), plain lines otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.output import human_size, is_terminal, part
from skerry.client import wire
from skerry.client.call import Call
from skerry.client.calls import cloud
from skerry.errors import Failed, SkerryError, Unavailable

FINAL = ("succeeded", "failed")


def watch(invocation: Invocation, operation: str, title: str) -> Any:
    """Show an operation until it ends; returns it, or raises Failed with its reason."""
    output = invocation.output
    silent = output.quiet or output.json
    shown = _bars(invocation, operation, title) if wants_bars(invocation) and not silent else None
    last = shown if shown is not None else _lines(invocation, operation, title, silent)
    if last is None or last["state"] not in FINAL:
        raise Unavailable(f"lost sight of it; go on with `skerry operation watch {operation}`")
    if last["state"] == "failed":
        raise Failed(last.get("error") or f"{title} failed; the server gives no reason")
    return last


def watch_or_take_back(
    invocation: Invocation, made: Any, title: str, delete: Callable[[str], Call[Any]], say: str
) -> None:
    """Show how something that is made comes along; interrupted, delete it again. `say`: what is left of it then."""
    try:
        if made.get("operation"):
            watch(invocation, made["operation"], title)
    except (KeyboardInterrupt, click.Abort):
        ref = made["id"]
        try:
            invocation.ask(delete(ref))
            invocation.output.note(f"interrupted; {say}")
        except SkerryError as error:
            invocation.output.note(f"interrupted; {ref} goes on, since it could not be deleted: {error.say}")
        raise


def wants_bars(invocation: Invocation) -> bool:
    return is_terminal(sys.stderr) and invocation.environ.get("TERM") != "dumb"


def changes(invocation: Invocation, operation: str) -> Iterator[Any]:
    lines = wire.Lines()
    with invocation.transport.stream(cloud.watch_operation(operation)) as stream:
        for chunk in stream:
            yield from (item for item in lines.feed(chunk) if "state" in item)


def _lines(invocation: Invocation, operation: str, title: str, silent: bool) -> Any:
    last: Any = None
    step: Any = None
    for last in changes(invocation, operation):
        now = part(last, "progress").get("step")
        if now and now != step and not silent:
            sys.stderr.write(f"{title}: {now}{_amount(last['progress'])}\n")
        step = now or step
    return last


def _amount(progress: Any) -> str:
    done, total = progress.get("done_bytes"), progress.get("total_bytes")
    if total:
        return f" ({human_size(done or 0)} of {human_size(total)})"
    return f" ({human_size(done)})" if done else ""


def _bars(invocation: Invocation, operation: str, title: str) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, no_color=bool(invocation.environ.get("NO_COLOR")))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    last: Any = None
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(title, total=None)
        for last in changes(invocation, operation):
            progress = part(last, "progress")
            bars.update(
                task,
                description=f"{title}: {progress.get('step', last['state'])}",
                completed=progress.get("done_bytes") or 0,
                total=progress.get("total_bytes"),
            )
    return last


def counted(invocation: Invocation, data: Iterable[bytes], title: str, total_bytes: int | None) -> Iterable[bytes]:
    """The same bytes, with a bar of how many went."""
    if not wants_bars(invocation) or invocation.output.quiet or invocation.output.json:
        return data
    return _counted(data, title, total_bytes, no_color=bool(invocation.environ.get("NO_COLOR")))


def _counted(data: Iterable[bytes], title: str, total_bytes: int | None, no_color: bool) -> Iterator[bytes]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True, no_color=no_color), transient=True) as bars:
        task = bars.add_task(title, total=total_bytes)
        for chunk in data:
            yield chunk
            bars.advance(task, len(chunk))
