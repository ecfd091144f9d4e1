"""Secrets, for programs: set one, see what is known of it, delete it. For asyncio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from skerry.client import flows, parse
from skerry.client.calls import secrets as calls

if TYPE_CHECKING:
    from skerry.client.transport_async import AsyncTransport
    from skerry.model.secret import Secret, SecretWithUsers


class AsyncSecrets:
    """A sandbox takes one by its spec, `secrets=["token=API_TOKEN"]`. No value is ever answered with."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def set(self, name: str, value: str | bytes, *, labels: Mapping[str, str] | None = None) -> Secret:
        """A new one, or the next version: sandboxes that run keep what they have until their next start."""
        return await self._transport.send(calls.set_value(name, value, labels))

    async def get(self, ref: str) -> SecretWithUsers:
        return await self._transport.send(calls.get(ref))

    async def list(self) -> list[Secret]:
        items = await self._transport.run(flows.gather(lambda token: calls.list_page(page_token=token)))
        return [parse.secret(item) for item in items]

    async def delete(self, ref: str, *, force: bool = False) -> None:
        """Raises InUse while a sandbox names it, unless by `force`."""
        await self._transport.json(calls.delete(ref, force=force))
