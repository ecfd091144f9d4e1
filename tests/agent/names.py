"""A nameserver of the tests' own, with a few names of every kind, in whichever network namespace it is made in."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

import dns.flags
import dns.message
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rcode import NXDOMAIN

from tests.agent.world import silence

Zone = Mapping[str, Sequence[str]]
"""`name` or `*.name` -> records of the answer, such as `a.test A 192.0.2.1` or `TXT hello`, of the asked name where
they name none."""
TTL_S = 1


class NameServer:
    """UDP and TCP; `asked` is what came, as `NAME TYPE`."""

    def __init__(self, address: str, zone: Zone, *, port: int = 53, tcp: bool = False) -> None:
        self.zone = zone
        self.asked: list[str] = []
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((address, port))
        self.port = self._udp.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()
        self._tcp = socket.create_server((address, self.port)) if tcp else None
        if self._tcp is not None:
            threading.Thread(target=self._accept, args=(self._tcp,), daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                wire, peer = self._udp.recvfrom(4096)
                if peer is None:
                    return
                self._udp.sendto(self._answer(wire, 1232), peer)

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    length = int.from_bytes(connection.recv(2))
                    answer = self._answer(connection.recv(length), 65_535)
                    connection.sendall(len(answer).to_bytes(2) + answer)

    def _answer(self, wire: bytes, bytes_max: int) -> bytes:
        query = dns.message.from_wire(wire)
        asked = query.question[0]
        name = asked.name.to_text(omit_final_dot=True).lower()
        self.asked.append(f"{name} {dns.rdatatype.to_text(asked.rdtype)}")
        answer = dns.message.make_response(query, recursion_available=True)
        records = self.zone.get(name, self.zone.get(f"*.{name.partition('.')[2]}"))
        if records is None:
            answer.set_rcode(NXDOMAIN)
        for record in records or ():
            words = record.split(maxsplit=2) if record.split()[0] not in ("A", "AAAA", "TXT", "CNAME") else None
            owner, kind, data = words or (name, *record.split(maxsplit=1))
            if kind in (dns.rdatatype.to_text(asked.rdtype), "CNAME") or owner != name:
                answer.answer.append(dns.rrset.from_text(owner + ".", TTL_S, dns.rdataclass.IN, kind, data))
        whole = answer.to_wire(max_size=65_535)
        if len(whole) > bytes_max:
            answer.answer.clear()
            answer.flags |= dns.flags.TC
            return answer.to_wire()
        return whole

    def close(self) -> None:
        silence(self._udp, *([self._tcp] if self._tcp is not None else []))
