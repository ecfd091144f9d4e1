"""The resolver of every sandbox whose names are judged or written down: one socket on an address of the host's own.

The firewall sends a sandbox's questions here, whatever it thinks its nameserver is, and lets it send from its own
address only, which therefore says whose policy is to be asked. Whatever is not certain is not answered: when this
program is away nobody answers at all, and what is not answered is not reached.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from skerry.agent.egress import messages
from skerry.agent.egress.egress import Box, Egress
from skerry.agent.egress.messages import Question, Unreadable
from skerry.agent.egress.upstream import Upstream
from skerry.agent.links import LOOPBACK_INDEX
from skerry.agent.netlink import Netlink
from skerry.agent.networks.names import MemberNames
from skerry.clock import Clock
from skerry.errors import Failed, SkerryError, Unavailable
from skerry.model.policy import Action
from skerry.model.verdict import Verdict, judge_answer
from skerry.telemetry import Log

PORT = 53
ASKING_PER_SANDBOX_MAX = 64
ASKING_MAX = 2048
"""Questions that wait for the nameserver; what comes beyond is dropped, and asked again by who wants it."""
CONNECTIONS_PER_SANDBOX_MAX = 8
CONNECTION_IDLE_S = 10.0
QUESTIONS_PER_CONNECTION_MAX = 100
MEMBER_TTL_S = 5
"""Of a member's address: short, since another may have it soon, and asking again costs little."""
TOO_FAST = "too many questions"

_A, _AAAA = dns.rdatatype.A, dns.rdatatype.AAAA
_NEVER = frozenset({dns.rdatatype.ANY, dns.rdatatype.AXFR, dns.rdatatype.IXFR, dns.rdatatype.NULL})
_EMPTY = frozenset({_AAAA, dns.rdatatype.HTTPS, dns.rdatatype.SVCB})
"""Would lead to addresses that were not judged: sandboxes have no IPv6, and the others carry hints."""

RECEIVED_BYTES_MAX = 4 * 1024**2
"""Of datagrams that wait to be read: what many sandboxes ask while this program is busy with something else."""
_SO_RCVBUFFORCE = 33  # of linux/socket.h; Python does not name it

Reply = Callable[[bytes], None]


class Resolver:
    def __init__(
        self,
        *,
        egress: Egress,
        members: MemberNames,
        upstream: Upstream,
        address: ipaddress.IPv4Address,
        clock: Clock,
        log: Log,
    ) -> None:
        self._egress = egress
        self._members = members
        self._upstream = upstream
        self._address = address
        self._clock = clock
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: dict[str, int] = {}
        self._datagrams: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Raises Failed when the address cannot be had."""
        try:
            with Netlink() as host:
                # On loopback: the kernel answers for it on every link, and no module is needed for a link of our own.
                host.add_address(LOOPBACK_INDEX, ipaddress.IPv4Interface((self._address, 32)))
            loop = asyncio.get_running_loop()
            where = (str(self._address), PORT)
            transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=where)
            self._datagrams = transport
            inner: socket.socket = transport.get_extra_info("socket")
            inner.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVED_BYTES_MAX)
            self._server = await asyncio.start_server(self._serve, *where)
        except OSError as error:
            raise Failed(f"the resolver of sandboxes cannot listen on {self._address}", because=str(error)) from None

    async def close(self) -> None:
        """And give the address back. Questions still come to it by the firewall, which then refuses them."""
        if self._datagrams is not None:
            self._datagrams.close()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with Netlink() as host:
            host.delete_address(LOOPBACK_INDEX, ipaddress.IPv4Interface((self._address, 32)))

    # What comes in

    def received(self, wire: bytes, sender: str, reply: Reply) -> None:
        box = self._egress.box_at(sender)
        if box is not None:
            self._begin(self._respond(box, wire, reply, by_udp=True))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender = str(writer.get_extra_info("peername")[0])
        count = self._connections.get(sender, 0)
        if self._egress.box_at(sender) is None or count >= CONNECTIONS_PER_SANDBOX_MAX:
            writer.close()
            return
        self._connections[sender] = count + 1
        try:
            for _ in range(QUESTIONS_PER_CONNECTION_MAX):
                async with asyncio.timeout(CONNECTION_IDLE_S):
                    length = int.from_bytes(await reader.readexactly(2))
                    if length > messages.QUERY_BYTES_MAX:
                        break
                    wire = await reader.readexactly(length)
                    await self._by_tcp(sender, wire, writer)
        except (TimeoutError, OSError, EOFError):
            pass
        finally:
            self._connections[sender] -= 1
            if not self._connections[sender]:
                del self._connections[sender]
            writer.close()

    async def _by_tcp(self, sender: str, wire: bytes, writer: asyncio.StreamWriter) -> None:
        box = self._egress.box_at(sender)
        if box is not None:
            await self._respond(box, wire, lambda answer: writer.write(len(answer).to_bytes(2) + answer), by_udp=False)
            await writer.drain()

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What is said to it

    async def _respond(self, box: Box, wire: bytes, reply: Reply, *, by_udp: bool) -> None:
        if not box.may_ask(self._clock.monotonic_s()):
            self._egress.note(box, "", "", Verdict(Action.DENY, why=TOO_FAST))
            return
        if box.asking >= ASKING_PER_SANDBOX_MAX or len(self._tasks) > ASKING_MAX:
            return
        box.asking += 1
        try:
            asked = messages.read(wire)
            answer = await self._answer(box, asked, by_udp=by_udp)
            # Under a policy that came meanwhile this may be wrong: silence, and the guest asks again.
            if self._egress.holds(box):
                reply(answer)
        except (Unreadable, dns.exception.DNSException):
            pass  # of what a guest made so that it cannot be answered
        except SkerryError as error:
            self._log.warning("could not answer a sandbox", sandbox=box.sandbox_id, error=error, because=error.because)
        finally:
            box.asking -= 1

    async def _answer(self, box: Box, asked: Question, *, by_udp: bool) -> bytes:
        judges = box.policy.judges_names
        if not asked.name or (judges and asked.type in _NEVER):
            return self._refuse(box, asked, Verdict(Action.DENY, why="no question that is answered here"))
        if box.member and (found := self._members.find(box.sandbox_id, asked.name)) is not None:
            return _of_member(asked, found)
        verdict = box.names.judge(asked.name)
        if not verdict.allows:
            return self._refuse(box, asked, verdict)
        if judges and (asked.type in _EMPTY or (asked.type != _A and box.closed)):
            return messages.status(asked, dns.rcode.NOERROR)
        try:
            given = await self._upstream.ask(asked.name, asked.type)
        except Unavailable as error:
            self._log.info("no answer for a sandbox", sandbox=box.sandbox_id, say=error.say, because=error.because)
            self._egress.note(box, asked.name, asked.kind, verdict)
            return messages.status(asked, dns.rcode.SERVFAIL)
        if not judges or asked.type != _A:
            listed = messages.found(given, asked.name)[0] if asked.type == _A else []
            self._egress.note(box, asked.name, asked.kind, verdict, listed)
            return messages.relayed(asked, given, by_udp=by_udp)
        return await self._found(box, asked, verdict, given)

    async def _found(self, box: Box, asked: Question, verdict: Verdict, given: dns.message.Message) -> bytes:
        """The addresses of a name it may reach: each is judged, and opened before it is told."""
        listed, ttl_s = messages.found(given, asked.name)
        if not listed:
            self._egress.note(box, asked.name, asked.kind, verdict)
            return messages.status(asked, given.rcode())
        verdict = judge_answer(verdict, listed, box.addresses)
        if not verdict.allows:
            return self._refuse(box, asked, verdict, listed)
        reached = [each for each in listed if (judged := box.addresses.judge(each)) is None or judged.allows]
        if not await self._egress.open_to(box, asked.name, reached, ttl_s):
            return self._refuse(box, asked, Verdict(Action.DENY, verdict.rule, why="too many addresses at one time"))
        self._egress.note(box, asked.name, asked.kind, verdict, reached)
        return messages.addresses(asked, reached, ttl_s)

    def _refuse(self, box: Box, asked: Question, verdict: Verdict, listed: list[str] | None = None) -> bytes:
        self._egress.note(box, asked.name, asked.kind, verdict, listed or ())
        return messages.status(asked, dns.rcode.REFUSED)


def _of_member(asked: Question, found: list[str]) -> bytes:
    """Whatever its policy says of names: whom a member reaches in its network is no question of names."""
    if not found:
        return messages.status(asked, dns.rcode.NXDOMAIN)
    if asked.type != _A:
        return messages.status(asked, dns.rcode.NOERROR)
    return messages.addresses(asked, found, MEMBER_TTL_S)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._resolver.received(data, addr[0], lambda answer: self._send(answer, addr))

    def _send(self, answer: bytes, to: tuple[str, int]) -> None:
        with suppress(OSError):
            assert self._transport is not None
            self._transport.sendto(answer, to)
