"""What a Client has besides sandboxes: images, keys, operations, events. Blocking."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.client import archive, flows, parse
from skerry.client.call import Call
from skerry.client.calls import cloud
from skerry.client.calls import images as image_calls
from skerry.client.feed import Feed
from skerry.client.flows import TIMEOUT_S
from skerry.client.transport import Transport

if TYPE_CHECKING:
    from skerry.model.event import Event
    from skerry.model.image import Image
    from skerry.model.key import Key, NewKey
    from skerry.model.operation import Operation

OnProgress = Callable[["Operation"], object]


class Images:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def pull(
        self,
        source: str,
        name: str | None = None,
        *,
        insecure: bool = False,
        on_progress: OnProgress | None = None,
        timeout_s: float = 2 * TIMEOUT_S,
    ) -> Image:
        """`source`: docker://…, a plain registry name, or a local oci:DIR, oci-archive:FILE, docker-archive:FILE."""
        found = archive.read_source(source, name)
        if found.data is not None:
            return self.upload(found.data, found.name, on_progress=on_progress, timeout_s=timeout_s)
        make = self._pulling(found.name, found.source, insecure)
        return self._made(make, on_progress, timeout_s)

    def build(
        self,
        name: str,
        recipe: str,
        include: Sequence[str] = (),
        *,
        on_progress: OnProgress | None = None,
        timeout_s: float = 3 * TIMEOUT_S,
    ) -> Image:
        """From Debian's own packages: `recipe` is debian:12 or debian:13, `include` further packages."""
        return self._made(lambda wait_s: image_calls.build(name, recipe, include, wait_s), on_progress, timeout_s)

    def upload(
        self,
        data: Iterable[bytes] | bytes,
        name: str,
        *,
        on_progress: OnProgress | None = None,
        timeout_s: float = 2 * TIMEOUT_S,
    ) -> Image:
        """A docker-archive or oci-archive tar."""
        return self._made(lambda wait_s: image_calls.upload(name, data, wait_s), on_progress, timeout_s)

    def get(self, ref: str) -> Image:
        return self._transport.send(image_calls.get(ref))

    def list(self, name: str | None = None) -> list[Image]:
        items = self._transport.run(
            flows.gather(lambda token: image_calls.list_page(name=name, limit=flows.PAGE_ITEMS, page_token=token))
        )
        return [parse.image(item) for item in items]

    def delete(self, ref: str) -> None:
        self._transport.run(flows.settle(lambda wait_s: image_calls.delete(ref, wait_s)))

    def prune(self) -> list[Image]:
        """Remove the images that no sandbox and no checkpoint uses; returns them."""
        return self._transport.send(image_calls.prune())

    def export(self, ref: str, path: str | Path) -> int:
        """Write an image to `path` as an OCI archive; returns its size in bytes."""
        size_bytes = 0
        with self._transport.stream(image_calls.export(ref)) as stream, archive.whole_file(Path(path)) as file:
            for chunk in stream:
                size_bytes += file.write(chunk)
        return size_bytes

    def _pulling(self, name: str, source: str, insecure: bool) -> Callable[[float], Call[Image]]:
        return lambda wait_s: image_calls.pull(name, source, insecure=insecure, wait_s=wait_s)

    def _made(self, make: Callable[[float], Call[Image]], on_progress: OnProgress | None, timeout_s: float) -> Image:
        if on_progress is None:
            found = self._transport.run(
                flows.settle(make, lambda body: image_calls.get(body["id"]), timeout_s=timeout_s)
            )
            return parse.image(found)
        image = self._transport.send(make(0))
        if image.operation:
            call = cloud.watch_operation(image.operation)
            with Feed(self._transport.stream(call), call.parse) as feed:
                for operation in feed:
                    on_progress(operation)
            deadline_s = time.monotonic() + timeout_s
            self._transport.run(flows.finish(image.operation, deadline_s=deadline_s))
        return self.get(image.id)


class Keys:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str) -> NewKey:
        """The answer's `secret` is shown this once."""
        return self._transport.send(cloud.create_key(name))

    def list(self) -> list[Key]:
        items = self._transport.run(flows.gather(lambda token: cloud.keys(page_token=token)))
        return [parse.key(item) for item in items]

    def delete(self, ref: str) -> None:
        self._transport.json(cloud.delete_key(ref))


class Operations:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, ref: str) -> Operation:
        return self._transport.send(cloud.operation(ref))

    def list(self, *, target: str | None = None, state: str | None = None) -> list[Operation]:
        items = self._transport.run(
            flows.gather(lambda token: cloud.operations(target=target, state=state, page_token=token))
        )
        return [parse.operation(item) for item in items]

    def wait(self, ref: str, *, timeout_s: float = TIMEOUT_S) -> Operation:
        """Raises Failed with the operation's own reason if it fails."""
        return parse.operation(self._transport.run(flows.finish(ref, deadline_s=time.monotonic() + timeout_s)))

    def watch(self, ref: str) -> Feed[Operation]:
        """The operation on each change, until it is final."""
        call = cloud.watch_operation(ref)
        return Feed(self._transport.stream(call), call.parse)


class Events:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self, *, target: str | None = None, noun: str | None = None, after: int | None = None, limit: int = 1000
    ) -> list[Event]:
        items = self._transport.run(
            flows.gather(
                lambda token: cloud.events(target=target, noun=noun, after=after, page_token=token), items_max=limit
            )
        )
        return [parse.event(item) for item in items]

    def watch(self, *, target: str | None = None, noun: str | None = None, after: int | None = None) -> Feed[Event]:
        """From `after` on, as they happen."""
        call = cloud.watch_events(target=target, noun=noun, after=after)
        return Feed(self._transport.stream(call), call.parse)
