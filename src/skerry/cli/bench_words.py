"""What other tools call what is asked here, so that a command line of theirs needs little change.

vLLM's `bench serve`, AIPerf, guidellm and genai-bench. Help shows our names alone; `bench_others.py` has what differs
in more than its name.
"""

from __future__ import annotations

import re
from typing import Any

from skerry.errors import Invalid

NAMES = {
    "url": "base-url target api-base",
    "model": "api-model-name served-model-name",
    "api": "endpoint-type task backend endpoint",
    "tokenizer": "processor model-tokenizer",
    "header": "headers",
    "extra-body": "additional-request-params",
    "socket": "unix-socket",
    "metrics-url": "server-metrics",
    "input-tokens": "isl random-input-len synthetic-input-tokens-mean prompt-input-tokens-mean",
    "output-tokens": "osl random-output-len output-tokens-mean prompt-output-tokens-mean",
    "prefix-tokens": "random-prefix-len prompt-prefix-length shared-system-prompt-length",
    "prefix-groups": "num-prefix-prompts prompt-prefix-pool-size",
    "documents": "rankings-passages-mean",
    "turns": "conversation-turn-mean session-turns-mean",
    "data": "dataset-path input-file",
    "dataset": "dataset-name custom-dataset-type",
    "rate": "request-rate",
    "arrival": "arrival-pattern",
    "burstiness": "arrival-smoothness",
    "concurrency": "max-concurrency num-concurrency",
    "duration": "benchmark-duration max-seconds",
    "requests": "num-prompts request-count num-requests max-requests max-requests-per-run",
    "trace": "fixed-schedule",
    "trace-speed": "fixed-schedule-speedup",
    "warmup-requests": "num-warmups warmup-request-count num-warmup-requests",
    "timeout": "request-timeout-seconds",
    "workers": "num-workers workers-max",
    "seed": "random-seed",
    "slo": "goodput",
    "out": "result-dir output-artifact-dir artifact-dir output-path experiment-base-dir",
    "stream": "streaming",
    # Values of --api and --arrival
    "chat": "openai-chat chat_completions text-to-text image-text-to-text /v1/chat/completions",
    "completions": "openai vllm /v1/completions",
    "embeddings": "openai-embeddings text-to-embeddings /v1/embeddings",
    "rerank": "rankings text-to-rerank vllm-rerank /v1/rerank",
    "transcriptions": "openai-audio",
}
OURS = {theirs: ours for ours, several in NAMES.items() for theirs in several.split()}
DATASETS = {
    "random": None,
    "synthetic": None,
    "custom": "jsonl",
    "single_turn": "jsonl",
    "random_pool": "jsonl",
    "sharegpt": "sharegpt",
    "hf": "hf",
    "mooncake_trace": "mooncake",
    "bailian_trace": "bailian",
    "burstgpt": "azure",
    "burst_gpt_trace": "azure",
}
"""What vLLM and AIPerf call kinds of data, in ours. None: it is made up."""
_SCENARIO = re.compile(r"D\(\d+,\d+\)|([NU]\([0-9.,]+\))/([0-9.,()]+)")


def normalized(word: str) -> str:
    """For click: of an option's name without its dashes, and of a choice."""
    return OURS.get(word, word)


CONTEXT = {"token_normalize_func": normalized}


def scenario(text: str) -> dict[str, str]:
    """genai-bench's `D(64,32)`, `N(480,240)/(300,150)`, `U(50,100)/(200,250)`, as lengths of ours. Raises Invalid."""
    whole = text.replace(" ", "")
    found = _SCENARIO.fullmatch(whole)
    if found is None:
        allowed = "D(in,out), N(mean,deviation)/(mean,deviation) or U(least,most)/(least,most)"
        raise Invalid(f"traffic-scenario: {text[:60]!r} is not allowed; give {allowed}", field="traffic-scenario")
    if found[1] is None:
        inputs, outputs = whole[2:-1].split(",")
        return {"input_tokens": inputs, "output_tokens": outputs}
    return {"input_tokens": found[1], "output_tokens": f"{found[1][0]}{found[2]}"}


def lengths(text: str) -> dict[str, str] | None:
    """guidellm's `prompt_tokens=256,output_tokens=128`. None: it is no such thing."""
    pairs = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if "prompt_tokens" not in pairs:
        return None
    found: dict[str, str] = {}
    for ours, theirs in (("input_tokens", "prompt_tokens"), ("output_tokens", "output_tokens")):
        if theirs in pairs:
            deviation = pairs.get(f"{theirs}_stdev")
            found[ours] = pairs[theirs] if deviation is None else f"N({pairs[theirs]},{deviation})"
    return found


def load(given: dict[str, Any]) -> dict[str, Any]:
    """What several options mean together elsewhere: a rate without end is as many users as there are requests, or as
    may be; users beside a rate are how many may be under way; a burstiness alone is gamma's."""
    found = dict(given)
    if found.get("rate") == float("inf"):
        del found["rate"]
        found.setdefault("concurrency", found.get("requests"))
        if found["concurrency"] is None:
            raise Invalid("rate: inf needs --concurrency or --requests", field="rate")
    elif "rate" in found and "concurrency" in found:
        found["in_flight_max"] = found.pop("concurrency")
    if "burstiness" in found:
        found.setdefault("arrival", "gamma")
    return found
