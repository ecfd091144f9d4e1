"""Calls about ports: publish one, take it away, see what is published and where programs listen; ports as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from skerry.client import parse
from skerry.client.call import Call
from skerry.client.calls.sandboxes import path
from skerry.errors import Invalid

if TYPE_CHECKING:
    from skerry.model.port import ListeningPort, PortState, PublishedPort

PORT_MAX = 65_535
_ADDRESS = r"(?:\[(?P<ip6>[0-9a-fA-F:.]+)\]|(?P<ip>[0-9]+\.[0-9.]+)):"
_PROTOCOL = r"(?:/(?P<protocol>tcp|udp))?"
_FORM = re.compile(rf"(?:{_ADDRESS}(?P<any>:)?)?(?:(?P<host>\d{{1,5}}):)?(?P<guest>\d{{1,5}}){_PROTOCOL}", re.ASCII)
_HOST_FORM = re.compile(rf"(?:{_ADDRESS})?(?P<host>\d{{1,5}}){_PROTOCOL}", re.ASCII)


def port_from_text(text: str) -> dict[str, Any]:
    """[IP:][HOST:]GUEST[/udp][,auto] -> the fields of PublishedPort that it names. Without HOST, or with 0, a free one
    is chosen; with `auto` also where HOST is taken. Raises Invalid with what is allowed."""
    form, comma, auto = text.partition(",")
    found = _FORM.fullmatch(form)
    if found is None or (found["any"] and found["host"]) or (comma and auto != "auto"):
        raise _invalid(text, "[IP:][HOST:]GUEST[/udp][,auto], such as 8080:80, 0.0.0.0:53:53/udp or 80")
    fields: dict[str, Any] = {"guest": _number(text, found["guest"], least=1)}
    if found["host"]:
        fields["host"] = _number(text, found["host"], least=0)
    return fields | _address_and_protocol(found) | ({"auto_correct": True} if comma else {})


def host_port_from_text(text: str) -> dict[str, Any]:
    """[IP:]HOST[/udp] -> {"host", "ip"?, "protocol"?}: what is to be taken away. Raises Invalid."""
    found = _HOST_FORM.fullmatch(text)
    if found is None:
        raise _invalid(text, "the port of the machine: [IP:]HOST[/udp], such as 8080 or 0.0.0.0:53/udp")
    return {"host": _number(text, found["host"], least=1)} | _address_and_protocol(found)


def forward_from_text(text: str) -> tuple[int | None, int]:
    """[LOCAL:]REMOTE -> (local or None, remote); LOCAL 0 is a free one. Raises Invalid."""
    local, colon, remote = text.rpartition(":")
    if not remote.isdigit() or (colon and not local.isdigit()):
        raise _invalid(text, "[LOCAL:]REMOTE, such as 5432 or 15432:5432")
    return (_number(text, local, least=0) if colon else None), _number(text, remote, least=1)


def text_of(port: Any) -> str:
    """The JSON of a PublishedPort as people write it, as far as it is a fact: 127.0.0.1:8080:80/udp."""
    ip = f"[{port['ip']}]" if ":" in port["ip"] else port["ip"]
    return f"{ip}:{port.get('host') or ''}:{port['guest']}" + ("/udp" if port.get("protocol") == "udp" else "")


def told(port: Any) -> str:
    """The same with what became of the wish: 127.0.0.1:20017:80 (8080 was taken)."""
    return text_of(port) + (f" ({port['wanted']} was taken)" if port.get("wanted") else "")


def _address_and_protocol(found: re.Match[str]) -> dict[str, Any]:
    given = {"ip": found["ip6"] or found["ip"], "protocol": found["protocol"]}
    return {name: value for name, value in given.items() if value}


def _number(text: str, digits: str, *, least: int) -> int:
    if not least <= int(digits) <= PORT_MAX:
        raise _invalid(text, f"ports from {least} to {PORT_MAX}")
    return int(digits)


def _invalid(text: str, allowed: str) -> Invalid:
    return Invalid(f"port {text[:80]!r}: expected {allowed}", field="ports")


def add(ref: str, port: dict[str, Any]) -> Call[PublishedPort]:
    return Call("POST", path(ref, "ports"), parse.port, body=port)


def remove(ref: str, host: int, *, protocol: str | None = None, ip: str | None = None) -> Call[list[PublishedPort]]:
    return Call("DELETE", path(ref, "ports", str(host)), parse.ports, query={"protocol": protocol, "ip": ip})


def list_all(ref: str) -> Call[list[PortState]]:
    return Call("GET", path(ref, "ports"), parse.port_states)


def listening(ref: str) -> Call[list[ListeningPort]]:
    return Call("GET", path(ref, "ports", "listening"), parse.listening_ports)


def connect_path(ref: str, port: int) -> str:
    return path(ref, "ports", str(port), "connect")
