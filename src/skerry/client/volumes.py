"""Volumes, for programs: make, copy, snapshot, resize, delete. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from skerry.client import flows, parse
from skerry.client.calls import volumes as calls

if TYPE_CHECKING:
    from skerry.client.transport import Transport
    from skerry.model.volume import Volume


class Volumes:
    """A sandbox mounts one by its spec: `mounts=["data:/srv/data"]`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, *, size: int | str | None = None, labels: Mapping[str, str] | None = None) -> Volume:
        """An empty one; `size` is bytes or text such as 20GiB."""
        return self._made(name, size=size, labels=labels)

    def clone(
        self, source: str, name: str, *, size: int | str | None = None, labels: Mapping[str, str] | None = None
    ) -> Volume:
        """A copy of the volume `source` as it is now, which takes no time and shares its room until either changes."""
        return self._made(name, source=source, size=size, labels=labels)

    def snapshot(self, source: str, name: str, *, labels: Mapping[str, str] | None = None) -> Volume:
        """The same, and read-only."""
        return self._made(name, source=source, readonly=True, labels=labels)

    def get(self, ref: str) -> Volume:
        return self._transport.send(calls.get(ref))

    def list(self, *, name: str | None = None, labels: Mapping[str, str] | None = None) -> list[Volume]:
        """Those that match all of what is given; `name` is a prefix."""
        items = self._transport.run(
            flows.gather(
                lambda token: calls.list_page(name=name, labels=labels, limit=flows.PAGE_ITEMS, page_token=token)
            )
        )
        return [parse.volume(item) for item in items]

    def update(self, ref: str, *, size: int | str | None = None, labels: Mapping[str, str] | None = None) -> Volume:
        """While it is used. A size below what it holds raises Invalid."""
        changed = self._transport.run(
            flows.settle(
                lambda wait_s: calls.update(ref, size=size, labels=labels, wait_s=wait_s),
                lambda body: calls.get(body["id"]),
            )
        )
        return parse.volume(changed)

    def delete(self, ref: str) -> None:
        """Raises InUse while a sandbox mounts it."""
        self._transport.run(flows.settle(lambda wait_s: calls.delete(ref, wait_s)))

    def _made(
        self,
        name: str,
        *,
        size: int | str | None = None,
        labels: Mapping[str, str] | None = None,
        source: str | None = None,
        readonly: bool = False,
    ) -> Volume:
        made = self._transport.run(
            flows.settle(
                lambda wait_s: calls.create(
                    name, size=size, labels=labels, source=source, readonly=readonly, wait_s=wait_s
                ),
                lambda body: calls.get(body["id"]),
            )
        )
        return parse.volume(made)
