"""`sandbox.services`: commands that are kept running in a sandbox. Blocking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Unpack

from skerry.client.calls import guest_services as calls
from skerry.client.calls.guest_services import GuestServiceOptions
from skerry.client.transport import Transport

if TYPE_CHECKING:
    from skerry.model.guest_service import GuestService


class GuestServices:
    def __init__(self, transport: Transport, sandbox_id: str) -> None:
        self._transport = transport
        self._id = sandbox_id

    def list(self) -> list[GuestService]:
        return self._transport.send(calls.list_all(self._id))

    def add(self, name: str, command: str | Sequence[str], **options: Unpack[GuestServiceOptions]) -> GuestService:
        """Add one, or change the one of this name; it starts as soon as what it needs is healthy."""
        return self._transport.send(calls.put(self._id, name, calls.body_of(command, options)))

    def remove(self, name: str) -> None:
        self._transport.send(calls.remove(self._id, name))

    def start(self, name: str) -> GuestService:
        """And whatever it needs."""
        return self._transport.send(calls.act(self._id, name, "start"))

    def stop(self, name: str) -> GuestService:
        """Until it is started by hand, by a connection to its port, or with its sandbox."""
        return self._transport.send(calls.act(self._id, name, "stop"))

    def restart(self, name: str) -> GuestService:
        return self._transport.send(calls.act(self._id, name, "restart"))

    def logs(self, name: str, tail: int | None = None) -> str:
        with self._transport.stream(calls.logs(self._id, name, tail=tail)) as stream:
            return b"".join(stream).decode(errors="replace")

    def follow_logs(self, name: str, tail: int | None = None) -> Iterator[str]:
        """The same, and on as it is printed."""
        import codecs

        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with self._transport.stream(calls.logs(self._id, name, follow=True, tail=tail)) as stream:
            for chunk in stream:
                yield decoder.decode(chunk)
