"""`skerry version`: of this client, and of the server it talks to."""

from __future__ import annotations

from typing import Any

from skerry import __version__
from skerry.cli.invocation import Invocation
from skerry.cli.options import command
from skerry.cli.output import part
from skerry.client.calls import cloud
from skerry.errors import SkerryError


@command("version")
def version(invocation: Invocation) -> None:
    """Versions of client and server, and what the server can do."""
    body: dict[str, Any] = {"client": __version__, "server": None}
    try:
        body["server"] = invocation.ask(cloud.info())
    except SkerryError as error:
        invocation.output.note(f"server: {error.say}")
    if invocation.output.json:
        invocation.output.emit(body)
        return
    server: Any = body["server"] or {}
    facts = {"client": __version__, "server": server.get("version"), "address": invocation.target().address}
    capabilities = part(server, "capabilities")
    facts["capabilities"] = ", ".join(_words(name, value) for name, value in capabilities.items() if value)
    invocation.output.facts(facts)


def _words(name: str, value: Any) -> str:
    """Only what can be said in a word or two; `--json` has the rest."""
    return f"{name} {value}" if isinstance(value, str) else name
