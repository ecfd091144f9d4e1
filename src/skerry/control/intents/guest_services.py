"""Add, change and remove one service of a sandbox, each in one transaction: of two who add one, both have theirs."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from skerry.control.intents import sandboxes
from skerry.errors import InUse, NotFound
from skerry.model.explain import explain
from skerry.model.guest_service import GuestServiceSpec
from skerry.model.sandbox import Sandbox, SandboxUpdate
from skerry.store.transaction import Transaction


async def put(tx: Transaction, sandbox: Sandbox, name: str, spec: GuestServiceSpec) -> Sandbox:
    """Raises Invalid for one that does not go with the others."""
    return await _update(tx, sandbox, {**_dumped(sandbox), name: spec.model_dump(exclude_none=True)})


async def remove(tx: Transaction, sandbox: Sandbox, name: str) -> Sandbox:
    """Raises NotFound, InUse while another service needs it."""
    services = _dumped(sandbox)
    if name not in services:
        raise NotFound(f"sandbox {sandbox.name} has no service {name[:60]}")
    users = [other for other, spec in sandbox.spec.services.items() if name in spec.needs]
    if users:
        raise InUse(f"service {name} is needed by {', '.join(users)}; remove or change that first")
    del services[name]
    return await _update(tx, sandbox, services)


def _dumped(sandbox: Sandbox) -> dict[str, Any]:
    return {name: spec.model_dump(exclude_none=True) for name, spec in sandbox.spec.services.items()}


async def _update(tx: Transaction, sandbox: Sandbox, services: dict[str, Any]) -> Sandbox:
    try:
        wanted = SandboxUpdate.model_validate({"services": services})
    except ValidationError as error:
        raise explain(error) from None
    return await sandboxes.update(tx, sandbox, wanted)
