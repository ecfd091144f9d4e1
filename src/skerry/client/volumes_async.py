"""Volumes, for programs: make, copy, snapshot, resize, delete. For asyncio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from skerry.client import flows, parse
from skerry.client.calls import volumes as calls

if TYPE_CHECKING:
    from skerry.client.transport_async import AsyncTransport
    from skerry.model.volume import Volume


class AsyncVolumes:
    """A sandbox mounts one by its spec: `mounts=["data:/srv/data"]`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self, name: str, *, size: int | str | None = None, labels: Mapping[str, str] | None = None
    ) -> Volume:
        """An empty one; `size` is bytes or text such as 20GiB."""
        return await self._made(name, size=size, labels=labels)

    async def clone(
        self, source: str, name: str, *, size: int | str | None = None, labels: Mapping[str, str] | None = None
    ) -> Volume:
        """A copy of the volume `source` as it is now, which takes no time and shares its room until either changes."""
        return await self._made(name, source=source, size=size, labels=labels)

    async def snapshot(self, source: str, name: str, *, labels: Mapping[str, str] | None = None) -> Volume:
        """The same, and read-only."""
        return await self._made(name, source=source, readonly=True, labels=labels)

    async def get(self, ref: str) -> Volume:
        return await self._transport.send(calls.get(ref))

    async def list(self, *, name: str | None = None, labels: Mapping[str, str] | None = None) -> list[Volume]:
        """Those that match all of what is given; `name` is a prefix."""
        items = await self._transport.run(
            flows.gather(
                lambda token: calls.list_page(name=name, labels=labels, limit=flows.PAGE_ITEMS, page_token=token)
            )
        )
        return [parse.volume(item) for item in items]

    async def update(
        self, ref: str, *, size: int | str | None = None, labels: Mapping[str, str] | None = None
    ) -> Volume:
        """While it is used. A size below what it holds raises Invalid."""
        changed = await self._transport.run(
            flows.settle(
                lambda wait_s: calls.update(ref, size=size, labels=labels, wait_s=wait_s),
                lambda body: calls.get(body["id"]),
            )
        )
        return parse.volume(changed)

    async def delete(self, ref: str) -> None:
        """Raises InUse while a sandbox mounts it."""
        await self._transport.run(flows.settle(lambda wait_s: calls.delete(ref, wait_s)))

    async def _made(
        self,
        name: str,
        *,
        size: int | str | None = None,
        labels: Mapping[str, str] | None = None,
        source: str | None = None,
        readonly: bool = False,
    ) -> Volume:
        made = await self._transport.run(
            flows.settle(
                lambda wait_s: calls.create(
                    name, size=size, labels=labels, source=source, readonly=readonly, wait_s=wait_s
                ),
                lambda body: calls.get(body["id"]),
            )
        )
        return parse.volume(made)
