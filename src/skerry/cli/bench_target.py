"""Where a benchmark's requests go, and with which key: any URL, or a service of Skerry through its gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry.cli.invocation import Invocation
from skerry.errors import Invalid, Unavailable

KEYS_OF_OTHERS = ("SKERRY_BENCH_KEY", "OPENAI_API_KEY")
KEYS_OF_SERVICES = ("SKERRY_BENCH_KEY",)


def reached(invocation: Invocation, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's fields, with the key in the headers and the address in the place of `service`. Raises Invalid, and as
    a call does."""
    found = {name: value for name, value in fields.items() if name != "service"}
    service = fields.get("service")
    if service is None:
        return _with_key(found, _key(invocation, KEYS_OF_OTHERS))
    if found.get("url") or found.get("engine"):
        raise Invalid("service: give one of url, service and engine", field="service")
    from skerry.client.calls import services as calls

    known = invocation.ask(calls.get(str(service)))
    if not known.get("url"):
        raise Unavailable(f"service {known['name']} has no address: the gateway is not set up")
    # A key of another cloud is not told to this one, nor this one's to another's server.
    key = _key(invocation, KEYS_OF_SERVICES) or invocation.target().key
    return _with_key({"model": known["name"], **found, "url": known["url"]}, key)


def headers_of(given: tuple[str, ...], key: str | None) -> dict[str, str]:
    """Raises Invalid."""
    found: dict[str, str] = {} if key is None else {"Authorization": f"Bearer {key}"}
    for header in given:
        name, colon, value = header.partition(":")
        if not colon:
            raise Invalid(f"header: {header[:60]!r} is not allowed; give NAME:VALUE", field="header")
        found[name.strip()] = value.strip()
    return found


def _key(invocation: Invocation, names: tuple[str, ...]) -> str | None:
    return next((invocation.environ[name] for name in names if invocation.environ.get(name)), None)


def _with_key(fields: dict[str, Any], key: str | None) -> dict[str, Any]:
    headers: Any = fields.get("headers") or {}
    if key is None or any(str(name).lower() == "authorization" for name in headers):
        return fields
    return {**fields, "headers": {**headers, "Authorization": f"Bearer {key}"}}
