"""Answers, one token after the other: requests take turns, a token each, in one thread that has the model.

Each keeps a cache of its own. Padding several into one batch was refused: with it an answer depends on who else asks,
and not every architecture can; who needs the throughput of batches takes vLLM, SGLang or llama.cpp.
"""

# Neither torch nor transformers is there where types are checked; they come with the replica's image.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from skerry.engines.transformers.prompts import Sampling, plain

MODEL_TOKENS = 2048
"""Where the model does not say."""


@dataclass(eq=False)
class Turn:
    ids: list[int]
    sampling: Sampling
    limit: int
    """Tokens at most."""
    told: Callable[[str, str | None], None]
    """Text that is new, and at the end why it ended: stop, length or error. Called in the model's thread."""
    made: list[int] = field(default_factory=list[int])
    cancelled: bool = False
    cache: Any = None
    random: Any = None
    seen: int = 0
    shown: int = 0
    text: str = ""
    """Held back because it may be the beginning of a stop."""


class Model:
    def __init__(
        self, path: str, *, dtype: str, device: str | None, max_model_len: int | None, trust: bool, template: str | None
    ) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust)
        self.generates = any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in config.architectures or ())
        kind = AutoModelForCausalLM if self.generates else AutoModel
        wanted: Any = dtype if dtype == "auto" else getattr(torch, dtype)
        self._model = kind.from_pretrained(path, dtype=wanted, trust_remote_code=trust).to(self.device).eval()
        named = inspect.signature(self._model.forward).parameters
        # What it is called in what the model is given and gives, which newer releases of transformers have changed.
        self._cache = "cache" if "cache" in named else "past_key_values"
        self.tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust)
        if template is not None:
            self.tokenizer.chat_template = template
        says = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or MODEL_TOKENS
        self.tokens = min(says, max_model_len or says)
        ends = self._model.generation_config.eos_token_id if self.generates else None
        known = ends if isinstance(ends, list) else [ends]
        self._ends = {id for id in (*known, self.tokenizer.eos_token_id) if id is not None}

    def chat_ids(self, messages: list[dict[str, Any]], tools: list[Any] | None) -> list[int]:
        if not self.tokenizer.chat_template:
            return self.ids(plain(messages))
        text = self.tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def ids(self, text: str | list[int]) -> list[int]:
        return text if isinstance(text, list) else list(self.tokenizer(text)["input_ids"])

    @torch.inference_mode()
    def step(self, turn: Turn) -> str | None:
        """Its next token; why it has ended, if it has."""
        if turn.cancelled:
            return "cancelled"
        new = turn.made[-1:] or turn.ids
        if turn.random is None:
            turn.random = torch.Generator(self.device)
            turn.random.manual_seed(turn.sampling.seed) if turn.sampling.seed is not None else turn.random.seed()
        given = torch.tensor([new], device=self.device)
        out = self._model(input_ids=given, use_cache=True, **{self._cache: turn.cache})
        turn.cache = getattr(out, self._cache)
        token = self._choose(out.logits[0, -1].float(), turn)
        turn.made.append(token)
        if token in self._ends and not turn.sampling.ignore_eos:
            return self._last(turn, "stop")
        if self._show(turn):
            return "stop"
        return self._last(turn, "length") if len(turn.made) >= turn.limit else None

    @torch.inference_mode()
    def embed(self, ids: list[int]) -> list[float]:
        """The mean of what its last layer has for each token, of length 1."""
        out = self._model(input_ids=torch.tensor([ids], device=self.device), output_hidden_states=True)
        vector = out.hidden_states[-1][0].float().mean(0)
        return torch.nn.functional.normalize(vector, dim=0).tolist()

    def _choose(self, logits: Any, turn: Turn) -> int:
        wish = turn.sampling
        if wish.temperature == 0:
            return int(logits.argmax())
        logits = logits / wish.temperature
        if wish.top_k > 0:
            logits[logits < logits.topk(min(wish.top_k, logits.numel())).values[-1]] = -torch.inf
        chances = logits.softmax(0)
        if wish.top_p < 1:
            ordered, order = chances.sort(descending=True)
            chances[order[ordered.cumsum(0) - ordered > wish.top_p]] = 0
        return int(torch.multinomial(chances, 1, generator=turn.random))

    def _show(self, turn: Turn) -> bool:
        """Tell of text that is whole: not half a character, nor what may be the beginning of a stop. Whether one came.
        Only the last few tokens are decoded again, as words depend on their neighbours."""
        before = self.tokenizer.decode(turn.made[turn.seen : turn.shown], skip_special_tokens=True)
        now = self.tokenizer.decode(turn.made[turn.seen :], skip_special_tokens=True)
        if now.endswith("\ufffd"):
            return False
        turn.seen, turn.shown = turn.shown, len(turn.made)
        turn.text += now[len(before) :]
        found = [at for at in (turn.text.find(stop) for stop in turn.sampling.stop) if at >= 0]
        if found:
            turn.told(turn.text[: min(found)], "stop")
            return True
        keep = max((_overlap(turn.text, stop) for stop in turn.sampling.stop), default=0)
        ready, turn.text = turn.text[: len(turn.text) - keep], turn.text[len(turn.text) - keep :]
        if ready:
            turn.told(ready, None)
        return False

    def _last(self, turn: Turn, reason: str) -> str:
        turn.told(turn.text, reason)
        return reason


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of the text with which a stop begins."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


class Worker(threading.Thread):
    """The model's thread: `batch` requests take turns, the others wait."""

    def __init__(self, model: Model, batch: int) -> None:
        super().__init__(name="model", daemon=True)
        self._model = model
        self._batch = batch
        self._condition = threading.Condition()
        self._waiting: deque[Turn] = deque()
        self._running: list[Turn] = []
        self._work: deque[tuple[list[int], Callable[[list[float] | None], None]]] = deque()
        self._stopped = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def submit(self, turn: Turn) -> None:
        with self._condition:
            self._waiting.append(turn)
            self._condition.notify()

    def embed(self, ids: list[int], told: Callable[[list[float] | None], None]) -> None:
        """None: it failed."""
        with self._condition:
            self._work.append((ids, told))
            self._condition.notify()

    def stop(self) -> None:
        with self._condition:
            self._stopped = True
            self._condition.notify()

    def run(self) -> None:
        while not self._stopped:
            with self._condition:
                while not (self._stopped or self._waiting or self._running or self._work):
                    self._condition.wait()
                while self._waiting and len(self._running) < self._batch:
                    self._running.append(self._waiting.popleft())
                work = self._work.popleft() if self._work else None
            if work is not None:
                self._embed(*work)
            self._running = [turn for turn in self._running if not self._ended(turn)]

    def _ended(self, turn: Turn) -> bool:
        try:
            return self._model.step(turn) is not None
        except (RuntimeError, ValueError, IndexError) as error:  # out of memory, or a token that it does not have
            print(f"a request failed: {error}", flush=True)
            turn.told("", "error")
            return True

    def _embed(self, ids: list[int], told: Callable[[list[float] | None], None]) -> None:
        try:
            told(self._model.embed(ids))
        except (RuntimeError, ValueError, IndexError) as error:
            print(f"a request failed: {error}", flush=True)
            told(None)
