"""Calls about secrets: set one, see what is known of them, delete; and how a sandbox takes one, as text."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skerry.client import parse
from skerry.client.call import Call, segment

if TYPE_CHECKING:
    from skerry.model.secret import Secret, SecretWithUsers

SECRETS = "/v1/secrets"
VALUE_BYTES_MAX = 64 * 1024
"""As in `skerry.model.secret`: who reads a value need not read more."""


def use_from_text(text: str) -> dict[str, Any]:
    """NAME, NAME=VARIABLE or NAME:/PATH -> the fields of SecretUse."""
    at = next((at for at, sign in enumerate(text) if sign in "=:"), len(text))
    name, sign, rest = text[:at], text[at : at + 1], text[at + 1 :]
    return {"name": name, **({"env" if sign == "=" else "file": rest} if sign else {})}


def text_of(use: Any) -> str:
    """The JSON of a SecretUse as people write it."""
    env = f"={use['env']}" if use.get("env") else ""
    return f"{use['name']}{env}" + (f":{use['file']}" if use.get("file") else "")


def set_value(name: str, value: str | bytes, labels: Mapping[str, str] | None = None) -> Call[Secret]:
    body: dict[str, Any] = {"value": value} if isinstance(value, str) else {"base64": base64.b64encode(value).decode()}
    if labels is not None:
        body["labels"] = dict(labels)
    return Call("PUT", f"{SECRETS}/{segment(name)}", parse.secret, body=body)


def list_page(*, limit: int | None = None, page_token: str | None = None) -> Call[Any]:
    return Call("GET", SECRETS, parse.anything, query={"limit": limit, "page_token": page_token})


def get(ref: str) -> Call[SecretWithUsers]:
    return Call("GET", f"{SECRETS}/{segment(ref)}", parse.secret_with_users)


def delete(ref: str, *, force: bool = False) -> Call[Any]:
    return Call("DELETE", f"{SECRETS}/{segment(ref)}", parse.anything, query={"force": force or None})
