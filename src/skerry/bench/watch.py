"""`python -m skerry.bench.watch [URL]`: what the server says of itself while it is measured, JSON each second.

In a process of its own, so that reading it delays no moment that a client takes down. Names are those of vLLM, SGLang
and llm-d's model servers, in Prometheus' text format; GPUs are those of this machine, as nvidia-smi tells.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from time import monotonic, sleep
from types import TracebackType
from typing import TYPE_CHECKING, TextIO
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from skerry.bench.plan import Plan

EVERY_S = 1.0
ANSWER_S_MAX = 5.0
ANSWER_BYTES_MAX = 16 * 1024**2
SERIES = {
    "running": ("vllm:num_requests_running", "sglang:num_running_reqs"),
    "waiting": ("vllm:num_requests_waiting", "sglang:num_queue_reqs"),
    "kv_use": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"),
}
HERE = ("127.0.0.1", "::1", "localhost")
GPU = ("gpu_use", "gpu_memory_mib", "gpu_watts")
_LINE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{[^}]*\})?\s+([^\s]+)")

Sample = dict[str, float]


def read_metrics(text: str) -> Sample:
    """The known ones; of several engines queues are added up, and cache use is that of the fullest."""
    found: dict[str, list[float]] = {}
    names = {theirs: ours for ours, several in SERIES.items() for theirs in several}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None and match[1] in names:
            found.setdefault(names[match[1]], []).append(float(match[2]))
    return {name: max(values) if name == "kv_use" else sum(values) for name, values in found.items()}


def read_gpus(text: str) -> Sample:
    """Of all: mean use, and sums of memory and of watts."""
    rows = [[float(cell) for cell in line.split(",")] for line in text.splitlines() if re.match(r"^[0-9., ]+$", line)]
    if not rows:
        return {}
    use, memory, watts = zip(*rows, strict=True)
    return dict(zip(GPU, (sum(use) / len(use) / 100, sum(memory), sum(watts)), strict=True))


def _gpus() -> Sample:
    if (program := shutil.which("nvidia-smi")) is None:
        return {}
    query = "--query-gpu=utilization.gpu,memory.used,power.draw"
    try:
        told = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=ANSWER_S_MAX
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return read_gpus(told.stdout)


def _asked(url: str) -> Sample:
    import urllib.request  # 2 MiB, which the process that measures does not need

    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S_MAX) as answer:
            return read_metrics(answer.read(ANSWER_BYTES_MAX).decode(errors="replace"))
    except (OSError, ValueError):
        return {}


def watch(url: str | None, out: TextIO) -> None:
    """Until it is killed. What cannot be read now is left out."""
    began_s = monotonic()
    while True:
        sample: Sample = {"at_s": round(monotonic() - began_s, 3)}
        if url is not None:
            sample |= _asked(url)
        sample |= _gpus()
        out.write(json.dumps(sample) + "\n")
        out.flush()
        sleep(EVERY_S)


def is_here(plan: Plan) -> bool:
    """Whether what is measured runs on this machine, so that its GPUs are those that work."""
    host = urlsplit(plan.url).hostname or ""
    return plan.engine is not None or plan.socket is not None or host in HERE


class Watch:
    """`with Watch(url) as watch:` and then `watch.samples`; nothing where there is no URL, and no GPU to look at."""

    def __init__(self, url: str | None, *, gpus: bool = False) -> None:
        self._url = url
        self._wanted = url is not None or (gpus and shutil.which("nvidia-smi") is not None)
        self._process: subprocess.Popen[str] | None = None
        self.samples: list[Sample] = []

    def __enter__(self) -> Watch:
        if self._wanted:
            command = [sys.executable, "-m", "skerry.bench.watch", *([self._url] if self._url else [])]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            told, _ = self._process.communicate()
            self.samples = [json.loads(line) for line in told.splitlines() if line.endswith("}")]


def summary(samples: Sequence[Sample]) -> dict[str, dict[str, float] | float]:
    """Mean and maximum of each; energy in joules where there are watts."""
    names = dict.fromkeys(name for sample in samples for name in sample if name != "at_s")
    spreads = {name: _spread(sample[name] for sample in samples if name in sample) for name in names}
    found: dict[str, dict[str, float] | float] = dict(spreads)
    if "gpu_watts" in spreads and len(samples) > 1:
        found["gpu_joules"] = spreads["gpu_watts"]["mean"] * (samples[-1]["at_s"] - samples[0]["at_s"])
    return found


def _spread(values: Iterable[float]) -> dict[str, float]:
    every = list(values)
    return {"mean": sum(every) / len(every), "max": max(every)}


if __name__ == "__main__":
    watch(sys.argv[1] if len(sys.argv) > 1 else None, sys.stdout)
