"""The forms of OpenAI's answers: whole, and in the pieces of a stream."""

from __future__ import annotations

from typing import Any

from skerry.engines.http1 import event
from skerry.engines.simulator.asked import Asked
from skerry.engines.simulator.work import Work


class Form:
    """Of one answer."""

    def __init__(self, asked: Asked, id: str, model: str, created: int, *, chat: bool) -> None:
        self._asked = asked
        self._chat = chat
        kind = "chat.completion" if chat else "text_completion"
        self._head = {"id": id, "object": kind, "created": created, "model": model}
        self._chunk_head = {**self._head, "object": "chat.completion.chunk" if chat else kind}
        self._call = {"id": f"call_{id[-24:]}", "type": "function"}

    def usage(self, work: Work, made: int) -> dict[str, Any]:
        prompt = len(self._asked.prompt)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": made,
            "total_tokens": prompt + made,
            "prompt_tokens_details": {"cached_tokens": work.cached},
        }

    def whole(self, work: Work, transfer: dict[str, Any] | None) -> dict[str, Any]:
        asked = self._asked
        text = "".join(asked.pieces)
        choice: dict[str, Any] = {"index": 0, "finish_reason": asked.reason, "logprobs": None}
        if not self._chat:
            choice["text"] = text
        elif asked.tool is None:
            choice["message"] = {"role": "assistant", "content": text, "tool_calls": []}
        else:
            call = {**self._call, "function": {"name": asked.tool, "arguments": text}}
            choice["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
        answer = {**self._head, "choices": [choice], "usage": self.usage(work, work.made)}
        return answer if transfer is None else {**answer, "kv_transfer_params": transfer}

    def begin(self) -> bytes:
        """Of a chat's stream, before its first token."""
        if not self._chat:
            return b""
        delta: dict[str, Any] = {"role": "assistant", "content": ""}
        if self._asked.tool is not None:
            call = {"index": 0, **self._call, "function": {"name": self._asked.tool, "arguments": ""}}
            delta = {"role": "assistant", "content": None, "tool_calls": [call]}
        return event(self._chunk(delta, None))

    def piece(self, at: int, work: Work) -> bytes:
        chunk = self._piece(at)
        return event({**chunk, "usage": self.usage(work, at + 1)} if self._asked.usage_each else chunk)

    def _piece(self, at: int) -> dict[str, Any]:
        text = self._asked.pieces[at]
        last = at + 1 == len(self._asked.pieces)
        if not self._chat:
            return self._chunk(text, self._asked.reason if last else None)
        if self._asked.tool is not None:
            return self._chunk({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}, None)
        return self._chunk({"content": text}, None)

    def end(self, work: Work) -> list[bytes]:
        found = [event(self._chunk({}, self._asked.reason))] if self._chat else []
        if self._asked.usage:
            found.append(event({**self._chunk_head, "choices": [], "usage": self.usage(work, work.made)}))
        return [*found, b"data: [DONE]\n\n"]

    def _chunk(self, delta: Any, reason: str | None) -> dict[str, Any]:
        said = {"delta": delta} if self._chat else {"text": delta}
        return {**self._chunk_head, "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": reason}]}
