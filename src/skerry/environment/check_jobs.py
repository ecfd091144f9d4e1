"""What the model cannot see of a file's jobs because it lies between its parts: names, dependencies, what they use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath

from skerry.environment.check_loops import loops
from skerry.environment.problems import Path
from skerry.model.environment import DeclaredJob, Environment, Machine, Need
from skerry.model.nearness import did_you_mean

Found = Iterator[tuple[Path, str]]
OF_SANDBOXES = (Need.STARTED, Need.HEALTHY, Need.COMPLETED)
OF_JOBS = (Need.SUCCEEDED, Need.FAILED, Need.FINISHED)


def check_jobs(environment: Environment, folder: FilePath, outside: Mapping[str, str]) -> Found:
    """`outside`: sandboxes that the file has and that are left out, with why; with "", what is wrong has been told."""
    for key, job in environment.jobs.items():
        path = ("jobs", key)
        if key in environment.sandboxes or key in outside:
            yield path, f"a sandbox is called {key} too, and commands would not know which is meant"
        if job.folder is not None and not (folder / job.folder).is_dir():
            yield (*path, "folder"), f"{folder / job.folder} is no folder"
        yield from _dependencies(environment, key, job, outside)
        yield from _used(environment, key, job)
    yield from loops("jobs", environment.jobs)


def _dependencies(environment: Environment, key: str, job: DeclaredJob, outside: Mapping[str, str]) -> Found:
    for needed, need in job.depends_on.items():
        path = ("jobs", key, "depends_on", needed)
        if needed in environment.jobs:
            if need not in (None, *OF_JOBS):
                yield path, f"{needed} is a job, to wait for until it has {', '.join(OF_JOBS)}"
        elif needed in environment.sandboxes:
            yield from of_sandbox(path, needed, environment.sandboxes[needed], need)
        elif needed in environment.services:
            yield path, f"{needed} is a service, and only services wait for those"
        elif needed not in outside:
            known = [*environment.jobs, *environment.sandboxes]
            yield path, f"there is no job or sandbox {needed!r} in this file" + did_you_mean(needed, known)
        elif outside[needed]:
            yield path, f"{needed} is left out: {outside[needed]}"


def of_sandbox(path: Path, name: str, machine: Machine, need: Need | None) -> Found:
    if need not in (None, *OF_SANDBOXES):
        yield path, f"{name} is a sandbox, to wait for until it is {', '.join(OF_SANDBOXES)}"
    if need is Need.COMPLETED and machine.command is None:
        yield path, f"{name} has no command, so it never completes; wait for started or healthy"
    if need is Need.HEALTHY and machine.health is None and not machine.services:
        yield path, f"{name} has neither health nor services, so nobody can tell; wait for started"


def _used(environment: Environment, key: str, job: DeclaredJob) -> Found:
    named = [(("mounts", number, "volume"), mount.volume) for number, mount in enumerate(job.mounts)]
    for path, volume in [*named, (("output",), job.output)]:
        if volume is not None and volume not in environment.volumes:
            say = f"there is no volume {volume!r} in this file" + did_you_mean(volume, environment.volumes)
            yield ("jobs", key, *path), f"{say}; declare it in volumes, with external: true if it exists already"
    for number, join in enumerate(job.networks):
        if join.name not in environment.networks:
            say = f"there is no network {join.name!r} in this file" + did_you_mean(join.name, environment.networks)
            yield ("jobs", key, "networks", number, "name"), f"{say}; declare it in networks"
