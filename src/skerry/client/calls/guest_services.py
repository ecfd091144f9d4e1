"""Calls about the services of a sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from skerry.client import parse
from skerry.client.call import Call, segment
from skerry.client.calls import sandboxes

if TYPE_CHECKING:
    from skerry.model.guest_service import GuestService, Health

REPLY_S = 60.0
"""A service that is stopped is given its grace."""


class GuestServiceOptions(TypedDict, total=False):
    """The fields of GuestServiceSpec besides its command."""

    port: int | None
    needs: Sequence[str] | None
    restart: str | None
    env: Mapping[str, str] | None
    user: str | None
    workdir: str | None
    health: Health | Mapping[str, Any] | None


def path(ref: str, *rest: str) -> str:
    return sandboxes.path(ref, "services", *rest)


def list_all(ref: str) -> Call[list[GuestService]]:
    return Call("GET", path(ref), parse.guest_services)


def body_of(command: str | Sequence[str], options: GuestServiceOptions) -> dict[str, Any]:
    given = {name: sandboxes.plain(value) for name, value in options.items() if value is not None}
    return {"command": sandboxes.shell_words(command), **given}


def put(ref: str, name: str, spec: Mapping[str, Any]) -> Call[GuestService]:
    return Call("PUT", path(ref, segment(name)), parse.guest_service, body=dict(spec))


def remove(ref: str, name: str) -> Call[GuestService]:
    return Call("DELETE", path(ref, segment(name)), parse.guest_service)


def act(ref: str, name: str, verb: str) -> Call[GuestService]:
    """`verb`: start, stop or restart."""
    return Call("POST", path(ref, segment(name), verb), parse.guest_service, reply_s=REPLY_S)


def logs(ref: str, name: str, *, follow: bool = False, tail: int | None = None) -> Call[Any]:
    query = {"follow": True if follow else None, "tail": tail}
    reply_s = None if follow else REPLY_S
    return Call("GET", path(ref, segment(name), "logs"), query=query, accept="text/plain", reply_s=reply_s)
