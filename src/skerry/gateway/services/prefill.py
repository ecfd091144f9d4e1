"""Prefill and decode apart: the prompt is computed on one replica, and where its cache is goes along to the one that
answers. vLLM's way: `kv_transfer_params` in the body of both."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Protocol, cast

from skerry.errors import SkerryError
from skerry.gateway.services.answer import AnswerHead
from skerry.gateway.services.replica import Replica
from skerry.gateway.services.upstream import Upstream

ANSWER_BYTES_MAX = 16 * 1024**2
_ASKED = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
_ONE = {"stream": False, "max_tokens": 1, "max_completion_tokens": 1, "min_tokens": 1}


class Owner(Protocol):
    """The request."""

    def sent(self, data: bytes) -> bytes:
        """It, with another body."""
        ...

    def prefilled(self, body: bytes | None) -> None:
        """With this body it goes on; None: with its own, and the prompt is computed where it is answered."""
        ...


class Prefill:
    plain = True
    """Its answer is read here, out of its chunks."""

    def __init__(self, owner: Owner, replica: Replica, owed: int, fields: dict[str, Any], timeout_s: float) -> None:
        """`owed`: tokens that it is to compute, counted at its replica until the owner leaves it."""
        self.replica = replica
        self.owed = owed
        replica.candidate.prefill_tokens += owed
        self._owner = owner
        self._fields = fields
        self._upstream: Upstream | None = None
        self._parts: list[bytes] = []
        self._status = 0
        self._over = False
        self._task = asyncio.get_running_loop().create_task(self._begin(timeout_s))

    async def _begin(self, timeout_s: float) -> None:
        kept = {key: value for key, value in self._fields.items() if key not in ("stream_options", "n")}
        most = {key: value for key, value in _ONE.items() if key in kept or key in ("stream", "max_tokens")}
        data = json.dumps({**kept, **most, "kv_transfer_params": _ASKED}).encode()
        try:
            self._upstream = self.replica.take() or await self.replica.connect(timeout_s)
        except (OSError, TimeoutError, SkerryError) as error:
            self.on_broken(repr(error))
            return
        self._upstream.send(self, self._owner.sent(data))

    def cancel(self) -> None:
        self._over = True
        self._task.cancel()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    def on_head(self, head: AnswerHead, data: bytes, over: bool) -> None:
        self._status = head.status
        self.on_part(data, over)

    def on_part(self, data: bytes, over: bool) -> None:
        self._parts.append(data)
        if over:
            self._upstream = None
            self._end(self._params())
        elif sum(map(len, self._parts)) > ANSWER_BYTES_MAX:
            self.on_broken("too long an answer")

    def on_broken(self, because: str) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        self._end(None)

    def on_full(self, full: bool) -> None: ...

    def _params(self) -> Any:
        if self._status != 200:
            return None
        try:
            read: Any = json.loads(b"".join(self._parts))
        except ValueError:
            return None
        return cast(dict[str, Any], read).get("kv_transfer_params") if isinstance(read, dict) else None

    def _end(self, params: Any) -> None:
        if self._over:
            return
        self._over = True
        body = None if params is None else json.dumps({**self._fields, "kv_transfer_params": params}).encode()
        self._owner.prefilled(body)
