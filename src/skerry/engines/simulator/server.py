"""The simulated engine behind the API of a vLLM server: answers, embeddings, scores, sound, adapters, sleep."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from skerry.engines import kv_events
from skerry.engines.http1 import Answer, Refused, Request, Server
from skerry.engines.kv_events import KvEvent
from skerry.engines.simulator import asked as asking
from skerry.engines.simulator import audio, responses, scores, texts, transfer
from skerry.engines.simulator.asked import Asked
from skerry.engines.simulator.core import Engine
from skerry.engines.simulator.faults import Fault, Faults, Kind
from skerry.engines.simulator.forms import Form
from skerry.engines.simulator.metrics import Observed
from skerry.engines.simulator.profile import BLOCK_TOKENS, Profile
from skerry.engines.simulator.responses import Response
from skerry.engines.simulator.runner import Runner
from skerry.engines.simulator.work import Stage, Work
from skerry.engines.zmtp import Publisher
from skerry.errors import Invalid

DIMENSIONS = 64
INPUTS_MAX = 2048
VERSION = "simulator"


@dataclass(frozen=True, slots=True)
class Options:
    models: tuple[str, ...] = ("simulator",)
    """The first is the model; the others are more names of it."""
    adapters: tuple[str, ...] = ()
    host: str = "0.0.0.0"
    port: int = 8000
    address: str = "127.0.0.1"
    """Under which other engines reach this one, for prefill and decode apart."""
    speed: float = 1.0
    """Seconds of the engine in one of the clock."""
    load_s: float = 0.0
    """Until it is healthy, on the clock."""
    events_port: int | None = None
    replay_port: int = 0
    seed: int = 0
    faults: tuple[Fault, ...] = ()
    profile: Profile = field(default_factory=Profile)


@dataclass(frozen=True, slots=True)
class _Turn:
    asked: Asked
    work: Work
    form: Form | Response
    found: list[int]
    """Tokens of the prompt and of the answer."""
    breaks_at: int | None


class Simulator:
    """Made inside a running loop."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.engine = Engine(options.profile, each_token=True, publish=True)
        self.faults = Faults(options.seed)
        self.publisher = Publisher() if options.events_port is not None else None
        self.runner = Runner(self.engine, options.speed, self._publish if self.publisher else None)
        self.server = Server(self.handle, options.host, options.port)
        self._ready_at_s = time.monotonic() + options.load_s
        self._engine_id = uuid4().hex
        self._adapters: dict[str, str] = dict.fromkeys(options.adapters, "")
        self._queued: dict[str, int] = {}
        """Requests by adapter, of those that have one."""
        self._observed = Observed()
        self._held: dict[str, Work] = {}
        self._asleep = False
        self._resume: asyncio.Task[None] | None = None
        for fault in options.faults:
            self.faults.add(fault)
        self._routes: dict[tuple[str, str], Callable[[Request, Answer], Awaitable[None]]] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._completion,
            ("POST", "/v1/responses"): self._response,
            ("POST", "/v1/embeddings"): self._embeddings,
            ("POST", "/v1/rerank"): self._rerank,
            ("POST", "/v1/score"): self._score,
            ("POST", "/v1/audio/transcriptions"): self._hear,
            ("POST", "/v1/audio/translations"): self._hear,
            ("POST", "/v1/audio/speech"): self._say,
            ("GET", "/v1/models"): self._models,
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/v1/load_lora_adapter"): self._load_adapter,
            ("POST", "/v1/unload_lora_adapter"): self._unload_adapter,
            ("GET", "/health"): self._health,
            ("GET", "/ping"): self._health,
            ("GET", "/version"): self._version,
            ("GET", "/metrics"): self._metrics,
            ("POST", "/sleep"): self._sleep,
            ("POST", "/wake_up"): self._wake_up,
            ("GET", "/is_sleeping"): self._is_sleeping,
            ("POST", "/reset_prefix_cache"): self._reset,
            ("GET", "/simulator/faults"): self._tell_faults,
            ("POST", "/simulator/faults"): self._add_fault,
            ("DELETE", "/simulator/faults"): self._clear_faults,
        }

    async def start(self) -> None:
        await self.server.start()
        if self.publisher is not None and self.options.events_port is not None:
            await self.publisher.listen(self.options.host, self.options.events_port, self.options.replay_port)
        self._apply_standing()

    async def stop(self) -> None:
        if self._resume is not None:
            self._resume.cancel()
        await self.server.stop()
        if self.publisher is not None:
            await self.publisher.close()

    async def handle(self, request: Request, answer: Answer) -> None:
        route = self._routes.get((request.method, request.path))
        if route is not None:
            try:
                await route(request, answer)
            except Invalid as invalid:
                raise Refused(400, invalid.say) from invalid
        elif request.path.startswith(transfer.PATH):
            self._tell_held(request, answer)
        elif any(path == request.path for _, path in self._routes):
            raise Refused(405, "Method Not Allowed")
        else:
            raise Refused(404, "Not Found")

    # Answers.

    async def _chat(self, request: Request, answer: Answer) -> None:
        body = request.json()
        model, adapter = self._which(body)
        asked = asking.chat(body, self.options.profile.tokens)
        id = f"chatcmpl-{uuid4().hex}"
        await self._answer(answer, body, adapter, asked, id, Form(asked, id, model, int(time.time()), chat=True))

    async def _completion(self, request: Request, answer: Answer) -> None:
        body = request.json()
        model, adapter = self._which(body)
        asked = asking.completion(body, self.options.profile.tokens)
        id = f"cmpl-{uuid4().hex}"
        await self._answer(answer, body, adapter, asked, id, Form(asked, id, model, int(time.time()), chat=False))

    async def _response(self, request: Request, answer: Answer) -> None:
        body = request.json()
        model, adapter = self._which(body)
        asked = responses.asked(body, self.options.profile.tokens)
        id = f"resp_{uuid4().hex}"
        await self._answer(answer, body, adapter, asked, id, Response(asked, id, model, int(time.time())))

    async def _answer(
        self, answer: Answer, body: dict[str, Any], adapter: str, asked: Asked, id: str, form: Form | Response
    ) -> None:
        fault = await self._strike()
        found = asked.prompt + [token for piece in asked.pieces for token in texts.tokens(piece)]
        blocks = texts.chain(found, salt=f"{adapter}/{body.get('cache_salt') or ''}")
        work = Work(id, len(asked.prompt), len(asked.pieces), blocks, adapter, asked.priority)
        await self._transfer(asked, work)
        turn = _Turn(asked, work, form, found, fault.tokens if fault is not None else None)
        self._queued[adapter] = self._queued.get(adapter, 0) + 1
        reason = "abort"
        try:
            await (self._streamed if asked.stream else self._whole)(answer, turn)
            reason = "length" if asked.reason == "length" else "stop"
        finally:
            self._queued[adapter] -= 1
            self._observed.ended(work, reason)

    async def _whole(self, answer: Answer, turn: _Turn) -> None:
        work = turn.work
        async with contextlib.aclosing(self.runner.follow(work, turn.found)) as follow:
            told = 0
            async for made, _ in follow:
                if not told:
                    await self._first(turn)
                told = made
                if turn.breaks_at is not None and made >= turn.breaks_at:
                    answer.abort()
                    return
        offer: dict[str, Any] | None = None
        if work.hold:
            self._held[work.id] = work
            blocks = -(-work.prompt // BLOCK_TOKENS)
            offer = transfer.offer(self._engine_id, work.id, self.options.address, self.server.port, blocks)
        answer.json(turn.form.whole(work, offer))

    async def _streamed(self, answer: Answer, turn: _Turn) -> None:
        form, told = turn.form, 0
        async with contextlib.aclosing(self.runner.follow(turn.work, turn.found)) as follow:
            async for made, _ in follow:
                if not told:
                    await self._first(turn)
                    answer.start()
                    if begun := form.begin():
                        answer.send(begun)
                for at in range(told, made):
                    if turn.breaks_at is not None and at >= turn.breaks_at:
                        answer.abort()
                        return
                    answer.send(form.piece(at, turn.work))
                told = made
        for part in form.end(turn.work):
            answer.send(part)
        answer.end()

    async def _first(self, turn: _Turn) -> None:
        """Its first token is here, and so the cache that was fetched."""
        self._observed.first(turn.work)
        if turn.work.fetch:
            await transfer.ask(turn.asked.transfer, "DELETE")

    async def _embeddings(self, request: Request, answer: Answer) -> None:
        body = request.json()
        model, adapter = self._which(body)
        inputs = asking.prompts(body.get("input"), "input")
        if len(inputs) > INPUTS_MAX:
            raise Refused(400, f"input: at most {INPUTS_MAX}", param="input")
        fault = await self._strike()
        if fault is not None:
            answer.abort()
            return
        size = int(body.get("dimensions") or DIMENSIONS)
        data: list[dict[str, Any]] = []
        for at, found in enumerate(inputs):
            await self._read(found, adapter)
            drawn = [texts.draw(found, index) / 2**63 - 1 for index in range(size)]
            norm = sum(value * value for value in drawn) ** 0.5
            data.append({"object": "embedding", "index": at, "embedding": [value / norm for value in drawn]})
        count = sum(len(found) for found in inputs)
        answer.json(
            {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": count, "total_tokens": count}}
        )

    async def _read(self, found: list[int], adapter: str) -> None:
        """A prompt without an answer."""
        work = Work(f"embd-{uuid4().hex}", len(found), 0, texts.chain(found, salt=f"{adapter}/"), adapter)
        async with contextlib.aclosing(self.runner.follow(work, found)) as follow:
            async for _ in follow:
                pass

    async def _rerank(self, request: Request, answer: Answer) -> None:
        body = request.json()
        model, adapter = self._which(body)
        pairs = scores.pairs(body.get("query"), body.get("documents"), ("query", "documents"))
        found = await self._scored(answer, pairs, adapter)
        if found is not None:
            told, count = found
            results = scores.ranked(told, [document for _, document in pairs], body.get("top_n"))
            usage = {"prompt_tokens": count, "total_tokens": count}
            answer.json({"id": f"rerank-{uuid4().hex}", "model": model, "usage": usage, "results": results})

    async def _score(self, request: Request, answer: Answer) -> None:
        body = request.json()
        model, adapter = self._which(body)
        pairs = scores.pairs(body.get("text_1"), body.get("text_2"), ("text_1", "text_2"))
        found = await self._scored(answer, pairs, adapter)
        if found is not None:
            told, count = found
            data = [{"index": at, "object": "score", "score": score} for at, score in enumerate(told)]
            head = {"id": f"score-{uuid4().hex}", "object": "list", "created": int(time.time()), "model": model}
            answer.json({**head, "data": data, "usage": {"prompt_tokens": count, "total_tokens": count}})

    async def _scored(
        self, answer: Answer, pairs: list[tuple[str, str]], adapter: str
    ) -> tuple[list[float], int] | None:
        """Each pair's score, and the tokens of all; None: it was broken off."""
        if await self._strike() is not None:
            answer.abort()
            return None
        told, count = list[float](), 0
        for pair in pairs:
            left, right = map(scores.tokens, pair)
            await self._read([*left, *right], adapter)
            told.append(scores.score(left, right))
            count += len(left) + len(right)
        return told, count

    async def _hear(self, request: Request, answer: Answer) -> None:
        heard = audio.recording(request)
        _, adapter = self._which({"model": heard.fields.get("model")})
        form = heard.wants("response_format", "json", "text", "verbose_json")
        if await self._strike() is not None:
            answer.abort()
            return
        found = [texts.mark("sound")] * max(1, round(heard.seconds * audio.HEARD_TOKENS_PER_S))
        pieces = texts.words(texts.draw(texts.tokens(str(len(heard.data))), 0), audio.words(heard.seconds))
        work = Work(f"trsc-{uuid4().hex}", len(found), len(pieces), (), adapter)
        streams = heard.fields.get("stream") == "true"
        told = 0
        async with contextlib.aclosing(self.runner.follow(work, found)) as follow:
            async for made, _ in follow:
                if streams and not told:
                    answer.start()
                for piece in pieces[told:made] if streams else ():
                    answer.event({"type": "transcript.text.delta", "delta": piece})
                told = made
        text = "".join(pieces)
        usage = {"input_tokens": len(found), "output_tokens": work.made, "total_tokens": len(found) + work.made}
        if streams:
            answer.event({"type": "transcript.text.done", "text": text, "usage": {"type": "tokens", **usage}})
            answer.end()
        elif form == "text":
            answer.text(text)
        else:
            more = {"duration": heard.seconds, "language": "english"} if form == "verbose_json" else {}
            answer.json({"text": text, **more, "usage": {"type": "tokens", **usage}})

    async def _say(self, request: Request, answer: Answer) -> None:
        body = request.json()
        _, adapter = self._which(body)
        text, form, pieces = audio.speech(body)
        if await self._strike() is not None:
            answer.abort()
            return
        found = texts.tokens(text)
        work, told = Work(f"spch-{uuid4().hex}", len(found), pieces, (), adapter), 0
        async with contextlib.aclosing(self.runner.follow(work, found)) as follow:
            async for made, _ in follow:
                if not told:
                    answer.start("audio/wav" if form == "wav" else "audio/pcm")
                    if form == "wav":
                        answer.send(audio.head(pieces))
                for _ in range(told, made):
                    answer.send(audio.piece())
                told = made
        answer.end()

    def _which(self, body: dict[str, Any]) -> tuple[str, str]:
        """The model's name, and the adapter if it is one."""
        name = body.get("model") or self.options.models[0]
        if self._asleep:
            raise Refused(503, "the engine sleeps", headers={"Retry-After": "1"})
        if time.monotonic() < self._ready_at_s:
            raise Refused(503, "the model is being loaded", headers={"Retry-After": "1"})
        if name in self._adapters:
            return name, name
        if name not in self.options.models:
            raise Refused(404, f"The model `{name}` does not exist.", param="model")
        return name, ""

    async def _strike(self) -> Fault | None:
        """What befalls this request while it is answered; what befalls it at once raises Refused, or never returns."""
        fault = self.faults.strike()
        if fault is None or fault.kind is Kind.BREAK:
            return fault
        if fault.kind is Kind.HANG:
            await asyncio.get_running_loop().create_future()
        raise Refused(fault.status, "a fault that was asked for")

    async def _transfer(self, asked: Asked, work: Work) -> None:
        """Whether its cache is kept for another engine, or comes from one."""
        if asked.transfer.get("do_remote_decode"):
            work.hold = True
        elif asked.transfer.get("do_remote_prefill"):
            work.fetch = await transfer.ask(asked.transfer, "GET")

    def _tell_held(self, request: Request, answer: Answer) -> None:
        work = self._held.get(request.path.removeprefix(transfer.PATH))
        if work is None or work.stage is not Stage.HELD:
            raise Refused(404, "not held, or not any more")
        if request.method == "DELETE":
            del self._held[work.id]
            self.runner.release(work.id)
        answer.json({"tokens": work.prompt})

    # What it is and how it is.

    async def _models(self, request: Request, answer: Answer) -> None:
        head = {"object": "model", "created": int(time.time()), "owned_by": "skerry"}
        length = self.options.profile.tokens
        models: list[dict[str, Any]] = [
            {"id": name, **head, "root": self.options.models[0], "parent": None, "max_model_len": length}
            for name in self.options.models
        ]
        models += [
            {"id": name, **head, "root": path or name, "parent": self.options.models[0]}
            for name, path in self._adapters.items()
        ]
        answer.json({"object": "list", "data": models})

    async def _tokenize(self, request: Request, answer: Answer) -> None:
        body = request.json()
        found = texts.chat_tokens(body) if "messages" in body else asking.prompts(body.get("prompt"), "prompt")[0]
        answer.json({"count": len(found), "max_model_len": self.options.profile.tokens, "tokens": found})

    async def _load_adapter(self, request: Request, answer: Answer) -> None:
        body = request.json()
        name, path = body.get("lora_name"), body.get("lora_path")
        if not isinstance(name, str) or not name or not isinstance(path, str) or not path:
            raise Refused(400, "Both 'lora_name' and 'lora_path' must be provided.")
        if name in self._adapters and not body.get("load_inplace"):
            raise Refused(400, f"The lora adapter '{name}' has already been loaded.")
        await asyncio.sleep(self.runner.real_s(self.options.profile.adapter_load_s))
        self._adapters[name] = path
        self.engine.load(name)
        answer.text(f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload_adapter(self, request: Request, answer: Answer) -> None:
        name = request.json().get("lora_name")
        if name not in self._adapters:
            raise Refused(404, f"The lora adapter '{name}' cannot be found.")
        del self._adapters[name]
        self.engine.unload(name)
        answer.text(f"Success: LoRA adapter '{name}' removed successfully.")

    async def _health(self, request: Request, answer: Answer) -> None:
        fault = self.faults.standing(Kind.UNHEALTHY)
        loading = time.monotonic() < self._ready_at_s
        answer.text("", status=fault.status if fault else 503 if loading else 200)

    async def _version(self, request: Request, answer: Answer) -> None:
        answer.json({"version": VERSION})

    async def _metrics(self, request: Request, answer: Answer) -> None:
        active = set(self.engine.adapters_active)
        waiting = ",".join(
            sorted(name for name, count in self._queued.items() if name and count and name not in active)
        )
        text = self._observed.text(self.engine, self.options.models[0], waiting, self._asleep)
        answer.text(text, "text/plain; version=0.0.4; charset=utf-8")

    async def _sleep(self, request: Request, answer: Answer) -> None:
        self._asleep = True
        self.runner.clear()
        answer.text("")

    async def _wake_up(self, request: Request, answer: Answer) -> None:
        self._asleep = False
        answer.text("")

    async def _is_sleeping(self, request: Request, answer: Answer) -> None:
        answer.json({"is_sleeping": self._asleep})

    async def _reset(self, request: Request, answer: Answer) -> None:
        self.runner.clear()
        answer.text("")

    # Failures on demand.

    async def _tell_faults(self, request: Request, answer: Answer) -> None:
        answer.json({"faults": self.faults.told()})

    async def _add_fault(self, request: Request, answer: Answer) -> None:
        self.faults.add(Fault.parse(request.json()))
        answer.json({"faults": self.faults.told()})
        asyncio.get_running_loop().call_later(0.01, self._apply_standing)

    async def _clear_faults(self, request: Request, answer: Answer) -> None:
        self.faults.clear()
        self._apply_standing()
        answer.json({"faults": []})

    def _apply_standing(self) -> None:
        slow = self.faults.standing(Kind.SLOW)
        self.engine.slowness = self.options.profile.slowness * (slow.factor if slow else 1.0)
        if (refuse := self.faults.standing(Kind.REFUSE)) is not None and self._resume is None:
            self._resume = asyncio.get_running_loop().create_task(self._refuse(refuse.seconds))

    async def _refuse(self, seconds: float) -> None:
        await self.server.stop()
        await asyncio.sleep(seconds)
        self.faults.drop(Kind.REFUSE)
        await self.server.start()
        self._resume = None

    def _publish(self, events: list[KvEvent]) -> None:
        if self.publisher is not None:
            self.publisher.publish(kv_events.TOPIC, kv_events.encode(events, time.time()))
