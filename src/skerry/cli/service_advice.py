"""What to say of a service that was made and does not serve, besides why."""

from __future__ import annotations

from contextlib import suppress

from skerry.cli.invocation import Invocation
from skerry.client.calls import services as calls
from skerry.errors import Failed, SkerryError


def advised(invocation: Invocation, name: str, error: Failed) -> Failed:
    """Where it is there all the same: whose it is, and how more is found out."""
    with suppress(SkerryError):
        invocation.ask(calls.get(name))
        more = f"it stays; `skerry service logs {name}` and `skerry explain {name}` say more"
        return Failed(f"{name}: {error.say}; {more}", because=error.because)
    return error
