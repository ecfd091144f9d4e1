"""The checkpoint that stands for "made ready": taken after steps, gone back to by `skerry reset`."""

from __future__ import annotations

from typing import Any

from skerry.client import flows
from skerry.client.calls import checkpoints as calls
from skerry.client.calls import sandboxes
from skerry.client.transport import Transport
from skerry.errors import NotFound, SkerryError

COMMENT = "provisioned"
KEPT = 1


def take(transport: Transport, ref: str) -> dict[str, Any]:
    """A new one; older ones of ours go. One that somebody took by hand with another comment stays."""
    made: dict[str, Any] = transport.run(
        flows.settle(lambda wait_s: calls.create(ref, COMMENT, wait_s), lambda body: calls.get(ref, body["id"]))
    )
    for old in _ours(transport, ref)[KEPT:]:
        try:
            transport.json(calls.delete(ref, old["id"]))
        except SkerryError:
            continue  # it goes with the next one
    return made


def reset(transport: Transport, ref: str) -> dict[str, Any]:
    """Back to the newest, which is returned; what was written since is lost."""
    found = _ours(transport, ref)
    if not found:
        raise NotFound(
            f"{ref} was never made ready, so there is nothing to go back to: `skerry up` or `skerry provision` does it"
        )
    restore = flows.settle(
        lambda wait_s: sandboxes.restore(ref, found[0]["id"], wait_s), lambda body: sandboxes.get(ref)
    )
    transport.run(restore)
    return found[0]


def _ours(transport: Transport, ref: str) -> list[dict[str, Any]]:
    """Newest first."""
    items = transport.run(flows.gather(lambda token: calls.list_page(ref, page_token=token)))
    ready = [item for item in items if item["comment"] == COMMENT and item["state"] == "ready"]
    return sorted(ready, key=lambda item: item["number"], reverse=True)
