"""llama.cpp's own HTTP server out of the Python package `xllamacpp`, with the options of `llama-server`.

For images that have Python and that package instead of llama.cpp's program. Runs in replicas, where nothing but the
standard library and `xllamacpp` is. A server of llama.cpp's library written by us was refused: this one batches, counts
and answers as the program does, as it is the same code.
"""

# The package is there in replicas only.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLACES_MAX = 128
"""Devices that a tensor may be split over, all of which have to be said."""
LAYERS = {"auto": -1, "all": -2}
TOGETHER = 4
"""Requests at once where nobody says: llama-server's own."""

Setting = Callable[[Any, Any, str], None]
"""(package, parameters, value)"""


def _to(path: str, kind: Callable[[str], Any] = str) -> Setting:
    *above, last = path.split(".")

    def setting(_: Any, params: Any, value: str) -> None:
        for name in above:
            params = getattr(params, name)
        setattr(params, last, kind(value))

    return setting


def _one_of(path: str, enum: str, prefix: str) -> Setting:
    def setting(package: Any, params: Any, value: str) -> None:
        word = prefix + value.upper().replace("-", "_")
        _to(path, lambda _: getattr(package, enum)[word])(package, params, value)

    return setting


def _sampled(name: str, bit: str, kind: Callable[[str], Any]) -> Setting:
    """Said by us, so that what the model's file says of it does not count."""

    def setting(package: Any, params: Any, value: str) -> None:
        setattr(params.sampling, name, kind(value))
        known = package.common_params_sampling_config[f"COMMON_PARAMS_SAMPLING_CONFIG_{bit}"].value
        params.sampling.user_sampling_config |= known

    return setting


def _flash(package: Any, params: Any, value: str) -> None:
    word = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}[value]
    params.flash_attn_type = package.llama_flash_attn_type[f"LLAMA_FLASH_ATTN_TYPE_{word}"]


def _split(_: Any, params: Any, value: str) -> None:
    shares = [float(share) for share in value.replace("/", ",").split(",")]
    params.tensor_split = (shares + [0.0] * PLACES_MAX)[:PLACES_MAX]


def _ranking(package: Any, params: Any, _: str) -> None:
    params.embedding = True
    params.pooling_type = package.llama_pooling_type.LLAMA_POOLING_TYPE_RANK


SETTINGS: dict[str, Setting] = {
    "model": _to("model.path"),
    "alias": _to("model_alias", lambda names: set(names.split(","))),
    "host": _to("hostnames", lambda host: [host]),
    "port": _to("port", int),
    "ctx-size": _to("n_ctx", int),
    "parallel": _to("n_parallel", int),
    "batch-size": _to("n_batch", int),
    "ubatch-size": _to("n_ubatch", int),
    "threads": _to("cpuparams.n_threads", int),
    "threads-batch": _to("cpuparams_batch.n_threads", int),
    "cache-reuse": _to("n_cache_reuse", int),
    "n-predict": _to("n_predict", int),
    "n-gpu-layers": _to("n_gpu_layers", lambda count: LAYERS[count] if count in LAYERS else int(count)),
    "split-mode": _one_of("split_mode", "llama_split_mode", "LLAMA_SPLIT_MODE_"),
    "tensor-split": _split,
    "main-gpu": _to("main_gpu", int),
    "flash-attn": _flash,
    "cache-type-k": _one_of("cache_type_k", "ggml_type", "GGML_TYPE_"),
    "cache-type-v": _one_of("cache_type_v", "ggml_type", "GGML_TYPE_"),
    "numa": _one_of("numa", "ggml_numa_strategy", "GGML_NUMA_STRATEGY_"),
    "mmproj": _to("mmproj.path"),
    "model-draft": _to("speculative.draft.mparams.path"),
    "rope-scaling": _one_of("rope_scaling_type", "llama_rope_scaling_type", "LLAMA_ROPE_SCALING_TYPE_"),
    "rope-scale": _to("rope_freq_scale", lambda factor: 1 / float(factor)),
    "chat-template": _to("chat_template"),
    "chat-template-file": _to("chat_template", lambda path: Path(path).read_text()),
    "reasoning-format": _one_of("reasoning_format", "common_reasoning_format", "COMMON_REASONING_FORMAT_"),
    "pooling": _one_of("pooling_type", "llama_pooling_type", "LLAMA_POOLING_TYPE_"),
    "temp": _sampled("temp", "TEMP", float),
    "top-k": _sampled("top_k", "TOP_K", int),
    "top-p": _sampled("top_p", "TOP_P", float),
    "min-p": _sampled("min_p", "MIN_P", float),
    "repeat-penalty": _sampled("penalty_repeat", "PENALTY_REPEAT", float),
    "seed": _to("sampling.seed", lambda seed: int(seed) & 0xFFFFFFFF),
}
SWITCHES: dict[str, Setting] = {
    "metrics": _to("endpoint_metrics", bool),
    "cont-batching": _to("cont_batching", bool),
    "jinja": _to("use_jinja", bool),
    "warmup": _to("warmup", bool),
    "embeddings": _to("embedding", bool),
    "reranking": _ranking,
}
"""`--NAME`, or `--no-NAME`: an empty value."""


def parse(words: list[str] | None = None) -> dict[str, str]:
    parser = argparse.ArgumentParser(prog="llama-server", argument_default=argparse.SUPPRESS, allow_abbrev=False)
    for name in SETTINGS:
        parser.add_argument(f"--{name}", required=name == "model")
    for name in SWITCHES:
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    given = vars(parser.parse_args(words))
    return {name.replace("_", "-"): _text(value) for name, value in given.items()}


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else "yes" if value else ""


def serve(given: dict[str, str]) -> None:
    import xllamacpp  # imported here: what is above is tested without it

    params = xllamacpp.CommonParams()
    params.n_parallel, params.kv_unified = TOGETHER, "parallel" not in given
    for name, value in given.items():
        if name in SETTINGS:
            SETTINGS[name](xllamacpp, params, value)
        elif value or name != "reranking":
            SWITCHES[name](xllamacpp, params, value)
    ends = {signal.SIGTERM, signal.SIGINT}
    # Before its threads are there, so that none of them takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    server = xllamacpp.Server(params)
    print(f"llama.cpp listens at {server.listening_address}", flush=True)
    signal.sigwait(ends)


if __name__ == "__main__":
    serve(parse())
