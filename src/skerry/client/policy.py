"""The egress policy of one sandbox, for programs: replace it, try a draft, read what was asked. Blocking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from skerry.client import parse, wire
from skerry.client.calls import policy as calls
from skerry.client.calls import sandboxes
from skerry.client.feed import Feed

if TYPE_CHECKING:
    from skerry.client.transport import Transport
    from skerry.model.policy import NameAsked, Policy, PolicyTest


class SandboxPolicy:
    def __init__(self, transport: Transport, sandbox_id: str) -> None:
        self._transport = transport
        self._id = sandbox_id

    def get(self) -> Policy:
        return self._transport.send(sandboxes.get(self._id)).spec.network.policy

    def set(
        self,
        policy: Policy | Mapping[str, Any] | None = None,
        *,
        default: str = "allow",
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        observe: bool = False,
    ) -> Policy:
        """In place of the whole policy it had; when this returns, its machine goes by it. Either `policy`, or the words
        of the command line: domains, ranges and @presets."""
        whole = policy if policy is not None else calls.policy(default, allow, deny, observe=observe)
        return calls.applied(self._transport.send(calls.replace(self._id, whole)))

    def test(self, draft: Policy | Mapping[str, Any]) -> PolicyTest:
        """What would have become, under `draft`, of every name it asked for."""
        return self._transport.send(calls.test(self._id, draft))

    def log(self, tail: int | None = None) -> list[NameAsked]:
        """Names it asked for and what became of them, oldest first."""
        lines = wire.Lines()
        with self._transport.stream(calls.log(self._id, tail=tail)) as stream:
            return [parse.name_asked(item) for chunk in stream for item in lines.feed(chunk)]

    def follow_log(self, tail: int | None = None) -> Feed[NameAsked]:
        """The same, and on as it asks."""
        return Feed(self._transport.stream(calls.log(self._id, follow=True, tail=tail)), parse.name_asked)
