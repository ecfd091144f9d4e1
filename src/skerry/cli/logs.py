"""`skerry logs`: what a sandbox printed, or all of an environment at once, each line under its sandbox's name."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import click

from skerry.cli.file_options import file_options_long
from skerry.cli.invocation import Invocation
from skerry.cli.options import command, completing, sought
from skerry.cli.output import part, printed
from skerry.cli.watching import print_log
from skerry.client.call import Call
from skerry.client.calls import guest_services as service_calls
from skerry.client.calls import jobs as job_calls
from skerry.client.calls import sandboxes as calls
from skerry.errors import SkerryError

FOLLOWED_MAX = 200
"""Logs that are followed at once, each by a connection of its own."""


class Source(NamedTuple):
    title: str
    call: Call[Any]


@command("logs")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is printed from now on.")
@click.option("--tail", "-n", type=int, metavar="N", help="Only the last N lines of each.")
@click.option("--step", metavar="STEP", help="What this step of its provisioning printed when it ran last.")
@file_options_long
@click.argument("sandboxes", nargs=-1, callback=sought("sandbox"), shell_complete=completing("sandbox"))
def logs(
    invocation: Invocation,
    sandboxes: tuple[str, ...],
    files: tuple[str, ...],
    profiles: tuple[str, ...],
    follow: bool,
    tail: int | None,
    step: str | None,
) -> None:
    """What the main process of a sandbox printed. Of several, and of all of a skerry.yaml where none is named, their
    services too, each line under its name."""
    if step is not None:
        _step(invocation, sandboxes, files, profiles, step)
    elif len(sandboxes) == 1 and sandboxes[0] not in invocation.jobs:
        print_log(invocation, calls.logs(sandboxes[0], follow=follow, tail=tail))
    else:
        from skerry.environment.project import find_folder  # the log of one sandbox, the usual case, is done without

        if not sandboxes and not files and find_folder() is None:
            raise click.UsageError("name a sandbox, or be in the folder of a skerry.yaml")
        together(invocation, _sources(invocation, sandboxes, files, profiles, follow, tail))


def _sources(
    invocation: Invocation,
    sandboxes: tuple[str, ...],
    files: tuple[str, ...],
    profiles: tuple[str, ...],
    follow: bool,
    tail: int | None,
) -> list[Source]:
    jobs: list[tuple[str, Any]] = []
    if sandboxes:
        bodies = [(name, invocation.ask(calls.get(name))) for name in sandboxes if name not in invocation.jobs]
        jobs = [
            (name, invocation.ask(job_calls.get(invocation.jobs[name])))
            for name in sandboxes
            if name in invocation.jobs
        ]
    else:
        from skerry.cli.environment import chosen, chosen_jobs, open_here, read_actual  # for a whole environment only

        opened = open_here(invocation, files, profiles)
        actual = read_actual(invocation, opened.scene.name)
        bodies, jobs = chosen(opened, actual, ()), chosen_jobs(opened, actual, ())
    found: list[Source] = []
    for key, job in jobs:
        found += _of_job(invocation, key, job, {"follow": follow, "tail": tail})
    for name, body in bodies:
        if body["spec"]["command"]:
            found.append(Source(name, calls.logs(body["id"], follow=follow, tail=tail)))
        found += [
            Source(f"{name}/{service}", service_calls.logs(body["id"], service, follow=follow, tail=tail))
            for service in body["spec"]["services"]
        ]
    return found[:FOLLOWED_MAX]


def _of_job(invocation: Invocation, key: str, body: Any, how: dict[str, Any]) -> list[Source]:
    """Of each of its tasks that has begun; of one alone just under the job's name."""
    tasks = invocation.ask(job_calls.tasks_page(body["id"], limit=FOLLOWED_MAX))["items"]
    begun = [task["index"] for task in tasks if task["started_at"] or task["attempt"]]
    alone = part(body, "progress").get("total") == 1 and body["spec"]["nodes"] == 1
    return [
        Source(key if alone else f"{key}/{title}", call)
        for index in begun
        for title, call in job_sources(body, index, how)
    ]


def job_sources(body: Any, index: int, how: dict[str, Any], rank: int | None = None) -> list[Source]:
    """The members of a task, of a gang each with its rank: `3.0`."""
    members = range(body["spec"]["nodes"])
    return [
        Source(f"{index}.{one}" if len(members) > 1 else str(index), job_calls.logs(body["id"], index, rank=one, **how))
        for one in (members if rank is None else [rank])
    ]


def together(invocation: Invocation, sources: list[Source], noun: str = "sandbox") -> None:
    """Each line under the title of what printed it."""
    if not sources:
        invocation.output.note("nothing there has a main command or services, whose output this would be")
    width = max((len(source.title) for source in sources), default=0)
    lock = threading.Lock()

    def tell(title: str, line: bytes) -> None:
        text = printed(line.decode(errors="replace"))
        with lock:
            if invocation.output.json:
                invocation.output.emit_line({noun: title, "line": text})
            else:
                sys.stdout.write(f"{invocation.output.paint(f'{title:<{width}} |', 'blue')} {text}\n")
                sys.stdout.flush()

    threads = [threading.Thread(target=_read, args=(invocation, source, tell), daemon=True) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)


def _read(invocation: Invocation, source: Source, tell: Callable[[str, bytes], None]) -> None:
    rest = b""
    try:
        with invocation.transport.stream(source.call) as stream:
            for chunk in stream:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    tell(source.title, line)
    except SkerryError as error:
        invocation.output.note(f"{source.title}: {error.say}")
    if rest:
        tell(source.title, rest)


def _step(
    invocation: Invocation, sandboxes: tuple[str, ...], files: tuple[str, ...], profiles: tuple[str, ...], step: str
) -> None:
    from skerry.cli.environment import open_here
    from skerry.environment.provision import read_log

    opened = open_here(invocation, files, profiles)
    members = {name: key for key, name in opened.members.items()}
    if len(sandboxes) != 1 or sandboxes[0] not in members:
        raise click.UsageError(f"--step goes with one sandbox of {opened.scene.file.name}")
    text = read_log(opened.scene.folder, members[sandboxes[0]], step)
    if invocation.output.is_terminal:  # sandboxes may have written that file
        text = "".join(f"{printed(line)}\n" for line in text.splitlines())
    invocation.output.stream.write(text)
