"""`skerry down`, `destroy`, `suspend`, `resume` and `restart`: all sandboxes of an environment, or some, at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import click

from skerry.cli.environment import chosen, chosen_jobs, chosen_services, in_waves, open_here, read_actual
from skerry.cli.file_options import file_options, names_argument
from skerry.cli.invocation import Invocation
from skerry.cli.options import command, yes_option
from skerry.client import flows
from skerry.client.calls import sandboxes as calls
from skerry.client.calls import sleep as sleep_calls
from skerry.client.calls.jobs import FINAL
from skerry.environment.apply import AT_ONCE_MAX
from skerry.environment.kinds.catalog import kind_of
from skerry.environment.kinds.contract import Json
from skerry.environment.kinds.jobs import stopped
from skerry.environment.kinds.sandboxes import Sandboxes
from skerry.environment.kinds.services import stopped as without_replicas
from skerry.environment.opening import Opened
from skerry.environment.plan import check_owner
from skerry.errors import Failed, NotFound, SkerryError, told_of
from skerry.model.identity import PREFIX

Act = Callable[[Json], Any]


def each(
    invocation: Invocation, found: list[tuple[str, Json]], waves: list[list[str]], act: Act, done: str
) -> list[Json]:
    """`act` on each sandbox, those of one wave at once; one that fails does not keep the rest from their turn."""
    by_key = dict(found)
    failures: dict[str, SkerryError] = {}
    bodies: list[Json] = []

    def one(key: str) -> tuple[str, Json | SkerryError]:
        try:
            return key, act(by_key[key]) or by_key[key]
        except SkerryError as error:
            return key, error

    with ThreadPoolExecutor(AT_ONCE_MAX) as pool:
        for wave in waves:
            for key, result in pool.map(one, wave):
                if isinstance(result, SkerryError):
                    failures[key] = result
                    continue
                bodies.append(result)
                if not invocation.output.json:
                    invocation.output.line(str(result["id"]) if invocation.output.quiet else f"{key} {done}")
    if invocation.output.json:
        invocation.output.emit(bodies)
    if len(failures) == 1:
        ((key, error),) = failures.items()
        raise told_of(key, error)
    if failures:
        raise Failed("; ".join(told_of(key, error).say for key, error in failures.items()))
    return bodies


def _there(
    invocation: Invocation,
    names: tuple[str, ...],
    files: tuple[str, ...],
    profiles: tuple[str, ...],
    *,
    backwards: bool,
    whole: bool = False,
) -> tuple[Opened, list[tuple[str, Json]], list[list[str]]]:
    """The sandboxes that are there, with `whole` also its services and the jobs that go on, and in what order to go
    through them."""
    opened = open_here(invocation, files, profiles, names)
    actual = read_actual(invocation, opened.scene.name)
    check_owner(opened.scene, actual)
    found = _sandboxes(opened, actual, names)
    if whole:
        found += [(key, body) for key, body in chosen_jobs(opened, actual, names) if body["state"] not in FINAL]
        found += chosen_services(opened, actual, names)
    waves = in_waves(opened, [key for key, _ in found])
    if not found and not invocation.output.json:
        invocation.output.note(f"nothing of {opened.scene.name} is there")
    return opened, found, waves[::-1] if backwards else waves


def _sandboxes(
    opened: Opened, actual: Mapping[str, Mapping[str, Json]], names: tuple[str, ...]
) -> list[tuple[str, Json]]:
    """Those that are there; none where only jobs and services were named."""
    named = tuple(name for name in names if name not in opened.jobs and name not in opened.services)
    return chosen(opened, actual, named) if named or not names else []


@command("down")
@file_options
@names_argument
def down(invocation: Invocation, names: tuple[str, ...], files: tuple[str, ...], profiles: tuple[str, ...]) -> None:
    """Stop the sandboxes and services of skerry.yaml, who depends on others first, and cancel its jobs. Disks of
    sandboxes stay; `skerry up` starts sandboxes and services again, and submits no job again."""
    opened, found, waves = _there(invocation, names, files, profiles, backwards=True, whole=True)

    def act(body: Json) -> Any:
        if body["id"].startswith(PREFIX["job"]):
            return stopped(invocation.transport, body["id"])
        if body["id"].startswith(PREFIX["service"]):
            return without_replicas(invocation.transport, body)
        if body["state"] in ("stopped", "failed", "pending"):
            return body
        return Sandboxes().stop(invocation.transport, body["id"])

    with opened.state.locked():
        each(invocation, found, waves, act, "stopped")


@command("suspend")
@file_options
@names_argument
def suspend(invocation: Invocation, names: tuple[str, ...], files: tuple[str, ...], profiles: tuple[str, ...]) -> None:
    """Put the sandboxes of skerry.yaml to sleep: memory kept, no cpu used; whoever wants one wakes it."""
    _, found, waves = _there(invocation, names, files, profiles, backwards=True)

    def act(body: Json) -> Any:
        if body["state"] != "running":
            return body
        return invocation.ask(sleep_calls.sleep(body["id"], force=True))

    each(invocation, found, waves, act, "asleep")


@command("resume")
@file_options
@names_argument
def resume(invocation: Invocation, names: tuple[str, ...], files: tuple[str, ...], profiles: tuple[str, ...]) -> None:
    """Wake the sandboxes of skerry.yaml that sleep."""
    _, found, waves = _there(invocation, names, files, profiles, backwards=False)

    def act(body: Json) -> Any:
        return invocation.ask(sleep_calls.wake(body["id"])) if body["state"] == "asleep" else body

    each(invocation, found, waves, act, "awake")


@command("restart")
@file_options
@names_argument
def restart(invocation: Invocation, names: tuple[str, ...], files: tuple[str, ...], profiles: tuple[str, ...]) -> None:
    """Stop and start the sandboxes of skerry.yaml, in order of their dependencies. Disks stay."""
    opened, found, waves = _there(invocation, names, files, profiles, backwards=False)
    kind = Sandboxes()

    def act(body: Json) -> Any:
        if body["state"] not in ("stopped", "failed"):
            kind.stop(invocation.transport, body["id"])
        return kind.start(invocation.transport, body["id"])

    with opened.state.locked():
        each(invocation, found, waves, act, "restarted")


@command("destroy")
@click.option("--force", is_flag=True, help="Do not ask, and delete protected ones too.")
@click.option("--volumes", is_flag=True, help="Its volumes too, with all that is in them.")
@click.option("--models", is_flag=True, help="Its models too.")
@yes_option
@file_options
@names_argument
def destroy(
    invocation: Invocation,
    names: tuple[str, ...],
    files: tuple[str, ...],
    profiles: tuple[str, ...],
    force: bool,
    volumes: bool,
    models: bool,
    yes: bool,
) -> None:
    """Delete the sandboxes of skerry.yaml with disks and checkpoints, its services, jobs, networks and queues. Volumes
    and models stay.

    NAMES: only these sandboxes, jobs and services. Without names, what has left the file goes as well. A queue in which
    others have work is left.
    """
    opened = open_here(invocation, files, profiles, names)
    with opened.state.locked():
        actual = read_actual(invocation, opened.scene.name)
        check_owner(opened.scene, actual)
        known = {name: key for key, name in opened.members.items()}
        if names:
            found = _sandboxes(opened, actual, names)
        else:
            found = [(known.get(name, name), body) for name, body in actual["sandboxes"].items()]
        sections = (
            [] if names else ["networks", *(["models"] if models else []), *(["volumes"] if volumes else []), "queues"]
        )
        others = [(section, name) for section in sections for name in actual[section]]
        mine = [opened.services.get(key) for key in names]
        services = [name for name in actual["services"] if not names or name in mine]
        jobs = [name for name in actual["jobs"] if not names or name in [opened.jobs.get(key) for key in names]]
        what = [key for key, _ in found] + [f"job {name}" for name in jobs]
        what += [f"service {name}" for name in services] + [name for _, name in others]
        if not what:
            invocation.output.note(f"nothing of {opened.scene.name} is there")
            each(invocation, [], [], lambda body: body, "deleted")
            return
        _ask(invocation, what, yes or force)

        def act(body: Json) -> Any:
            with suppress(NotFound):  # somebody else was quicker
                invocation.run(flows.settle(lambda wait_s: calls.delete(body["id"], force, wait_s)))

        for name in services:
            _delete(invocation, "services", name)
        for name in jobs:
            _delete(invocation, "jobs", name)
        each(invocation, found, [[key for key, _ in found]], act, "deleted")
        for section, name in others:
            _delete(invocation, section, name)


def _delete(invocation: Invocation, section: str, name: str) -> None:
    kind_of(section).delete(invocation.transport, name)
    if not invocation.output.json:
        invocation.output.line(f"{name} deleted")


def _ask(invocation: Invocation, what: list[str], yes: bool) -> None:
    if yes:
        return
    shown = ", ".join(what)
    if not invocation.is_interactive:
        raise click.UsageError(f"this would delete {shown} with all that is on their disks; say --yes")
    invocation.confirm(f"Delete {shown} with all that is on their disks?", False)
