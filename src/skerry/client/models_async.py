"""Models, for programs: fetch, convert, package, delete. For asyncio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skerry.client import flows, parse
from skerry.client.calls import models as calls

if TYPE_CHECKING:
    from skerry.client.transport_async import AsyncTransport
    from skerry.model.weights import Model, ModelFile

TIMEOUT_S = 86_400.0
"""A large model over a slow line; what was fetched by then stays, and the next pull goes on from there."""


class AsyncModels:
    """A sandbox mounts one by its spec: `mounts=["model://qwen2.5-0.5b"]`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def pull(
        self,
        source: str,
        name: str | None = None,
        *,
        endpoint: str | None = None,
        secret: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Model:
        """`source`: hf://OWNER/NAME[@REVISION][/FILE], s3://BUCKET/PREFIX, oci://HOST/NAME:TAG, ollama://NAME:TAG,
        https://HOST/FILE#sha256=DIGEST, a shared folder of the server, VOLUME:/FOLDER. One that is there already is
        answered with."""
        return await self._made(source, timeout_s, name=name, endpoint=endpoint, secret=secret)

    async def convert(self, ref: str, name: str, *, to: str = "f16", timeout_s: float = TIMEOUT_S) -> Model:
        """A GGUF file of the safetensors of the model `ref`: f32, f16 or q8_0."""
        return await self._made(f"model://{ref}", timeout_s, name=name, convert=to)

    async def package(
        self,
        source: str,
        name: str,
        *,
        template: str | None = None,
        system: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        license: str | None = None,
        adapters: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> Model:
        """A model of the same files as `source` (model://NAME, or as for `pull`), with more said of it."""
        return await self._made(
            source,
            timeout_s,
            name=name,
            template=template,
            system=system,
            parameters=parameters,
            license=license,
            adapters=adapters,
        )

    async def get(self, ref: str) -> Model:
        return await self._transport.send(calls.get(ref))

    async def update(self, ref: str, **said: Any) -> Model:
        """What is said of it, by `template`, `system`, `parameters`, `license`; None takes away. Its files stay, and
        services that serve it get a new revision."""
        return await self._transport.send(calls.update(ref, said))

    async def files(self, ref: str) -> list[ModelFile]:
        return await self._transport.send(calls.files(ref))

    async def list(self, name: str | None = None) -> list[Model]:
        """Those that match; `name` is a prefix."""
        items = await self._transport.run(
            flows.gather(lambda token: calls.list_page(name=name, limit=flows.PAGE_ITEMS, page_token=token))
        )
        return [parse.model(item) for item in items]

    async def delete(self, ref: str) -> None:
        """Raises InUse while a sandbox mounts it."""
        await self._transport.run(flows.settle(lambda wait_s: calls.delete(ref, wait_s)))

    async def _made(self, source: str, timeout_s: float, **given: Any) -> Model:
        made = await self._transport.run(
            flows.settle(
                lambda wait_s: calls.create(source, **given, wait_s=wait_s),
                lambda body: calls.get(body["id"]),
                timeout_s=timeout_s,
            )
        )
        return parse.model(made)
