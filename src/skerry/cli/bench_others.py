"""Command lines of other tools retold, where more than a name differs: `kind=…` words of guidellm since 0.7, hosts and
ports, deviations beside means, and what only says how another tool is to show its results.

`bench_words.py` has what differs in its name alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import click

from skerry.errors import Invalid

Fields = Mapping[str, str]

NO_MATTER: Mapping[str, int] = {
    # vllm bench serve
    "--save-result": 0, "--save-detailed": 0, "--append-result": 0, "--disable-tqdm": 0, "--trust-remote-code": 0,
    "--percentile-metrics": 1, "--metric-percentiles": 1, "--label": 1, "--result-filename": 1, "--metadata": 1,
    "--ready-check-timeout-sec": 1,
    # AIPerf
    "--ui": 1, "--ui-type": 1, "--no-gpu-telemetry": 0, "--no-server-metrics": 0, "--tokenizer-trust-remote-code": 0,
    "--use-server-token-count": 0,
    # guidellm
    "--disable-console": 0, "--disable-console-interactive": 0, "--disable-progress": 0, "--metrics": 1,
    # genai-bench
    "--api-backend": 1, "--server-engine": 1, "--server-gpu-type": 1, "--server-gpu-count": 1, "--server-version": 1,
    "--log-dir": 1, "--metrics-time-unit": 1,
}  # fmt: skip
"""And how many words follow. Here all percentiles are told and all is kept; progress is shown where a person looks."""
SAMPLING = ("--temperature", "--top-p", "--top-k", "--min-p", "--frequency-penalty", "--presence-penalty")
DEVIATIONS: Mapping[str, str] = {
    "--isl-stddev": "--isl", "--synthetic-input-tokens-stddev": "--isl", "--prompt-input-tokens-stddev": "--isl",
    "--osl-stddev": "--osl", "--output-tokens-stddev": "--osl", "--prompt-output-tokens-stddev": "--osl",
}  # fmt: skip
LENGTHS: Mapping[str, str] = {
    "--isl": "--isl", "--synthetic-input-tokens-mean": "--isl", "--prompt-input-tokens-mean": "--isl",
    "--random-input-len": "--isl",
    "--osl": "--osl", "--output-tokens-mean": "--osl", "--prompt-output-tokens-mean": "--osl",
    "--random-output-len": "--osl",
}  # fmt: skip
OTHERS = ("--random-range-ratio", "--host", "--port")
ELSEWHERE: Mapping[str, str] = {
    "--ramp-up-strategy": "give `load: {steps: [{rate: 1, to: 50, duration: 1m}]}` in a file for --plan",
    "--public-dataset": "give --data FILE; nothing is downloaded",
    "--user-centric-rate": "give --turns with --think, and --rate for the conversations that begin a second",
    "--rate-type": "give --rate with --arrival, --concurrency, or `skerry bench sweep`",
}


class Retelling(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, retold(args))


def retold(arguments: Sequence[str]) -> list[str]:
    """Raises Invalid where something of another tool is done otherwise here."""
    words = iter([part for each in arguments for part in _split(each)])
    found: list[str] = []
    body, lengths = dict[str, Any](), dict[str, str]()
    spread, server = dict[str, str](), dict[str, str]()
    for word in words:
        if word in ELSEWHERE:
            raise Invalid(f"{word.strip('-')}: here, {ELSEWHERE[word]}", field=word.strip("-"))
        if word in NO_MATTER:
            for _ in range(NO_MATTER[word]):
                next(words, "")
        elif word in SAMPLING:
            body[word.strip("-").replace("-", "_")] = _number(word, next(words, ""))
        elif word in LENGTHS:
            lengths[LENGTHS[word]] = next(words, "")
        elif word in DEVIATIONS:
            spread[DEVIATIONS[word]] = next(words, "")
        elif word in OTHERS:
            server[word] = next(words, "")
        elif word in KINDS:
            found += _kind(word, next(words, ""))
        else:
            found.append(word)
    return [*found, *_address(server), *_lengths(lengths, spread, server.get("--random-range-ratio")), *_extra(body)]


def _split(word: str) -> list[str]:
    """`--name=value`, where the name is one of those that are retold."""
    name, equals, value = word.partition("=")
    known = {*ELSEWHERE, *NO_MATTER, *SAMPLING, *LENGTHS, *DEVIATIONS, *KINDS, *OTHERS}
    return [name, value] if equals and name in known else [word]


def _number(word: str, value: str) -> float:
    try:
        return int(value) if value.isdigit() else float(value)
    except ValueError:
        raise Invalid(f"{word.strip('-')}: {value[:60]!r} is no number", field=word.strip("-")) from None


def _address(server: Fields) -> list[str]:
    if "--host" not in server and "--port" not in server:
        return []
    return ["--url", f"http://{server.get('--host', '127.0.0.1')}:{server.get('--port', '8000')}"]


def _lengths(means: Fields, spread: Fields, ratio: str | None) -> list[str]:
    found: list[str] = []
    for name, mean in means.items():
        value = mean
        if name in spread:
            value = f"N({mean},{spread[name]})"
        elif ratio is not None and (share := _number("--random-range-ratio", ratio)):
            middle = _number(name, mean)
            value = f"U({round(middle * (1 - share))},{round(middle * (1 + share))})"
        found += [name, value]
    return found


def _extra(body: Mapping[str, Any]) -> list[str]:
    return ["--extra-body", json.dumps(body)] if body else []


# guidellm since 0.7


def fields_of(text: str) -> dict[str, str] | None:
    """`kind=constant,rate=5`, or the same as JSON. None: it is neither."""
    if text.startswith("{"):
        try:
            body = json.loads(text)
        except ValueError:
            return None
        return {str(name): str(value) for name, value in body.items()} if "kind" in body else None
    pairs = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    return pairs if "kind" in pairs else None


def _kind(word: str, text: str) -> list[str]:
    fields = fields_of(text)
    return [word, text] if fields is None else KINDS[word](fields)


def _backend(fields: Fields) -> list[str]:
    names = {"target": "--url", "model": "--model", "api_key": "--api-key", "request_format": "--api"}
    found = [part for theirs, ours in names.items() if theirs in fields for part in (ours, fields[theirs])]
    return found + (["--insecure"] if fields.get("verify", "").lower() == "false" else [])


def _profile(fields: Fields) -> list[str]:
    kind = fields["kind"]
    more = ["--warmup", fields["warmup"]] if "warmup" in fields else []
    more += ["--cooldown", fields["cooldown"]] if "cooldown" in fields else []
    more += ["--ramp", fields["rampup_duration"]] if "rampup_duration" in fields else []
    if kind == "synchronous":
        return ["--concurrency", "1", *more]
    if kind in ("concurrent", "throughput"):
        users = fields.get("streams", fields.get("max_concurrency"))
        return [*(["--rate", "inf"] if users is None else ["--concurrency", users]), *more]
    if kind in ("constant", "async", "poisson") and "rate" in fields:
        return ["--rate", fields["rate"], "--arrival", "poisson" if kind == "poisson" else "constant", *more]
    known = "synchronous, concurrent, throughput, constant and poisson; a sweep is `skerry bench sweep`"
    raise Invalid(f"profile: {kind[:60]!r} is not known here; known are {known}", field="profile")


def _constraint(fields: Fields) -> list[str]:
    if fields["kind"] == "max_requests" and "count" in fields:
        return ["--requests", fields["count"]]
    if fields["kind"] == "max_duration" and "seconds" in fields:
        return ["--duration", fields["seconds"]]
    known = "max_requests and max_duration; what is to fail a run is said by --fail-if"
    raise Invalid(f"constraint: {fields['kind'][:60]!r} is not known here; known are {known}", field="constraint")


def _data(fields: Fields) -> list[str]:
    if "prompt_tokens" in fields:
        return ["--data", ",".join(f"{name}={value}" for name, value in fields.items())]
    path = fields.get("path", fields.get("source", ""))
    return ["--data", f"hf:{path}" if fields["kind"] == "huggingface" else path]


def _output(fields: Fields) -> list[str]:
    """They name a file of each kind, we a folder for all."""
    return ["--out", str(PurePath(fields["path"]).with_suffix(""))] if "path" in fields else []


def _seed(fields: Fields) -> list[str]:
    return ["--seed", fields["value"]] if "value" in fields else []


def _tokenizer(fields: Fields) -> list[str]:
    return ["--tokenizer", fields["model"]] if "model" in fields else []


KINDS: Mapping[str, Callable[[Fields], list[str]]] = {
    "--backend": _backend,
    "--profile": _profile,
    "--constraint": _constraint,
    "--data": _data,
    "--output": _output,
    "--seed": _seed,
    "--tokenizer": _tokenizer,
}
