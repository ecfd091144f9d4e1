"""What an OpenAI request asks of the simulator: the tokens of its prompt, and the answer that it will get."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from skerry.engines.http1 import Refused, items, members
from skerry.engines.simulator import texts

ANSWER_TOKENS_LEAST = 16
ANSWER_TOKENS_MOST = 256
"""Between which an answer ends by itself where nothing is asked."""
COMPLETION_TOKENS = 16
"""max_tokens of /v1/completions where it is not given."""


@dataclass(slots=True)
class Asked:
    prompt: list[int]
    pieces: list[str]
    """The answer, a token each."""
    reason: str
    """Why it ends: stop, length or tool_calls."""
    tool: str | None = None
    """The function that is called; the answer is its arguments."""
    stream: bool = False
    usage: bool = False
    """Told at the end of a stream."""
    usage_each: bool = False
    transfer: dict[str, Any] = field(default_factory=dict[str, Any])
    """kv_transfer_params."""
    seed: int = 0
    priority: int = 0


def chat(body: dict[str, Any], model_tokens: int) -> Asked:
    """Raises Refused."""
    messages = items(body.get("messages"))
    if not messages or not all(isinstance(message, dict) for message in messages):
        raise Refused(400, "messages: give a list of at least one message", param="messages")
    prompt = texts.chat_tokens(body)
    tool = _tool(body, members(messages[-1]))
    fixed: str | None = None
    if tool is not None:
        fixed = json.dumps(texts.example(members(tool.get("parameters"))))
    elif (form := members(body.get("response_format"))).get("type") in ("json_schema", "json_object"):
        schema = members(members(form.get("json_schema")).get("schema"))
        fixed = json.dumps(texts.example(schema or {"type": "object"}))
    limit = _whole_number(body, "max_completion_tokens", _whole_number(body, "max_tokens", None))
    asked = _asked(body, prompt, fixed, limit, model_tokens)
    if tool is not None:
        asked.tool = str(tool.get("name"))
        asked.reason = "tool_calls" if asked.reason == "stop" else asked.reason
    return asked


def completion(body: dict[str, Any], model_tokens: int) -> Asked:
    """Raises Refused."""
    prompt = prompts(body.get("prompt"), "prompt")
    if len(prompt) != 1:
        raise Refused(400, "prompt: give one", param="prompt")
    return _asked(body, prompt[0], None, _whole_number(body, "max_tokens", COMPLETION_TOKENS), model_tokens)


def prompts(given: Any, param: str) -> list[list[int]]:
    """Text, tokens, or a list of either."""
    if isinstance(given, str):
        return [texts.tokens(given) or [0]]
    found = items(given)
    if found and all(isinstance(item, int) for item in found):
        return [[abs(token) % 2**32 for token in found]]
    if found:
        return [prompt for item in found for prompt in prompts(item, param)]
    raise Refused(400, f"{param}: give text, or tokens, or a list of either", param=param)


def _tool(body: dict[str, Any], last: dict[str, Any]) -> dict[str, Any] | None:
    """The function that is called: the one that is named; else the first, unless it has just answered."""
    choice = body.get("tool_choice", "auto")
    functions = [members(members(tool).get("function")) for tool in items(body.get("tools"))]
    if isinstance(choice, dict):
        name = members(members(choice).get("function")).get("name")
        functions = [function for function in functions if function.get("name") == name]
        if not functions:
            raise Refused(400, f"tool_choice: there is no tool {name!r}", param="tool_choice")
        return functions[0]
    if choice == "none" or not functions or (choice == "auto" and last.get("role") == "tool"):
        return None
    return functions[0]


def _whole_number(body: dict[str, Any], name: str, default: int | None) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Refused(400, f"{name}: a whole number of at least 1", param=name)
    return value


def _asked(body: dict[str, Any], prompt: list[int], fixed: str | None, limit: int | None, model_tokens: int) -> Asked:
    if body.get("n") not in (None, 1):
        raise Refused(400, "n: this engine gives one answer", param="n")
    room = model_tokens - len(prompt)
    if room < 1 or (limit or 1) > room:
        raise Refused(
            400,
            f"This model's maximum context length is {model_tokens} tokens. However, you requested {limit or 1} output "
            f"tokens and your prompt contains at least {len(prompt)} input tokens.",
            param="input_tokens",
        )
    seed = body.get("seed") or 0
    number = texts.draw(prompt, seed % 2**64 if isinstance(seed, int) else 0)
    if fixed is not None:
        pieces = texts.cut(fixed)
        natural = len(pieces)
    else:
        natural = ANSWER_TOKENS_LEAST + number % (ANSWER_TOKENS_MOST - ANSWER_TOKENS_LEAST)
        if body.get("ignore_eos") and limit is not None:
            natural = limit
        natural = max(natural, _whole_number(body, "min_tokens", 0) or 0)
        pieces = texts.words(number, min(natural, limit or room, room))
    count = min(natural, limit or room, room)
    options = members(body.get("stream_options"))
    return Asked(
        prompt=prompt,
        pieces=pieces[:count],
        reason="length" if (limit is not None and limit <= natural and fixed is None) or count < natural else "stop",
        stream=bool(body.get("stream")),
        usage=bool(options.get("include_usage")),
        usage_each=bool(options.get("continuous_usage_stats")),
        transfer=members(body.get("kv_transfer_params")),
        priority=priority if isinstance(priority := body.get("priority"), int) else 0,
    )
