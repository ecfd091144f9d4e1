"""`client.services` and `client.tokens`: what is served to others, and who is let in. Blocking.

service = client.services.create(name="web", image="debian:12", command="python3 -m http.server 80", port=80)
client.services.scale("web", 3)
token = client.tokens.create(services=["web"], expires="30d")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from skerry.client import flows, parse
from skerry.client.calls import services as calls
from skerry.client.calls.services import ServiceOptions, TokenOptions

if TYPE_CHECKING:
    from datetime import datetime

    from skerry.client.transport import Transport
    from skerry.model.service import Replica, Revision, Service
    from skerry.model.token import MadeToken, Metered, Token


class Services:
    """A service is named by its name, its id, or the beginning of its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, *, wait: bool = True, **options: Unpack[ServiceOptions]) -> Service:
        """With `wait`, returned when it can serve; raises Failed with the reason where it cannot."""
        body = calls.service_body(options)
        if not wait:
            return self._transport.send(calls.create(body))
        flow = flows.settle(lambda wait_s: calls.create(body, wait_s), lambda made: calls.get(made["id"]))
        return parse.service(self._transport.run(flow))

    def get(self, ref: str) -> Service:
        return self._transport.send(calls.get(ref))

    def list(self, *, name: str | None = None, labels: Mapping[str, str] | None = None) -> list[Service]:
        """Those that match all of what is given, without their replicas; `name` is a prefix."""
        items = self._transport.run(
            flows.gather(
                lambda token: calls.list_page(name=name, labels=labels, limit=flows.PAGE_ITEMS, page_token=token)
            )
        )
        return [parse.service(item) for item in items]

    def update(self, ref: str, *, wait: bool = True, **change: Unpack[ServiceOptions]) -> Service:
        """None means the field's default. What replicas run by makes a new revision: with `wait`, returned when that is
        rolled out, or stands ready to be promoted; raises Failed where it does not become healthy."""
        body = calls.update_body(change)
        if not wait:
            return self._transport.send(calls.update(ref, body))
        flow = flows.settle(lambda wait_s: calls.update(ref, body, wait_s), lambda made: calls.get(made["id"]))
        return parse.service(self._transport.run(flow))

    def scale(
        self,
        ref: str,
        replicas: int | None = None,
        *,
        role: str | None = None,
        minimum: int | None = None,
        maximum: int | None = None,
        wait: bool = True,
    ) -> Service:
        """So many replicas; of a service that is scaled by itself, its bounds."""
        if not wait:
            return self._transport.send(calls.scale(ref, replicas, role=role, minimum=minimum, maximum=maximum))
        flow = flows.settle(
            lambda wait_s: calls.scale(ref, replicas, role=role, minimum=minimum, maximum=maximum, wait_s=wait_s),
            lambda made: calls.get(made["id"]),
        )
        return parse.service(self._transport.run(flow))

    def rollout(self, ref: str, action: str, *, revision: int | None = None, wait: bool = True) -> Service:
        """promote, pause, resume, abort, or rollback (to a revision, or the one before)."""
        if not wait:
            return self._transport.send(calls.roll(ref, action, revision))
        flow = flows.settle(
            lambda wait_s: calls.roll(ref, action, revision, wait_s), lambda made: calls.get(made["id"])
        )
        return parse.service(self._transport.run(flow))

    def replicas(self, ref: str) -> Sequence[Replica]:
        return self._transport.send(calls.replicas(ref))

    def revisions(self, ref: str) -> Sequence[Revision]:
        """The last few, oldest first."""
        return self._transport.send(calls.revisions(ref))

    def usage(self, ref: str, *, since: datetime | None = None) -> Sequence[Metered]:
        """By hour, model and client, the newest hours first; of the last 30 days if nothing else is asked."""
        return self._transport.send(calls.usage(ref, since))

    def delete(self, ref: str, *, now: bool = False) -> None:
        """Its replicas end what they have begun; with `now` they do not."""
        self._transport.run(flows.settle(lambda wait_s: calls.delete(ref, now=now, wait_s=wait_s)))


class Tokens:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, **options: Unpack[TokenOptions]) -> MadeToken:
        """Its `secret` is told now and never again."""
        return self._transport.send(calls.create_token(calls.token_body(options)))

    def list(self, *, revoked: bool = False) -> list[Token]:
        """`revoked`: those that were revoked too."""
        items = self._transport.run(
            flows.gather(lambda token: calls.tokens_page(revoked=revoked, limit=flows.PAGE_ITEMS, page_token=token))
        )
        return [parse.token(item) for item in items]

    def revoke(self, ref: str) -> Token:
        """It lets nobody in any more."""
        return self._transport.send(calls.revoke_token(ref))
