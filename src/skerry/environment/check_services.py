"""What the model cannot see of a file's services because it lies between its parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from skerry.environment.check_jobs import OF_JOBS, Found, of_sandbox
from skerry.environment.check_loops import loops
from skerry.errors import Invalid
from skerry.model.environment import DeclaredService, Environment, Need
from skerry.model.nearness import did_you_mean


def check_services(environment: Environment, folder: Path, outside: Mapping[str, str]) -> Found:
    """`outside`: sandboxes that the file has and that are left out, with why."""
    for key, service in environment.services.items():
        path = ("services", key)
        for noun, there in (("sandbox", {*environment.sandboxes, *outside}), ("job", environment.jobs)):
            if key in there:
                yield path, f"a {noun} is called {key} too, and commands would not know which is meant"
        if service.folder is not None and not (folder / service.folder).is_dir():
            yield (*path, "folder"), f"{folder / service.folder} is no folder"
        yield from _options(path, service)
        for needed, need in service.depends_on.items():
            at = (*path, "depends_on", needed)
            if needed in environment.sandboxes:
                yield from of_sandbox(at, needed, environment.sandboxes[needed], need)
            elif needed in environment.jobs:
                if need not in (None, *OF_JOBS):
                    yield at, f"{needed} is a job, to wait for until it has {', '.join(OF_JOBS)}"
            elif needed in environment.services:
                if need not in (None, Need.HEALTHY):
                    yield at, f"{needed} is a service, to wait for until it is healthy"
            elif needed not in outside:
                known = [*environment.sandboxes, *environment.jobs, *environment.services]
                yield at, f"there is no sandbox, job or service {needed!r} in this file" + did_you_mean(needed, known)
            elif outside[needed]:
                yield at, f"{needed} is left out: {outside[needed]}"
        for number, mount in enumerate(service.mounts):
            if mount.volume is not None and mount.volume not in environment.volumes:
                say = f"there is no volume {mount.volume!r} in this file"
                say += did_you_mean(mount.volume, environment.volumes)
                at = (*path, "mounts", number, "volume")
                yield at, f"{say}; declare it in volumes, with external: true if it exists already"
        for number, join in enumerate(service.networks):
            if join.name not in environment.networks:
                say = f"there is no network {join.name!r} in this file" + did_you_mean(join.name, environment.networks)
                yield (*path, "networks", number, "name"), f"{say}; declare it in networks"
    yield from _answering(environment)
    yield from loops("services", environment.services)


def _options(path: tuple[str, str], service: DeclaredService) -> Found:
    """By the engine, which the server asks too, but only when half of the file may stand."""
    if not service.options:
        return
    from skerry.engines.catalog import engine  # most files have none, and need not wait for its import
    from skerry.engines.options import plain, read

    try:
        read(engine(service.engine).options, service)
    except Invalid as error:
        field = error.field or "options"
        inside = [name for name in service.options if plain(name) in field.split(".")[1:]]
        yield (*path, "options", *inside), error.say.removeprefix(f"{field}: ")


def _answering(environment: Environment) -> Found:
    """What clients give as `model` says which service they mean."""
    taken = {environment.own_name(key, service.name): key for key, service in environment.services.items()}
    for key, service in environment.services.items():
        given = [(("models", number), model) for number, model in enumerate(service.models)]
        for path, model in [*given, *((("adapters", model), model) for model in service.adapters)]:
            owner = taken.setdefault(model, key)
            if owner != key:
                yield ("services", key, *path), f"{model} is what {owner} answers to already"
