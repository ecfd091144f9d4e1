"""A published port: an address of the machine on which a sandbox is reached, and when two of them are in each other's
way."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from skerry.errors import LimitReached
from skerry.model.fields import Frozen
from skerry.model.stream import Port

PORTS_MAX = 64
LISTENING_MAX = 256
"""Of the ports on which programs of one sandbox listen, as many are told."""
PRIVILEGED_END = 1024
CHOSEN_FIRST, CHOSEN_LAST = 20_000, 29_999
"""Where free ports are chosen: below what kernels lend to outgoing connections (32768 and up), which come and go."""


class Protocol(StrEnum):
    TCP = "tcp"
    UDP = "udp"


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("expected an address of the machine, such as 127.0.0.1, 0.0.0.0 or ::1") from None


class PublishedPort(Frozen):
    ip: Annotated[str, Field(max_length=64), AfterValidator(_address)] = "127.0.0.1"
    """Of the machine. Loopback by default: whoever wants it open to the network says so, with 0.0.0.0 or ::."""
    host: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """On the machine; None or 0: a free one is chosen, and stays the same from then on."""
    guest: Port
    """In the sandbox."""
    protocol: Protocol = Protocol.TCP
    auto_correct: bool = False
    """If `host` is taken, a free one is chosen in its place, and kept; else whoever is second is refused."""
    wanted: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """What `host` was to be, where another was chosen in its place."""

    @property
    def is_chosen(self) -> bool:
        """Whether it is known where it will be."""
        return bool(self.host)

    def __str__(self) -> str:
        """`127.0.0.1:8080`, `[::1]:53/udp`: where it is reached, as people write it."""
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{host}:{self.host or 0}" + ("" if self.protocol is Protocol.TCP else f"/{self.protocol.value}")

    def is_of(self, wish: PublishedPort) -> bool:
        """Whether it is what came of the same wish before, and had to be corrected."""
        alike = (self.ip, self.guest, self.protocol) == (wish.ip, wish.guest, wish.protocol)
        return alike and wish.auto_correct and wish.wanted is None and self.wanted == wish.host

    def corrected(self) -> PublishedPort:
        """Without a number, which is to be chosen; the first that was wanted is remembered."""
        return self.model_copy(update={"host": None, "wanted": self.wanted or self.host})


class HeldPort(Frozen):
    """Something on the machine listens there, whoever it is."""

    ip: str
    host: int
    protocol: Protocol


class PortState(Frozen):
    """One published port as its machine sees it at this moment."""

    port: PublishedPort
    listening: bool
    """Whether it takes connections. It does while the sandbox runs or sleeps."""
    problem: str | None = None
    """Why it does not, if it should."""
    connections: int = 0
    """Open now; of UDP, clients heard of lately."""
    connections_total: int = 0
    """Since the machine's agent started."""
    received_bytes: int = 0
    """By the sandbox, since the machine's agent started."""
    sent_bytes: int = 0


class ListeningPort(Frozen):
    """A program in the sandbox listens there."""

    port: Port
    protocol: Protocol = Protocol.TCP


def clash(one: PublishedPort | HeldPort, other: PublishedPort | HeldPort) -> bool:
    """Whether a machine cannot have both. 0.0.0.0 is every IPv4 address, :: every IPv6 address and no IPv4 one."""
    if not one.host or one.host != other.host or one.protocol is not other.protocol:
        return False
    left, right = ipaddress.ip_address(one.ip), ipaddress.ip_address(other.ip)
    if left.version != right.version:
        return False
    return left == right or left.is_unspecified or right.is_unspecified


def first_clash(ports: Iterable[PublishedPort]) -> tuple[PublishedPort, PublishedPort] | None:
    """Two of them that cannot be together."""
    seen: dict[tuple[int | None, Protocol], list[PublishedPort]] = {}
    for port in ports:
        alike = seen.setdefault((port.host, port.protocol), [])
        for other in alike:
            if clash(port, other):
                return other, port
        alike.append(port)
    return None


def choose(
    ports: Iterable[PublishedPort], held: Collection[PublishedPort | HeldPort], draw: int
) -> list[PublishedPort]:
    """The same ports, a free number for each that has none. `draw`: any number; the same one chooses the same ports.
    Raises LimitReached."""
    wanted = list(ports)
    numbers = {port.host for port in (*held, *wanted) if port.host}  # on any address: easier to tell apart
    free = _free(numbers, draw)
    made: list[PublishedPort] = []
    for port in wanted:
        number = port.host or next(free, None)
        if number is None:
            raise LimitReached(f"no port of {CHOSEN_FIRST} to {CHOSEN_LAST} is free; name one, or remove some")
        made.append(port.model_copy(update={"host": number}))
    return made


def _free(numbers: set[int], draw: int) -> Iterator[int]:
    """From a drawn place on, so that a port that was just given back is not at once somebody else's."""
    count = CHOSEN_LAST - CHOSEN_FIRST + 1
    for step in range(count):
        number = CHOSEN_FIRST + (draw + step) % count
        if number not in numbers:
            yield number
