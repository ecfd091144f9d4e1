"""`skerry provision`, `sync` and `reset`: the steps and the folders of sandboxes that are there, and the way back."""

from __future__ import annotations

import threading
import time

import click

from skerry.cli.down import each
from skerry.cli.environment import allow_places, chosen, in_waves, open_here, read_actual
from skerry.cli.file_options import file_options, names_argument
from skerry.cli.invocation import Invocation
from skerry.cli.options import command
from skerry.cli.output import printed
from skerry.environment import folders
from skerry.environment.kinds.contract import Json
from skerry.environment.opening import Opened
from skerry.environment.provision import Event
from skerry.environment.provision import reset as go_back
from skerry.environment.provision import run as run_steps
from skerry.errors import NotFound


def _running(
    invocation: Invocation, names: tuple[str, ...], files: tuple[str, ...], profiles: tuple[str, ...]
) -> tuple[Opened, list[tuple[str, Json]]]:
    opened = open_here(invocation, files, profiles, names)
    found = chosen(opened, read_actual(invocation, opened.scene.name), names)
    missing = sorted(set(names) - {key for key, _ in found})
    if missing or not found:
        raise NotFound(f"{', '.join(missing) or opened.scene.name} is not there; run `skerry up` first")
    return opened, found


@command("provision")
@click.option("--only", multiple=True, metavar="STEP", help="This step, whenever it is meant to run. Repeat.")
@click.option("--all", "-a", "everything", is_flag=True, help="All steps again, those that are to run once too.")
@file_options
@names_argument
def provision(
    invocation: Invocation,
    names: tuple[str, ...],
    files: tuple[str, ...],
    profiles: tuple[str, ...],
    only: tuple[str, ...],
    everything: bool,
) -> None:
    """Run the steps of skerry.yaml that are due: after one failed, this goes on with it.

    \b
      skerry provision                  what is due, in all sandboxes
      skerry provision web --only deps  one step of one sandbox
    """
    opened, found = _running(invocation, names, files, profiles)
    allow_places(invocation, opened, files)
    report = _Report(invocation)
    machines = opened.scene.section("sandboxes")
    with opened.state.locked():
        for key, body in found:
            run_steps(
                invocation.transport,
                body["id"],
                key,
                machines[key],
                opened.scene.folder,
                only=only,
                everything=everything,
                report=report,
                environ=invocation.environ,
            )


@command("sync")
@click.option("--watch", is_flag=True, help="Go on, copying what changes as it changes.")
@file_options
@names_argument
def sync(
    invocation: Invocation, names: tuple[str, ...], files: tuple[str, ...], profiles: tuple[str, ...], watch: bool
) -> None:
    """Copy the folders of skerry.yaml with `sync: rsync` into their sandboxes: what differs, and nothing else."""
    opened, found = _running(invocation, names, files, profiles)
    allow_places(invocation, opened, files)
    report = _Report(invocation)
    machines = opened.scene.section("sandboxes")
    if not watch:
        for key, body in found:
            folders.sync(invocation.transport, body["id"], key, machines[key], opened.scene.folder, report)
        return
    stop = threading.Event()
    watching = [
        threading.Thread(
            target=folders.watch,
            args=(invocation.transport, body["id"], key, machines[key], opened.scene.folder, report, stop),
            daemon=True,
        )
        for key, body in found
        if any(folder["sync"] == "rsync" for folder in machines[key]["folders"])
    ]
    if not watching:
        raise NotFound("no sandbox here has a folder with sync: rsync")
    for thread in watching:
        thread.start()
    try:
        while any(thread.is_alive() for thread in watching):
            time.sleep(0.2)
    finally:
        stop.set()


@command("reset")
@file_options
@names_argument
def reset(invocation: Invocation, names: tuple[str, ...], files: tuple[str, ...], profiles: tuple[str, ...]) -> None:
    """Put sandboxes back to where their provisioning had ended, in milliseconds; what they did since is lost."""
    opened, found = _running(invocation, names, files, profiles)
    waves = in_waves(opened, [key for key, _ in found])
    with opened.state.locked():
        each(invocation, found, waves, lambda body: go_back(invocation.transport, body["id"]), "reset")


class _Report:
    """What steps and folders tell, as lines."""

    def __init__(self, invocation: Invocation) -> None:
        self._output = invocation.output

    def __call__(self, event: Event) -> None:
        output = self._output
        if output.quiet:
            return
        if output.json:
            output.emit_line({name: value for name, value in event._asdict().items() if value not in (None, "")})
        elif event.kind == "line":
            output.line(f"{event.member} | {printed(event.line)}")
        elif event.kind == "ended":
            took = f" ({event.seconds:.1f}s)" if event.seconds is not None else ""
            output.line(f"{event.member}: {event.step} done{took}{f': {event.line}' if event.line else ''}")
        elif event.kind in ("began", "skipped", "note"):
            words = {"began": "runs", "skipped": "has run already", "note": ""}[event.kind]
            output.line(" ".join(part for part in (f"{event.member}:", event.step, words, event.line) if part))
