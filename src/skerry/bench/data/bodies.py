"""A turn as the body of a request, with the conversation so far before it."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skerry.bench.contract import Api
from skerry.bench.data.audio import multipart
from skerry.bench.data.contract import Conversation, Turn

_written = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True)
class Form:
    """What all requests of a run have alike."""

    api: Api = Api.CHAT
    model: str = ""
    stream: bool = True
    ignore_eos: bool = True
    """Answers have just the length that was asked for."""
    extra: Mapping[str, Any] | None = None
    """Merged into every body."""

    def body(self, conversation: Conversation, at: int, answers: Sequence[str]) -> bytes:
        """`answers`: to the turns before `at`."""
        if conversation.raw:
            return conversation.raw[at]
        turn = conversation.turns[at]
        if self.api is Api.TRANSCRIPTIONS:
            more = {name: str(value) for name, value in (self.extra or {}).items()}
            return multipart(turn.sound, {"model": self.model, **({"stream": "true"} if self.stream else {}), **more})
        body: dict[str, Any] = {"model": self.model}
        match self.api:
            case Api.CHAT:
                body["messages"] = _messages(conversation, at, answers)
            case Api.COMPLETIONS:
                body["prompt"] = _prompt(conversation, at, answers)
            case Api.RESPONSES:
                body["input"] = _prompt(conversation, at, answers)
            case Api.RERANK:
                query, _, rest = turn.text.partition("\n")
                body |= {"query": query, "documents": rest.split("\n") if rest else [query]}
            case Api.SPEECH:
                body |= {"input": turn.text, "voice": "alloy"}
            case _:
                body["input"] = turn.text
        if self.api in (Api.CHAT, Api.COMPLETIONS, Api.RESPONSES):
            body |= self._generation(turn)
        if conversation.user and self.api is not Api.RERANK:
            body["user"] = conversation.user
        return _written({**body, **(self.extra or {})}).encode()

    def _generation(self, turn: Turn) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if turn.output_tokens:
            found["max_output_tokens" if self.api is Api.RESPONSES else "max_tokens"] = turn.output_tokens
            if self.ignore_eos and self.api is not Api.RESPONSES:
                found |= {"ignore_eos": True, "min_tokens": turn.output_tokens}
        if self.stream:
            found["stream"] = True
            if self.api is not Api.RESPONSES:
                found["stream_options"] = {"include_usage": True}
        return found

    def input_tokens(self, conversation: Conversation, at: int) -> int:
        """As the data has it, answers before not counted."""
        first = at if conversation.fixed else 0
        return conversation.system_tokens + sum(turn.input_tokens for turn in conversation.turns[first : at + 1])


def _messages(conversation: Conversation, at: int, answers: Sequence[str]) -> list[dict[str, Any]]:
    if conversation.messages:
        return [dict(message) for message in conversation.messages]
    messages: list[dict[str, Any]] = []
    if conversation.system:
        messages.append({"role": "system", "content": conversation.system})
    if not conversation.fixed:
        for turn, answer in zip(conversation.turns[:at], answers, strict=False):
            messages += [{"role": "user", "content": turn.text}, {"role": "assistant", "content": answer}]
    turn = conversation.turns[at]
    content: Any = turn.text
    if turn.images:
        pictures = [f"data:image/png;base64,{b64encode(image).decode()}" for image in turn.images]
        content = [{"type": "text", "text": turn.text}]
        content += [{"type": "image_url", "image_url": {"url": each}} for each in pictures]
    return [*messages, {"role": "user", "content": content}]


def _prompt(conversation: Conversation, at: int, answers: Sequence[str]) -> str:
    parts = [conversation.system] if conversation.system else []
    if not conversation.fixed:
        for turn, answer in zip(conversation.turns[:at], answers, strict=False):
            parts += [turn.text, answer]
    return "\n\n".join([*parts, conversation.turns[at].text])
