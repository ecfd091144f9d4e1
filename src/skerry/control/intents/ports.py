"""Who may publish what: a port of the machine has one owner, and whoever comes second is told its name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from skerry.errors import AlreadyExists, Conflict, InUse, Invalid, LimitReached, NotFound
from skerry.model.port import PORTS_MAX, HeldPort, Protocol, PublishedPort, choose, clash, first_clash
from skerry.model.sandbox import AT_REST, S, Sandbox
from skerry.store.transaction import Transaction

Held = Collection[HeldPort]
"""What programs of the machine listen on that are no sandbox's; empty where the machine could not be asked."""


async def claim(
    tx: Transaction, ports: Sequence[PublishedPort], *, owner: Sandbox | None, held: Held
) -> list[PublishedPort]:
    """The same ports, each with its number on the machine. `owner`: the sandbox that may hold some of them already.
    Raises InUse naming whoever is in the way of one that is not to be corrected."""
    if not ports:
        return []
    had = owner.spec.ports if owner is not None else []
    ports = [next((port for port in had if port.is_of(wanted)), wanted) for wanted in ports]
    if found := first_clash(ports):
        raise Invalid(f"ports: {found[0]} and {found[1]} are the same port of the machine", field="ports")
    others = [
        (name, port)
        for sandbox_id, name, port in await tx.sandboxes.held_ports()
        if owner is None or sandbox_id != owner.id
    ]
    numbered: list[PublishedPort] = []
    for wanted in ports:
        refusal = _in_the_way(wanted, others, held)
        if refusal is not None and not wanted.auto_correct:
            raise InUse(f"ports: {refusal}", field="ports")
        numbered.append(wanted.corrected() if refusal is not None else wanted)
    return choose(numbered, [*(port for _, port in others), *held], int.from_bytes(tx.chance(4), "big"))


def _in_the_way(wanted: PublishedPort, others: Sequence[tuple[str, PublishedPort]], held: Held) -> str | None:
    for name, port in others:
        if clash(wanted, port):
            return f"{wanted} is published by sandbox {name}; choose another"
    if any(clash(wanted, taken) for taken in held):
        return f"another program of this machine listens on {wanted}; choose another, or end it"
    return None


async def claim_again(tx: Transaction, sandbox: Sandbox, held: Held) -> dict[str, Any]:
    """The change of a sandbox that is about to run again: while it was stopped, others were free to take its ports."""
    ports = await claim(tx, sandbox.spec.ports, owner=sandbox, held=held)
    return {"spec": sandbox.spec.model_copy(update={"ports": ports})} if ports != sandbox.spec.ports else {}


async def claim_for_forks(
    tx: Transaction, ports: Sequence[PublishedPort], count: int, held: Held
) -> list[list[PublishedPort]]:
    """A list for each fork: the parent's ports, each with a new number on the machine."""
    unnumbered = [port.model_copy(update={"host": None, "wanted": None}) for port in ports] * count
    made = await claim(tx, unnumbered, owner=None, held=held)
    return [made[number * len(ports) : (number + 1) * len(ports)] for number in range(count)]


async def add(tx: Transaction, sandbox: Sandbox, wanted: PublishedPort, held: Held) -> tuple[Sandbox, PublishedPort]:
    ports = sandbox.spec.ports
    if len(ports) >= PORTS_MAX:
        raise LimitReached(f"sandbox {sandbox.name} publishes {PORTS_MAX} ports, the most allowed; remove some")
    if any(clash(wanted, port) or port.is_of(wanted) for port in ports):
        raise AlreadyExists(f"host: {wanted} is published by this sandbox already", field="host")
    [made] = await claim(tx, [wanted], owner=sandbox, held=[*held, *map(_held, ports)])
    return await _publish(tx, sandbox, [*ports, made], f"published {made} for port {made.guest}"), made


async def remove(
    tx: Transaction, sandbox: Sandbox, host: int, protocol: Protocol, ip: str | None
) -> tuple[Sandbox, list[PublishedPort]]:
    """On every address, where none is named. Raises NotFound."""

    def is_meant(port: PublishedPort) -> bool:
        return port.host == host and port.protocol is protocol and ip in (None, port.ip)

    removed = [port for port in sandbox.spec.ports if is_meant(port)]
    if not removed:
        where = f"{host}/{protocol.value}" + (f" on {ip}" if ip else "")
        known = ", ".join(map(str, sandbox.spec.ports)) or "none"
        raise NotFound(f"sandbox {sandbox.name} does not publish {where}; it publishes {known}")
    left = [port for port in sandbox.spec.ports if not is_meant(port)]
    return await _publish(tx, sandbox, left, f"{', '.join(map(str, removed))} is no longer published"), removed


async def _publish(tx: Transaction, sandbox: Sandbox, ports: list[PublishedPort], message: str) -> Sandbox:
    if sandbox.state not in AT_REST:
        raise Conflict(
            f"cannot change the ports of sandbox {sandbox.name}: it is {sandbox.state.value}, and must be at rest "
            "(running, asleep, stopped or failed)"
        )
    if sandbox.state is S.DELETED:
        raise NotFound(f"sandbox {sandbox.name} was deleted")

    def apply(fresh: Sandbox) -> dict[str, Any]:
        return {
            "spec": fresh.spec.model_copy(update={"ports": ports}),
            "generation": fresh.generation + 1,
            "applied": fresh.state not in (S.RUNNING, S.ASLEEP),
        }

    written = await tx.sandboxes.change(sandbox, apply)
    if written is None:
        raise Conflict(f"sandbox {sandbox.name} has just changed; look, then try again")
    await tx.events.add([("sandbox", written.id, written.name, "updated", message)])
    return written


def _held(port: PublishedPort) -> HeldPort:
    return HeldPort(ip=port.ip, host=port.host or 0, protocol=port.protocol)
