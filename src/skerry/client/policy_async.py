"""The egress policy of one sandbox, for programs: replace it, try a draft, read what was asked. asyncio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from skerry.client import parse, wire
from skerry.client.calls import policy as calls
from skerry.client.calls import sandboxes
from skerry.client.feed_async import AsyncFeed

if TYPE_CHECKING:
    from skerry.client.transport_async import AsyncTransport
    from skerry.model.policy import NameAsked, Policy, PolicyTest


class AsyncSandboxPolicy:
    def __init__(self, transport: AsyncTransport, sandbox_id: str) -> None:
        self._transport = transport
        self._id = sandbox_id

    async def get(self) -> Policy:
        return (await self._transport.send(sandboxes.get(self._id))).spec.network.policy

    async def set(
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
        return calls.applied(await self._transport.send(calls.replace(self._id, whole)))

    async def test(self, draft: Policy | Mapping[str, Any]) -> PolicyTest:
        """What would have become, under `draft`, of every name it asked for."""
        return await self._transport.send(calls.test(self._id, draft))

    async def log(self, tail: int | None = None) -> list[NameAsked]:
        """Names it asked for and what became of them, oldest first."""
        lines = wire.Lines()
        async with await self._transport.stream(calls.log(self._id, tail=tail)) as stream:
            return [parse.name_asked(item) async for chunk in stream for item in lines.feed(chunk)]

    async def follow_log(self, tail: int | None = None) -> AsyncFeed[NameAsked]:
        """The same, and on as it asks."""
        return AsyncFeed(await self._transport.stream(calls.log(self._id, follow=True, tail=tail)), parse.name_asked)
