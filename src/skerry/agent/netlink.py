"""A small rtnetlink writer: links, addresses and routes without starting `ip`, which costs more than the work itself.

Layouts are those of rtnetlink(7), linux/rtnetlink.h and linux/if_link.h.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct

_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_REPLACE, _NLM_F_EXCL, _NLM_F_CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
_NLMSG_ERROR = 2
_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_DELADDR, _RTM_NEWROUTE, _RTM_DELROUTE = 16, 17, 20, 21, 24, 25
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST = 254, 4, 0, 1
_IFF_UP = 1
_HEADER = struct.Struct("=IHHII")
_ANSWER_BYTES_MAX = 64 * 1024
_ANSWER_WAIT_S = 10.0


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def _name(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def _route(to: ipaddress.IPv4Network, gateway: ipaddress.IPv4Address) -> bytes:
    scope = (_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST)
    head = struct.pack("=BBBBBBBBI", socket.AF_INET, to.prefixlen, 0, 0, *scope, 0)
    destination = _attribute(_RTA_DST, to.network_address.packed) if to.prefixlen else b""
    return head + destination + _attribute(_RTA_GATEWAY, gateway.packed)


class Netlink:
    """Speaks to the network namespace in which it was made. Each verb raises OSError as the kernel answered."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.settimeout(_ANSWER_WAIT_S)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_veth(self, name: str, peer: str, peer_namespace_fd: int) -> None:
        inner = _link() + _name(_IFLA_IFNAME, peer)
        inner += _attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_namespace_fd))
        data = _attribute(_IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, inner))
        info = _attribute(_IFLA_LINKINFO, _name(_IFLA_INFO_KIND, "veth") + data)
        self._ask(_RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, _link() + _name(_IFLA_IFNAME, name) + info)

    def add_bridge(self, name: str) -> None:
        info = _attribute(_IFLA_LINKINFO, _name(_IFLA_INFO_KIND, "bridge"))
        self._ask(_RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, _link() + _name(_IFLA_IFNAME, name) + info)

    def delete_link(self, name: str) -> bool:
        """False when there was none."""
        try:
            self._ask(_RTM_DELLINK, 0, _link() + _name(_IFLA_IFNAME, name))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    def set_up(self, index: int) -> None:
        self._ask(_RTM_NEWLINK, 0, _link(index, _IFF_UP, _IFF_UP))

    def add_address(self, index: int, address: ipaddress.IPv4Interface) -> None:
        head = struct.pack("=BBBBI", socket.AF_INET, address.network.prefixlen, 0, _RT_SCOPE_UNIVERSE, index)
        local = _attribute(_IFA_LOCAL, address.packed) + _attribute(_IFA_ADDRESS, address.packed)
        broadcast = b""
        if address.network.prefixlen < 31:  # else it would be told that its own address is everybody's
            broadcast = _attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
        self._ask(_RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_REPLACE, head + local + broadcast)

    def delete_address(self, index: int, address: ipaddress.IPv4Interface) -> bool:
        """False when there was none."""
        head = struct.pack("=BBBBI", socket.AF_INET, address.network.prefixlen, 0, _RT_SCOPE_UNIVERSE, index)
        try:
            self._ask(_RTM_DELADDR, 0, head + _attribute(_IFA_LOCAL, address.packed))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            raise
        return True

    def add_default_route(self, index: int, gateway: ipaddress.IPv4Address) -> None:
        self.add_route(ipaddress.IPv4Network("0.0.0.0/0"), gateway, index)

    def add_route(
        self,
        to: ipaddress.IPv4Network,
        gateway: ipaddress.IPv4Address,
        index: int,
        *,
        source: ipaddress.IPv4Address | None = None,
    ) -> None:
        """In place of one that is there. `source`: what is sent this way is from this address, if nobody says else."""
        body = _route(to, gateway) + _attribute(_RTA_OIF, struct.pack("=I", index))
        if source is not None:
            body += _attribute(_RTA_PREFSRC, source.packed)
        self._ask(_RTM_NEWROUTE, _NLM_F_CREATE | _NLM_F_REPLACE, body)

    def delete_route(self, to: ipaddress.IPv4Network, gateway: ipaddress.IPv4Address) -> bool:
        """False when there was none by this gateway."""
        try:
            self._ask(_RTM_DELROUTE, 0, _route(to, gateway))
        except OSError as error:
            if error.errno == errno.ESRCH:
                return False
            raise
        return True

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        flags |= _NLM_F_REQUEST | _NLM_F_ACK
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        while True:
            answer = self._socket.recv(_ANSWER_BYTES_MAX)
            _, got, _, sequence, _ = _HEADER.unpack_from(answer)
            if got == _NLMSG_ERROR and sequence == self._sequence:
                code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return
