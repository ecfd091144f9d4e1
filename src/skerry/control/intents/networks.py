"""Who may join which private network, and by which address: decided and written in one transaction, so that no two
sandboxes ever have the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skerry.errors import Conflict, InUse, Invalid, LimitReached, NotFound
from skerry.model.fields import Labels
from skerry.model.network import (
    NETWORKS_MAX,
    Join,
    Member,
    Membership,
    NetworkRequest,
    PrivateNetwork,
    choose_address,
    choose_addresses,
    choose_subnet,
    is_host_of,
    overlapping,
)
from skerry.model.sandbox import S, Sandbox
from skerry.store.transaction import Transaction


async def create(tx: Transaction, request: NetworkRequest, *, own_subnet: str) -> PrivateNetwork:
    """`own_subnet`: that of the machine's sandboxes."""
    await tx.networks.lock()
    if await tx.networks.count() >= NETWORKS_MAX:
        raise LimitReached(f"there may be {NETWORKS_MAX} networks; delete some")
    if overlapping(request.subnet, [own_subnet]):
        raise Invalid(
            f"subnet: {request.subnet} overlaps {own_subnet}, where every sandbox has an address (network_subnet)",
            field="subnet",
        )
    for other in await tx.networks.all():
        if other.name != request.name and overlapping(request.subnet, [other.subnet]):
            raise InUse(f"subnet: {request.subnet} overlaps {other.subnet} of network {other.name}", field="subnet")
    return await tx.networks.create(request, tx.project)


async def delete(tx: Transaction, network: PrivateNetwork) -> None:
    await tx.networks.lock()
    members = (await tx.sandboxes.members()).get(network.name, [])
    if members:
        named = ", ".join(member.name for member in members[:5]) + (", …" if len(members) > 5 else "")
        raise InUse(f"network {network.name} has members ({named}); have them leave, or delete them, first")
    await tx.networks.delete(network)


async def join(tx: Transaction, joins: Sequence[Join], *, sandbox: Sandbox | None = None) -> list[Membership]:
    """Each wish with its address, chosen where none was named. `sandbox`: whose they are, if there is one yet."""
    if not joins:
        return []
    [made] = await _grant(tx, [joins], sandbox)
    return made


async def join_forks(tx: Transaction, joins: Sequence[Join], count: int) -> list[list[Membership]]:
    """A list for each fork: the parent's networks, each by an address of its own."""
    if not joins:
        return [[] for _ in range(count)]
    return await _grant(tx, [[Join(name=join.name) for join in joins]] * count, None)


async def for_job(
    tx: Transaction, name: str, *, addresses: int, pool: str, own_subnet: str, labels: Labels
) -> PrivateNetwork:
    """The network of a job's gangs, made where it is not there: a range of `pool` with so many addresses, which
    no machine has another way to. Raises LimitReached while others have them, Invalid where they can never be had."""
    await tx.networks.lock()
    try:
        return await tx.networks.find(name, tx.project)
    except NotFound:
        taken = [own_subnet, *await tx.nodes.ranges()]
        try:
            choose_subnet(pool, addresses, taken)
        except LimitReached:
            raise Invalid(
                f"nodes: {addresses} addresses of {pool} are nowhere free of the machines' routes; the server's "
                "operator sets another range (job_subnets)",
                field="nodes",
            ) from None
        subnet = choose_subnet(pool, addresses, [*taken, *(other.subnet for other in await tx.networks.all())])
        request = NetworkRequest(name=name, subnet=subnet, labels=labels)
        return await create(tx, request, own_subnet=own_subnet)


async def seats(tx: Transaction, network: PrivateNetwork, count: int) -> list[Membership]:
    """So many addresses of it, the lowest first, for members that are about to be written down."""
    await tx.networks.lock()
    taken = {each.address for each in (await tx.sandboxes.members()).get(network.name, [])}
    return [
        Membership(name=network.name, address=address, subnet=network.subnet, internal=network.internal)
        for address in choose_addresses(network.subnet, count, taken)
    ]


async def _grant(tx: Transaction, wanted: Sequence[Sequence[Join]], sandbox: Sandbox | None) -> list[list[Membership]]:
    await tx.networks.lock()
    members = await tx.sandboxes.members()
    has = {each.name: each.address for each in sandbox.memberships} if sandbox else {}
    granted: list[list[Membership]] = []
    for joins in wanted:
        made: list[Membership] = []
        for number, wish in enumerate(joins):
            network = await find(tx, wish.name, f"networks[{number}].name")
            others = [each for each in members.get(network.name, []) if sandbox is None or each.sandbox != sandbox.id]
            address = _address(network, wish, others, has.get(network.name), f"networks[{number}].address")
            members.setdefault(network.name, []).append(
                Member(sandbox="", name="another fork", state="", address=address)
            )
            made.append(
                Membership(name=network.name, address=address, subnet=network.subnet, internal=network.internal)
            )
        granted.append(made)
    return granted


async def find(tx: Transaction, name: str, field: str) -> PrivateNetwork:
    """Raises NotFound with the command that makes it."""
    try:
        return await tx.networks.find(name, tx.project)
    except NotFound:
        raise NotFound(
            f"{field}: there is no network {name}; make it with: skerry network create {name} --subnet 10.77.0.0/24",
            field=field,
        ) from None


def _address(network: PrivateNetwork, wish: Join, others: Sequence[Member], had: str | None, field: str) -> str:
    if wish.address is None:
        return had or choose_address(network.subnet, {each.address for each in others})
    if not is_host_of(wish.address, network.subnet):
        raise Invalid(
            f"{field}: {wish.address} is no address for a member of {network.name} ({network.subnet})", field=field
        )
    for other in others:
        if other.address == wish.address:
            raise InUse(f"{field}: {wish.address} is sandbox {other.name}'s; choose another", field=field)
    return wish.address


def as_joins(memberships: Sequence[Membership]) -> list[Join]:
    """What the spec says from then on: the wishes with the addresses they came to."""
    return [Join(name=each.name, address=each.address) for each in memberships]


async def change(tx: Transaction, sandbox: Sandbox, joins: Sequence[Join]) -> dict[str, Any]:
    """Of a sandbox that may run. Raises Conflict where that takes a cable that it has not."""
    runs = sandbox.state in (S.RUNNING, S.ASLEEP)
    if runs and not sandbox.spec.network.enabled and bool(joins) is not bool(sandbox.memberships):
        raise Conflict(
            f"sandbox {sandbox.name} has no network of its own, so it joins its first one, or leaves its last one, "
            "only while it is stopped: stop it, then start it again",
            field="networks",
        )
    return {"memberships": await join(tx, joins, sandbox=sandbox)}
