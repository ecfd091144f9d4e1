"""What sandboxes may reach: one nftables table that starts from "nothing private", the rules of each as sets."""

from __future__ import annotations

import ipaddress
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skerry.agent.nftables import Nftables
from skerry.agent.rivals import clear_the_way
from skerry.agent.ruleset import SETS, Judged, Wiring
from skerry.errors import Conflict, Failed
from skerry.model.verdict import Ranges

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
OF_POLICY = ("policies", "asking", "allowed", "denied", "epochs", "live")
"""Sets that hold what the rules of one address come to."""

log = logging.getLogger(__name__)

Elements = dict[str, dict[str, tuple[str, ...]]]
"""set -> address -> its elements, as they are written."""


@dataclass(frozen=True)
class Placed:
    """How one address is judged. As it is made without arguments: open, which needs nothing in any set."""

    judged: Judged = Judged.OPEN
    asks_us: bool = False
    """Its questions for names go to our resolver and not straight to the nameserver."""
    ranges: Ranges = field(default_factory=Ranges)


def links_begin(instance: str) -> str:
    """With what the names of all links of this server's sandboxes begin."""
    return f"sk{instance}-"


class Firewall:
    """Blocking, and safe to call from several threads."""

    def __init__(
        self, *, instance: str, subnet: str, nameserver: str | None, chance: Callable[[int], bytes] = os.urandom
    ) -> None:
        """`nameserver`: where the questions of open sandboxes go; None: nowhere."""
        network = ipaddress.IPv4Network(subnet)
        self._wiring = Wiring(
            table=f"inet skerry_{instance}",
            links=f'"sk{instance}-*"',
            subnet=network,
            resolver=resolver_address(network),
            nameserver=ipaddress.IPv4Address(nameserver) if nameserver else None,
        )
        self.links = links_begin(instance)
        """How the names of our links begin."""
        self._chance = chance
        self._nft: Nftables | None = None
        # What the sets hold, remembered: asking the kernel costs 27 ms with 2000 sandboxes.
        self._sources: dict[str, tuple[str, ...]] = {}
        self._lanes: dict[str, dict[str, str]] = {}
        """link -> member address on it -> subnet of that network."""
        self._elements: Elements = {name: {} for name in OF_POLICY}
        self._pins: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()

    def open(self, keep: Iterable[str] = ()) -> None:
        """Put the table in place in one transaction; what an earlier agent let the addresses in `keep` do stays. Raises
        Failed while another Skerry has these addresses."""
        self._nft = self._nft or Nftables()
        kept = set(keep)
        with self._lock:
            for rival in clear_the_way(self._nft, self._wiring.table.split()[1], self._wiring.subnet):
                log.warning("took away the firewall of a Skerry that is no more: %s", rival)
            sources = self._listed("sources")
            self._sources = _by_address(sources, kept, at=1)
            self._lanes = self._lanes_of(sources, self._listed("lanes"))
            self._elements = {name: _by_address(self._listed(name), kept) for name in OF_POLICY}
            self._pins = _pins(self._listed("pinned"), kept, time.monotonic())
            table = self._wiring.table
            self._nft.run(f"add table {table}\ndelete table {table}\n{self._wiring.text(self._initial())}")
        # Only now that the rules stand: from here on this host routes.
        try:
            if FORWARDING.read_text().strip() != "1":
                log.info("switching on net.ipv4.ip_forward, so that sandboxes reach the network")
                FORWARDING.write_text("1\n")
        except OSError as error:
            raise Failed(
                "this host does not route: run `sysctl -w net.ipv4.ip_forward=1`", because=str(error)
            ) from None

    def _initial(self) -> dict[str, list[str]]:
        held: Mapping[str, Mapping[str, tuple[str, ...]]] = {"sources": self._sources, **self._elements}
        found = {name: [each for group in by_address.values() for each in group] for name, by_address in held.items()}
        for link, lanes in self._lanes.items():
            found["sources"] += [_source(link, address) for address in lanes]
            found.setdefault("lanes", []).extend(_lane(*each) for each in lanes.items())
        now = time.monotonic()
        found["pinned"] = [
            _pin(address, target, until_s - now)
            for address, targets in self._pins.items()
            for target, until_s in targets.items()
        ]
        return found

    def close(self) -> None:
        """Let go; the table stays, since sandboxes go on running."""
        if self._nft is not None:
            self._nft.close()
            self._nft = None

    def purge(self) -> None:
        """Take the table away; only when no sandbox is left."""
        self._run(f"add table {self._wiring.table}\ndelete table {self._wiring.table}\n")

    def admit(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Links in use, each with the one address that may send on it."""
        with self._lock:
            wanted = {address: (_source(link, address),) for link, address in pairs}
            new = {address: pair for address, pair in wanted.items() if self._sources.get(address) != pair}
            if new:
                old = [each for address in new for each in self._sources.get(address, ())]
                self._run(
                    self._wiring.change("delete", "sources", old)
                    + self._wiring.change("add", "sources", (each for pair in new.values() for each in pair))
                )
                self._sources |= new

    def dismiss(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Undo `admit`, `join`, `place` and `pin`; pairs that are not there are fine."""
        with self._lock:
            addresses = {address for _, address in pairs}
            gone = [each for address in addresses for each in self._sources.get(address, ())]
            lanes = [(link, address) for link, _ in pairs for address in self._lanes.get(link, ())]
            commands = self._wiring.change("delete", "sources", gone) + self._unjoin(lanes)
            for address in addresses:
                commands += self._difference(address, {}) + self._unpin(address, self._pins.get(address, {}))
            if commands:
                self._run(commands)
            for link, _ in pairs:
                self._lanes.pop(link, None)
            for address in addresses:
                self._sources.pop(address, None)
                self._pins.pop(address, None)
                for held in self._elements.values():
                    held.pop(address, None)

    def lanes(self, link: str) -> dict[str, str]:
        """Member addresses that may be used on this link, each with the subnet it may be used towards."""
        return dict(self._lanes.get(link, {}))

    def join(self, link: str, lanes: Mapping[str, str]) -> None:
        """Let these be used as well. Raises Conflict while one of them may be used on another link."""
        with self._lock:
            here = self._lanes.get(link, {})
            new = {address: subnet for address, subnet in lanes.items() if address not in here}
            for other, held in self._lanes.items():
                if other != link and (taken := held.keys() & new.keys()):
                    raise Conflict(
                        f"networks: {min(taken)} is still another sandbox's, which has yet to leave",
                        because=f"{other} has it, {link} wants it",
                    )
            if new:
                self._run(
                    self._wiring.change("add", "sources", (_source(link, address) for address in new))
                    + self._wiring.change("add", "lanes", (_lane(*each) for each in new.items()))
                )
                self._lanes[link] = here | new

    def leave(self, link: str, addresses: Iterable[str]) -> None:
        with self._lock:
            here = self._lanes.get(link, {})
            gone = [address for address in addresses if address in here]
            if gone:
                self._run(self._unjoin([(link, address) for address in gone]))
                left = {address: subnet for address, subnet in here.items() if address not in gone}
                if left:
                    self._lanes[link] = left
                else:
                    del self._lanes[link]

    def _unjoin(self, gone: Sequence[tuple[str, str]]) -> str:
        return self._wiring.change("delete", "sources", (_source(*each) for each in gone)) + self._wiring.change(
            "delete", "lanes", (_lane(address, self._lanes[link][address]) for link, address in gone)
        )

    def _lanes_of(self, sources: Iterable[Any], lanes: Iterable[Any]) -> dict[str, dict[str, str]]:
        """What the kernel lists, of the links that are kept."""
        kept = {pair.split('"')[1] for pairs in self._sources.values() for pair in pairs}
        subnets: dict[str, str] = {}
        for element in lanes:
            (address, stretch), _ = _parts(element)
            first, _, last = stretch.partition("-")
            ends = ipaddress.IPv4Address(first), ipaddress.IPv4Address(last or first)
            subnets[address] = str(next(ipaddress.summarize_address_range(*ends)))
        found: dict[str, dict[str, str]] = {}
        for element in sources:
            (link, address), _ = _parts(element)
            if link in kept and address in subnets:
                found.setdefault(link, {})[address] = subnets[address]
        return found

    def place(self, address: str, placed: Placed, *, anew: bool, keep: Iterable[str] | None = None) -> None:
        """Judge the packets of this address so from now on. `anew`: what is connected is judged again, and of what
        names led to only `keep` stays reachable."""
        with self._lock:
            wanted = self._wanted(address, placed, anew)
            dropped = self._pins.get(address, {}).keys() - set(keep or ()) if anew else set[str]()
            commands = self._difference(address, wanted) + self._unpin(address, dropped)
            if not commands:
                return
            self._run(commands)
            for name, held in self._elements.items():
                if name in wanted:
                    held[address] = wanted[name]
                else:
                    held.pop(address, None)
            for target in dropped:
                del self._pins[address][target]

    def _wanted(self, address: str, placed: Placed, anew: bool) -> dict[str, tuple[str, ...]]:
        wanted: dict[str, tuple[str, ...]] = {}
        if placed.judged is not Judged.OPEN:
            wanted["policies"] = (f"{address} : goto {placed.judged.value}",)
        if placed.asks_us:
            wanted["asking"] = (address,)
        if placed.ranges.allowed:
            wanted["allowed"] = tuple(f"{address} . {each}" for each in placed.ranges.allowed)
        if placed.ranges.denied:
            wanted["denied"] = tuple(f"{address} . {each}" for each in placed.ranges.denied)
        if placed.judged is Judged.CLOSED:
            had = self._elements["epochs"].get(address)
            if had is not None and not anew:
                wanted |= {"epochs": had, "live": self._elements["live"].get(address, ())}
            else:
                mark = int.from_bytes(self._chance(4)) or 1
                wanted |= {"epochs": (f"{address} : {mark}",), "live": (f"{address} . {mark}",)}
        return wanted

    def _difference(self, address: str, wanted: Mapping[str, tuple[str, ...]]) -> str:
        """Commands that bring the sets there; deletions first, so that no two ranges ever overlap."""
        deletions, additions = "", ""
        for name, held in self._elements.items():
            had, wants = held.get(address, ()), wanted.get(name, ())
            deletions += self._wiring.change("delete", name, (each for each in had if each not in wants))
            additions += self._wiring.change("add", name, (each for each in wants if each not in had))
        return deletions + additions

    def pin(self, address: str, targets: Iterable[str], for_s: float) -> None:
        """Let the address reach these for so long; one that is pinned for longer already stays so."""
        now = time.monotonic()
        with self._lock:
            pins = self._pins.setdefault(address, {})
            for target in [target for target, until_s in pins.items() if until_s <= now]:
                del pins[target]
            new = [target for target in targets if pins.get(target, 0.0) < now + for_s]
            if not new:
                return
            again = [target for target in new if target in pins]
            commands = self._unpin(address, again)
            self._run(commands + self._wiring.change("add", "pinned", (_pin(address, each, for_s) for each in new)))
            pins.update(dict.fromkeys(new, now + for_s))

    def pins(self, address: str) -> set[str]:
        """What the address may reach because a name led there."""
        now = time.monotonic()
        return {target for target, until_s in self._pins.get(address, {}).items() if until_s > now}

    def _unpin(self, address: str, targets: Iterable[str]) -> str:
        """Whether they have run out in the kernel nobody knows to the millisecond: what is put there first can be
        taken away."""
        listed = [f"{address} . {target}" for target in targets]
        added = self._wiring.change("add", "pinned", (f"{each} timeout 60s" for each in listed))
        return added + self._wiring.change("delete", "pinned", listed)

    def _run(self, commands: str) -> None:
        self._opened().run(commands)

    def _opened(self) -> Nftables:
        if self._nft is None:
            raise Failed("the firewall is not open")
        return self._nft

    def _listed(self, name: str) -> list[Any]:
        kind = SETS[name].split()[0]
        for item in self._opened().listing(f"list {kind} {self._wiring.table} {name}"):
            if kind in item:
                return item[kind].get("elem", [])
        return []


def resolver_address(subnet: ipaddress.IPv4Network) -> ipaddress.IPv4Address:
    """The last usable address of the subnet; no slot has it."""
    return subnet.broadcast_address - 1


def _source(link: str, address: str) -> str:
    return f'"{link}" . {address}'


def _lane(address: str, subnet: str) -> str:
    network = ipaddress.IPv4Network(subnet)
    return f"{address} . {network.network_address}-{network.broadcast_address}"


def _by_address(elements: Iterable[Any], kept: set[str], at: int = 0) -> dict[str, tuple[str, ...]]:
    """What the kernel lists, as we write it, by the address it is about: the part at `at`."""
    found: dict[str, tuple[str, ...]] = {}
    for element in elements:
        parts, value = _parts(element)
        if parts[at] in kept:
            text = " . ".join(f'"{part}"' if part.startswith("sk") else part for part in parts)
            found[parts[at]] = (*found.get(parts[at], ()), f"{text} : {value}" if value else text)
    return found


def _parts(element: Any) -> tuple[list[str], str | None]:
    """An element in the JSON of nft: the parts of its key, and its value if it is of a map."""
    value: str | None = None
    match element:
        case [key, {"goto": {"target": chain}}]:
            element, value = key, f"goto {chain}"
        case [key, number]:
            element, value = key, str(number)
        case {"elem": {"val": key}}:
            element = key
        case _:
            pass
    match element:
        case {"concat": [*parts]}:
            return [_part(part) for part in parts], value
        case _:
            return [_part(element)], value


def _part(value: Any) -> str:
    """A word, a number, or a range in one of the two ways in which nft names it."""
    match value:
        case {"prefix": {"addr": address, "len": length}}:
            network = ipaddress.IPv4Network(f"{address}/{length}")
            return f"{network.network_address}-{network.broadcast_address}"
        case {"range": [first, last]}:
            return f"{first}-{last}"
        case _:
            return str(value)


def _pins(elements: Iterable[Any], kept: set[str], now: float) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for element in elements:
        (address, target), _ = _parts(element)
        if address in kept:
            found.setdefault(address, {})[target] = now + element["elem"]["expires"]
    return found


def _pin(address: str, target: str, for_s: float) -> str:
    return f"{address} . {target} timeout {max(1, round(for_s))}s"
