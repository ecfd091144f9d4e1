"""What every command of `skerry bench` is told alike: where to, with what data, under what load; and the plan of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from skerry.cli import bench_words
from skerry.cli.bench_target import headers_of, reached
from skerry.cli.bench_words import DATASETS
from skerry.cli.invocation import Invocation
from skerry.cli.options import DURATION, completing, sought
from skerry.errors import Invalid

if TYPE_CHECKING:
    from skerry.bench.plan import Plan

F = TypeVar("F", bound=Callable[..., Any])
DATA = ("input_tokens", "output_tokens", "turns", "think", "prefix_tokens", "prefix_groups")
KINDS = ("jsonl", "csv", "parquet", "arrow", "hf", "sharegpt", "log", "mooncake", "azure", "bailian")
SAME = (
    "url",
    "service",
    "engine",
    "socket",
    "ca",
    "model",
    "api",
    "tokenizer",
    "warmup",
    "warmup_requests",
    "cooldown",
    "timeout",
    "workers",
    "seed",
    "slo",
    "metrics_url",
    "cost_per_hour",
    "records",
)
LOAD = ("rate", "arrival", "burstiness", "concurrency", "ramp", "duration", "requests", "in_flight_max")

_TARGET = (
    click.option("--url", "-u", metavar="URL", help="Of the server, such as http://127.0.0.1:8000."),
    click.option(
        "--service",
        metavar="NAME",
        callback=sought("service"),
        shell_complete=completing("service"),
        help="One of Skerry's, in the place of --url: through the gateway, with the key of this context.",
    ),
    click.option("--engine", metavar="MODULE:OBJECT", help="Called in this process, in the place of a server."),
    click.option("--socket", metavar="PATH", type=click.Path(), help="Unix socket to connect to."),
    click.option("--model", "-m", metavar="NAME", help="What requests say as model [the service's name]."),
    click.option(
        "--api",
        type=click.Choice(["chat", "completions", "responses", "embeddings", "rerank", "transcriptions", "speech"]),
        default="chat",
        help="What is asked [chat].",
    ),
    click.option("--stream/--no-stream", default=True, help="Whether answers come in pieces [--stream]."),
    click.option("--api-key", metavar="KEY", help="Others of this machine see it; the variables are better."),
    click.option("--header", "-H", "headers", multiple=True, metavar="NAME:VALUE", help="Sent with each. Repeat."),
    click.option("--extra-body", metavar="JSON", help='Merged into each request: {"temperature": 0}.'),
    click.option("--ca", metavar="FILE", type=click.Path(), help="Certificates of authorities to trust, as PEM."),
    click.option("--insecure", is_flag=True, help="Take any certificate."),
)
_DATA = (
    click.option("--sound", metavar="N", help="Seconds of sound in each turn, for transcriptions: 10, U(5,30)."),
    click.option("--documents", metavar="N", help="To put in order, for rerank, each as long as the query [1]."),
    click.option(
        "--input-tokens",
        metavar="N",
        default="256",
        help="Each turn: 64, U(32,256), N(mean,dev) [256].",
    ),
    click.option("--output-tokens", metavar="N", default="128", help="Asked for, likewise [128]."),
    click.option("--turns", metavar="N", default="1", help="Of each conversation, likewise [1]."),
    click.option("--think", metavar="TIME", type=DURATION, default=0.0, help="Mean time between two turns [0s]."),
    click.option(
        "--prefix-tokens",
        metavar="N",
        type=int,
        default=0,
        help="Of a system prompt that many share [0].",
    ),
    click.option("--prefix-groups", metavar="N", type=int, default=1, help="So many different ones [1]."),
    click.option("--image", "images", metavar="WxH", multiple=True, help="A picture in each turn, 512x512. Repeat."),
    click.option(
        "--data",
        metavar="[KIND:]FILE",
        help="Requests of a file or folder: jsonl, csv, parquet, arrow, hf, sharegpt, log, mooncake, azure or bailian.",
    ),
    click.option("--data-repeat", is_flag=True, help="A file that ends begins anew, except with --trace."),
    click.option("--prompt-column", metavar="NAME", help="Of the file's rows [prompt, text, question and the like]."),
    click.option("--tokenizer", metavar="PATH", help="tokenizer.json, or a model's name on the hub, for exact counts."),
    click.option("--dataset", type=click.Choice(list(DATASETS)), hidden=True),
    click.option("--traffic-scenario", metavar="S", help="Of genai-bench, for both lengths: D(64,32)."),
    click.option(
        "--ignore-eos/--no-ignore-eos", default=True, help="Whether answers go on to their length [--ignore-eos]."
    ),
)
_LOAD = (
    click.option("--rate", metavar="N", type=float, help="Begin N a second, whatever comes back."),
    click.option(
        "--arrival",
        type=click.Choice(["poisson", "constant", "gamma"]),
        help="How they are spread, with --rate [poisson].",
    ),
    click.option(
        "--burstiness", metavar="X", type=float, help="With gamma: below 1 burstier than Poisson, above calmer."
    ),
    click.option(
        "--concurrency",
        metavar="N",
        type=int,
        help="N users who each wait for the answer.",
    ),
    click.option("--ramp", metavar="TIME", type=DURATION, help="Users begin one by one over so long a time."),
    click.option("--duration", metavar="TIME", type=DURATION, help="Begin none after so long."),
    click.option("--max-time-per-run", type=float, hidden=True),
    click.option("--requests", "-n", metavar="N", type=int, help="Begin no more than N."),
    click.option("--in-flight-max", metavar="N", type=int, help="With --rate: send no more than N at once."),
    click.option("--trace", is_flag=True, help="Send at the times that the file has."),
    click.option("--trace-speed", metavar="X", type=float, default=1.0, help="2: twice as quick [1]."),
)
_HOW = (
    click.option("--metrics-url", metavar="URL", help="Of the server's own metrics, read each second beside."),
    click.option("--cost-per-hour", metavar="X", type=float, help="Of all that serves: tells what tokens cost."),
    click.option("--warmup", metavar="TIME", type=DURATION, default=0.0, help="Not counted, at the beginning [0s]."),
    click.option("--warmup-requests", metavar="N", type=int, help="Nor the first N [0]."),
    click.option("--cooldown", metavar="TIME", type=DURATION, default=0.0, help="Nor at the end [0s]."),
    click.option("--timeout", metavar="TIME", type=DURATION, default=600.0, help="For each answer [10m]."),
    click.option("--records", type=click.Choice(["jsonl", "parquet"]), help="How --out keeps each request [jsonl]."),
    click.option("--workers", metavar="N", type=int, default=1, help="Processes that send [1]."),
    click.option("--seed", metavar="N", type=int, default=0, help="Of what is drawn by lot [0]."),
)


def _all(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    def wrap(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return wrap


target_options = _all((*_TARGET, *_DATA, *_HOW))
load_options = _all(_LOAD)


def said(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def body_of(invocation: Invocation, given: dict[str, Any], load: dict[str, Any] | None = None) -> dict[str, Any]:
    """Of a plan. `load`: in the place of what options say. Raises Invalid."""
    data: dict[str, Any] = {name: given[name] for name in DATA}
    if given["images"]:
        data["image_sizes"] = list(given["images"])
    for name in ("sound", "documents"):
        if given[name] is not None:
            data[name] = given[name]
    if given["traffic_scenario"] is not None:
        data |= bench_words.scenario(given["traffic_scenario"])
    if given["data"] is not None:
        data |= bench_words.lengths(given["data"]) or file_of(given["data"], DATASETS.get(given["dataset"] or ""))
    if given["data_repeat"]:
        data["repeat"] = True
    if given["prompt_column"] is not None:
        data["prompt_column"] = given["prompt_column"]
    if load is None:
        if given["max_time_per_run"] is not None:  # genai-bench's, in minutes
            given["duration"] = given["max_time_per_run"] * 60
        load = bench_words.load({name: given[name] for name in LOAD if given[name] is not None})
        if given["trace"]:
            load |= {"trace": True, "scale": given["trace_speed"]}
    body = {
        **{name: given[name] for name in SAME if given.get(name) is not None},
        "headers": headers_of(given["headers"], given["api_key"]),
        "stream": given["stream"],
        "verify": not given["insecure"],
        "ignore_eos": given["ignore_eos"],
        "data": [data],
        "load": load,
    }
    if given["extra_body"] is not None:
        body["extra"] = _object(given["extra_body"])
    return reached(invocation, body)


def _object(text: str) -> dict[str, Any]:
    """Raises Invalid."""
    import json

    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Invalid(f"extra-body: {text[:60]!r} is not allowed; give a JSON object", field="extra-body")
    return cast("dict[str, Any]", found)


def overrides(context: click.Context, given: dict[str, Any]) -> dict[str, Any]:
    """What goes before a file of plans: what was said on the command line. Raises Invalid."""
    found = {name: given[name] for name in SAME if said(context, name)}
    if given["headers"] or given["api_key"]:
        found["headers"] = headers_of(given["headers"], given["api_key"])
    if given["extra_body"] is not None:
        found["extra"] = _object(given["extra_body"])
    return found


def plans_of(bodies: Sequence[dict[str, Any]]) -> list[Plan]:
    """Raises Invalid."""
    from skerry.bench.plan import Plan
    from skerry.bench.reading import read

    for body in bodies:
        if not body.get("url") and not body.get("engine"):
            raise Invalid("url: give --url, --service or --engine", field="url")
        if "model" not in body:
            raise Invalid("model: give --model", field="model")
    return read(Plan, bodies)


def file_of(text: str, named: str | None = None) -> dict[str, Any]:
    """`KIND:FILE`, or a file whose ending says what it is, where another tool's name of its kind does not."""
    kind, colon, path = text.partition(":")
    if colon and kind in KINDS:
        return {"kind": kind, "path": path}
    if named is not None:
        return {"kind": named, "path": text}
    if Path(text).is_dir():
        return {"kind": "hf", "path": text}
    suffix = Path(text).suffix
    known = {".json": "sharegpt", **{f".{kind}": kind for kind in ("jsonl", "csv", "parquet", "arrow", "log")}}
    if suffix not in known:
        raise Invalid(f"data: {text[:200]!r}: which kind? give KIND:FILE; known are {', '.join(KINDS)}", field="data")
    return {"kind": known[suffix], "path": text}
