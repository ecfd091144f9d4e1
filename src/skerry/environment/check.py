"""What the model cannot see of an environment because it lies between its parts: who depends on whom, who has what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath

from skerry.environment.check_jobs import check_jobs
from skerry.environment.check_loops import loops
from skerry.environment.check_services import check_services
from skerry.environment.problems import Path
from skerry.model.environment import Condition, Environment, Machine
from skerry.model.fields import NAME_LENGTH_MAX
from skerry.model.identity import QUEUE_DEFAULT
from skerry.model.nearness import did_you_mean
from skerry.model.network import is_host_of, overlapping
from skerry.model.port import PublishedPort, clash

Found = Iterator[tuple[Path, str]]
"""Path and sentence of each mistake."""


def check(environment: Environment, folder: FilePath, outside: Mapping[str, str]) -> Found:
    """`outside`: sandboxes that the file has and that are left out, with why; with "", what is wrong has been told."""
    yield from _names(environment)
    yield from _dependencies(environment, outside)
    yield from _primaries(environment)
    yield from _ports(environment)
    yield from _networks(environment)
    yield from _queues(environment)
    yield from _mentioned(environment)
    yield from _files(environment, folder)
    yield from check_jobs(environment, folder, outside)
    yield from check_services(environment, folder, outside)


def _names(environment: Environment) -> Found:
    for section in ("sandboxes", "networks", "volumes", "models", "queues", "jobs", "services"):
        seen: dict[str, str] = {}
        for key, declared in getattr(environment, section).items():
            external = getattr(declared, "external", False)
            name = declared.name or (key if external else environment.own_name(key, None))
            if len(name) > NAME_LENGTH_MAX:
                yield (
                    (section, key),
                    f"with the environment's name before it, {name!r} is longer than {NAME_LENGTH_MAX}",
                )
            if name in seen:
                yield (section, key), f"{seen[name]} is called {name!r} too"
            seen[name] = key
            if external and declared.name is None and section == "networks" and declared.subnet is not None:
                yield (section, key, "subnet"), "an external network has the subnet that it has"


def _dependencies(environment: Environment, outside: Mapping[str, str]) -> Found:
    machines = environment.sandboxes
    for key, machine in machines.items():
        for needed, condition in machine.depends_on.items():
            path = ("sandboxes", key, "depends_on", needed)
            if needed in outside:
                if outside[needed]:
                    yield path, f"{needed} is left out: {outside[needed]}"
            elif needed in environment.services:
                yield path, f"{needed} is a service, and only services wait for those"
            elif needed not in machines:
                yield path, f"there is no sandbox {needed!r} in this file" + did_you_mean(needed, machines)
            else:
                yield from _fulfilled(path, machines[needed], needed, condition)
    yield from loops("sandboxes", machines)


def _fulfilled(path: Path, machine: Machine, name: str, condition: Condition) -> Found:
    if condition is Condition.COMPLETED and machine.command is None:
        yield path, f"{name} has no command, so it never completes; wait for started or healthy"
    if condition is Condition.HEALTHY and machine.health is None and not machine.services:
        yield path, f"{name} has neither health nor services, so nobody can tell; wait for started"


def _primaries(environment: Environment) -> Found:
    primaries = [key for key, machine in environment.sandboxes.items() if machine.primary]
    for key in primaries[1:]:
        yield ("sandboxes", key, "primary"), f"{primaries[0]} is the primary one already"


def _ports(environment: Environment) -> Found:
    seen: list[tuple[str, PublishedPort]] = []
    for key, machine in environment.sandboxes.items():
        for number, port in enumerate(machine.ports):
            if port.auto_correct:
                continue
            owner = next((other for other, taken in seen if other != key and clash(port, taken)), None)
            if owner is not None:
                yield ("sandboxes", key, "ports", number), f"{owner} has {port} already; auto_correct chooses another"
            seen.append((key, port))


def _networks(environment: Environment) -> Found:
    subnets: dict[str, str] = {}
    for key, network in environment.networks.items():
        if network.subnet is not None:
            if other := overlapping(network.subnet, subnets):
                yield ("networks", key, "subnet"), f"{network.subnet} overlaps that of {subnets[other]}"
            subnets[network.subnet] = key
    taken: dict[tuple[str, str], str] = {}
    for key, machine in environment.sandboxes.items():
        for number, join in enumerate(machine.networks):
            path = ("sandboxes", key, "networks", number)
            network = environment.networks.get(join.name)
            if network is None:
                say = f"there is no network {join.name!r} in this file" + did_you_mean(join.name, environment.networks)
                yield (*path, "name"), f"{say}; declare it in networks, with external: true if it exists already"
                continue
            if join.address is None:
                continue
            if network.subnet is None and not network.external:
                yield (*path, "address"), f"an address needs networks.{join.name}.subnet"
            elif network.subnet is not None and not is_host_of(join.address, network.subnet):
                yield (*path, "address"), f"{join.address} is no address of a member in {network.subnet}"
            owner = taken.setdefault((join.name, join.address), key)
            if owner != key:
                yield (*path, "address"), f"{owner} has {join.address} already"


def _queues(environment: Environment) -> Found:
    for key, queue in environment.queues.items():
        if QUEUE_DEFAULT in (key, queue.name) and not queue.external:
            path = ("queues", key) if key == QUEUE_DEFAULT else ("queues", key, "name")
            say = f"{QUEUE_DEFAULT} is the cloud's own, and always there; `skerry queue update {QUEUE_DEFAULT}` changes"
            yield path, f"{say} its rules"


def _mentioned(environment: Environment) -> Found:
    for key, machine in environment.sandboxes.items():
        for number, mount in enumerate(machine.mounts):
            if mount.volume is not None and mount.volume not in environment.volumes:
                path = ("sandboxes", key, "mounts", number, "volume")
                say = f"there is no volume {mount.volume!r} in this file" + did_you_mean(
                    mount.volume, environment.volumes
                )
                yield path, f"{say}; declare it in volumes, with external: true if it exists already"


def _files(environment: Environment, folder: FilePath) -> Found:
    for key, image in environment.images.items():
        if image.archive is not None and not (folder / image.archive).is_file():
            yield ("images", key, "archive"), f"{folder / image.archive} is no file"
    for key, machine in environment.sandboxes.items():
        path = ("sandboxes", key)
        for number, shown in enumerate(machine.folders):
            if not (folder / shown.source).is_dir():
                yield (*path, "folders", number, "source"), f"{folder / shown.source} is no folder"
        for number, step in enumerate(machine.provision):
            at = (*path, "provision", number)
            if step.script is not None and not (folder / step.script).is_file():
                yield (*at, "script"), f"{folder / step.script} is no file"
            if step.copy_ is not None and not (folder / step.copy_.source).exists():
                yield (*at, "copy", "source"), f"there is no {folder / step.copy_.source}"
            if step.ansible is not None and not (folder / step.ansible.playbook).is_file():
                yield (*at, "ansible", "playbook"), f"{folder / step.ansible.playbook} is no file"
