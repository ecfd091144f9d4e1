"""Calls about URLs: where a port of a sandbox is, and links that open a private one for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.client import parse
from skerry.client.call import Call
from skerry.client.calls.sandboxes import path

if TYPE_CHECKING:
    from skerry.model.url import Url


def get(ref: str, port: int | None = None) -> Call[Url]:
    return Call("GET", path(ref, "url"), parse.url, query={"port": port})


def sign(ref: str, port: int, expires_s: float) -> Call[Url]:
    return Call("POST", path(ref, "url"), parse.url, body={"port": port, "expires_s": expires_s})
