"""Calls about SSH: where it leads in, a new key, no key any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.client import parse
from skerry.client.call import Call
from skerry.client.calls.sandboxes import path

if TYPE_CHECKING:
    from skerry.model.ssh import SshAccess, SshGrant

_AT = "ssh-access"


def access(ref: str) -> Call[SshAccess]:
    return Call("GET", path(ref, _AT), parse.ssh_access)


def grant(ref: str, for_s: float | None = None) -> Call[SshGrant]:
    return Call("POST", path(ref, _AT), parse.ssh_grant, body={} if for_s is None else {"for_s": for_s})


def revoke(ref: str) -> Call[None]:
    return Call("DELETE", path(ref, _AT), parse.nothing)
