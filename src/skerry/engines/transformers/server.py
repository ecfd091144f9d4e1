"""The OpenAI API in front of the model's thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from skerry.engines.http1 import Answer, Refused, Request, Server, members
from skerry.engines.transformers.generate import Model, Turn, Worker
from skerry.engines.transformers.prompts import COMPLETION_TOKENS, Sampling, begun, messages, sampling, texts

INPUTS_MAX = 256


@dataclass
class Counted:
    requests: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0


@dataclass
class ModelServer:
    names: tuple[str, ...]
    host: str
    port: int
    batch: int
    waiting: int
    defaults: dict[str, Any] = field(default_factory=dict[str, Any])
    """What a request has that does not say."""
    system: str | None = None
    """What a chat begins with that has no system message."""
    model: Model | None = None
    """None: it is being loaded."""
    worker: Worker | None = None
    counted: Counted = field(default_factory=Counted)

    async def start(self) -> Server:
        """Listens at once, so that it can be seen that it is loading."""
        server = Server(self.handle, self.host, self.port)
        await server.start()
        return server

    def loaded(self, model: Model) -> None:
        self.model, self.worker = model, Worker(model, self.batch)
        self.worker.start()

    async def handle(self, request: Request, answer: Answer) -> None:
        routes = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._completion,
            ("POST", "/v1/embeddings"): self._embeddings,
            ("GET", "/v1/models"): self._models,
            ("GET", "/health"): self._health,
            ("GET", "/metrics"): self._metrics,
        }
        if (route := routes.get((request.method, request.path))) is None:
            raise Refused(404, "Not Found")
        await route(request, answer)

    async def _chat(self, request: Request, answer: Answer) -> None:
        body = {**self.defaults, **request.json()}
        model, _ = self._ready(body, generates=True)
        tools = body.get("tools") or None
        ids = model.chat_ids(begun(messages(body), self.system), tools)
        await self._answer(answer, body, ids, sampling(body, None), chat=True)

    async def _completion(self, request: Request, answer: Answer) -> None:
        body = {**self.defaults, **request.json()}
        model, _ = self._ready(body, generates=True)
        prompts = texts(body, "prompt")
        if len(prompts) != 1:
            raise Refused(400, "prompt: give one", param="prompt")
        await self._answer(answer, body, model.ids(prompts[0]), sampling(body, COMPLETION_TOKENS), chat=False)

    async def _answer(
        self, answer: Answer, body: dict[str, Any], ids: list[int], wish: Sampling, *, chat: bool
    ) -> None:
        model, worker = self._ready(body, generates=True)
        room = model.tokens - len(ids)
        if not ids or room < (wish.max_tokens or 1):
            raise Refused(
                400,
                f"This model's maximum context length is {model.tokens} tokens. However, you requested "
                f"{wish.max_tokens or 1} output tokens and your prompt contains {len(ids)} input tokens.",
            )
        if worker.waiting >= self.waiting:
            raise Refused(429, "too many requests wait", headers={"Retry-After": "1"})
        form = _Form(str(body.get("model") or self.names[0]), chat=chat)
        news: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def told(text: str, reason: str | None) -> None:
            loop.call_soon_threadsafe(news.put_nowait, (text, reason))

        turn = Turn(ids, wish, wish.max_tokens or room, told)
        self.counted.requests += 1
        self.counted.prompt_tokens += len(ids)
        try:
            worker.submit(turn)
            if body.get("stream"):
                usage = bool(members(body.get("stream_options")).get("include_usage"))
                await _stream(answer, _follow(news), turn, form, usage)
            else:
                parts = [part async for part in _follow(news)]
                answer.json(form.whole("".join(text for text, _ in parts), parts[-1][1], turn))
        finally:
            turn.cancelled = True
            self.counted.generated_tokens += len(turn.made)

    async def _embeddings(self, request: Request, answer: Answer) -> None:
        body = request.json()
        model, worker = self._ready(body, generates=False)
        inputs = [model.ids(text) for text in texts(body, "input")]
        if len(inputs) > INPUTS_MAX or any(not 0 < len(ids) <= model.tokens for ids in inputs):
            raise Refused(400, f"input: at most {INPUTS_MAX} of 1 to {model.tokens} tokens", param="input")
        vectors = await asyncio.gather(*(_embedded(worker, ids) for ids in inputs))
        if any(vector is None for vector in vectors):
            raise Refused(500, "the model failed")
        count = sum(len(ids) for ids in inputs)
        self.counted.prompt_tokens += count
        answer.json(
            {
                "object": "list",
                "model": body.get("model") or self.names[0],
                "data": [{"object": "embedding", "index": at, "embedding": one} for at, one in enumerate(vectors)],
                "usage": {"prompt_tokens": count, "total_tokens": count},
            }
        )

    def _ready(self, body: dict[str, Any], *, generates: bool) -> tuple[Model, Worker]:
        if self.model is None or self.worker is None:
            raise Refused(503, "the model is being loaded", headers={"Retry-After": "5"})
        name = body.get("model") or self.names[0]
        if name not in self.names:
            raise Refused(404, f"The model `{name}` does not exist.", param="model")
        if generates and not self.model.generates:
            raise Refused(400, "this model gives embeddings only")
        return self.model, self.worker

    async def _models(self, request: Request, answer: Answer) -> None:
        length = self.model.tokens if self.model else None
        head = {"object": "model", "created": int(time.time()), "owned_by": "skerry", "max_model_len": length}
        answer.json({"object": "list", "data": [{"id": name, **head} for name in self.names]})

    async def _health(self, request: Request, answer: Answer) -> None:
        alive = self.worker is not None and self.worker.is_alive()
        answer.text("" if alive else "loading", status=200 if alive else 503)

    async def _metrics(self, request: Request, answer: Answer) -> None:
        values = (
            ("requests_running", "gauge", self.worker.running if self.worker else 0),
            ("requests_waiting", "gauge", self.worker.waiting if self.worker else 0),
            ("requests_total", "counter", self.counted.requests),
            ("prompt_tokens_total", "counter", self.counted.prompt_tokens),
            ("generation_tokens_total", "counter", self.counted.generated_tokens),
        )
        text = "".join(f"# TYPE skerry_engine_{n} {kind}\nskerry_engine_{n} {value}\n" for n, kind, value in values)
        answer.text(text, "text/plain; version=0.0.4; charset=utf-8")


class _Form:
    """OpenAI's forms of one answer."""

    def __init__(self, model: str, *, chat: bool) -> None:
        self._chat = chat
        kind = "chat.completion" if chat else "text_completion"
        id = f"{'chatcmpl' if chat else 'cmpl'}-{uuid4().hex}"
        self._head = {"id": id, "object": kind, "created": int(time.time()), "model": model}

    def whole(self, text: str, reason: str | None, turn: Turn) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        return {**self._head, "choices": [_choice(said, reason)], "usage": _usage(turn)}

    def chunk(self, text: str | None, reason: str | None, **more: Any) -> dict[str, Any]:
        said: dict[str, Any] = {} if text is None else {"content": text}
        delta = {"delta": {**said, **more}} if self._chat else {"text": text or ""}
        return {**self._chunk_head, "choices": [_choice(delta, reason)]}

    def usage(self, turn: Turn) -> dict[str, Any]:
        return {**self._chunk_head, "choices": [], "usage": _usage(turn)}

    @property
    def _chunk_head(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk"} if self._chat else self._head


async def _stream(
    answer: Answer, parts: AsyncGenerator[tuple[str, str | None]], turn: Turn, form: _Form, usage: bool
) -> None:
    async for text, reason in parts:
        if not answer.begun:
            answer.start()
            answer.event(form.chunk("", None, role="assistant"))
        if text:
            answer.event(form.chunk(text, None))
        if reason is not None:
            answer.event(form.chunk(None, reason))
    if usage:
        answer.event(form.usage(turn))
    answer.send(b"data: [DONE]\n\n")
    answer.end()


async def _follow(news: asyncio.Queue[tuple[str, str | None]]) -> AsyncGenerator[tuple[str, str | None]]:
    """Until its end. Raises Refused where the model failed."""
    while True:
        text, reason = await news.get()
        if reason == "error":
            raise Refused(500, "the model failed")
        yield text, reason
        if reason is not None:
            return


async def _embedded(worker: Worker, ids: list[int]) -> list[float] | None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[float] | None] = loop.create_future()

    def set_it(vector: list[float] | None) -> None:
        if not future.done():
            future.set_result(vector)

    def told(vector: list[float] | None) -> None:
        loop.call_soon_threadsafe(set_it, vector)

    worker.embed(ids, told)
    return await future


def _choice(said: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": 0, **said, "logprobs": None, "finish_reason": reason}


def _usage(turn: Turn) -> dict[str, int]:
    prompt, made = len(turn.ids), len(turn.made)
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}
