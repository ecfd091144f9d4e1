"""Benchmark tools for model servers, each with its command and with how to read what it reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from peers.exact_mock import MODEL
from peers.routers import PEERS, Program, below, cpu_s_of, venv_of

INPUT_TOKENS, OUTPUT_TOKENS = 64, 32
LOOK_EVERY_S = 0.05
RUN_S_MAX = 180.0
TOKENIZER = "bench-tokenizer"
WORDS = 30_000


@dataclass(frozen=True)
class Ask:
    """What a tool is to send: at a constant rate, or by so many users who wait."""

    requests: int
    concurrency: int | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Tool:
    name: str
    command: Callable[[int, Ask, Path], list[str]]
    read: Callable[[Path], Mapping[str, float]]
    """ttft_p99 and itl_p99 as it reports them, in milliseconds; what it does not report is left out."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


def exact_mock(**flags: str) -> Program:
    from peers.nginx import free_port

    port = free_port()
    given = [text for name, value in flags.items() for text in (f"--{name.replace('_', '-')}", value)]
    command = [sys.executable, str(PEERS / "exact_mock.py"), str(port), "--tokens", str(OUTPUT_TOKENS), *given]
    program = Program("exact-mock", command, port)
    program.wait_ready()
    return program


# Ours, and the floor


def _ours(port: int, ask: Ask, folder: Path) -> list[str]:
    load = (
        ["--rate", str(ask.rate), "--arrival", "constant"]
        if ask.rate is not None
        else ["--concurrency", str(ask.concurrency)]
    )
    lengths = ["--input-tokens", str(INPUT_TOKENS), "--output-tokens", str(OUTPUT_TOKENS)]
    skerry = str(Path(sys.executable).with_name("skerry"))
    url = ["--url", f"http://127.0.0.1:{port}", "--model", MODEL, "--requests", str(ask.requests)]
    return [skerry, "--quiet", "bench", "run", *url, *load, *lengths, "--out", str(folder)]


def _read_ours(folder: Path) -> Mapping[str, float]:
    metrics = json.loads((folder / "summary.json").read_text())["summary"]["metrics"]
    return {f"{name}_p99": metrics[name]["percentiles"]["p99"] * 1000 for name in ("ttft", "itl", "drift")}


def _plain(port: int, ask: Ask, folder: Path) -> list[str]:
    load = ["--concurrency", str(ask.concurrency)] if ask.rate is None else ["--rate", str(ask.rate)]
    client = [sys.executable, str(PEERS / "plain_client.py"), str(port)]
    return [*client, "--requests", str(ask.requests), *load, str(folder / "out.json")]


def _read_plain(folder: Path) -> Mapping[str, float]:
    found = json.loads((folder / "out.json").read_text())
    return {f"{name}_p99": float(np.percentile(found[f"{name}_s"], 99)) * 1000 for name in ("ttft", "itl")}


# From PyPI


def _tokenizer(python: Path) -> Path:
    """A tokenizer of whole words, for tools that do not go without one: made by the `transformers` they bring."""
    folder = Path("/var/tmp/skerry-bench-peers") / TOKENIZER
    if not (folder / "tokenizer.json").exists():
        made = f"""
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
words = ["[UNK]"] + [chr(97 + n % 26) + str(n) for n in range({WORDS})]
tokenizer = Tokenizer(models.WordLevel({{word: at for at, word in enumerate(words)}}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained({str(folder)!r})
"""
        subprocess.run([str(python), "-c", made], check=True, capture_output=True)
    return folder


def aiperf() -> Tool:
    """Raises Missing."""
    venv = venv_of("aiperf", "aiperf==0.13.0")
    tokenizer = _tokenizer(venv / "bin/python")

    def command(port: int, ask: Ask, folder: Path) -> list[str]:
        (folder / TOKENIZER).symlink_to(tokenizer)
        load = ["--concurrency", str(ask.concurrency)]
        if ask.rate is not None:
            load = ["--request-rate", str(ask.rate), "--arrival-pattern", "constant"]
        lengths = ["--isl", str(INPUT_TOKENS), "--osl", str(OUTPUT_TOKENS)]
        # Its tokenizer's path must be relative: an absolute one is taken for a repository's name.
        about = ["-m", MODEL, "--tokenizer", TOKENIZER, "-u", f"http://127.0.0.1:{port}", "--endpoint-type", "chat"]
        off = ["--ui", "none", "--no-gpu-telemetry", "--no-server-metrics"]
        tool = [str(venv / "bin/aiperf"), "profile", *about, "--streaming", *load, *lengths]
        return [*tool, "--request-count", str(ask.requests), "--output-artifact-dir", "out", *off]

    def read(folder: Path) -> Mapping[str, float]:
        found = json.loads((folder / "out" / "profile_export_aiperf.json").read_text())
        names = {"ttft": "time_to_first_token", "itl": "inter_chunk_latency"}
        return {f"{name}_p99": found[theirs]["p99"] for name, theirs in names.items() if theirs in found}

    return Tool("aiperf", command, read)


def guidellm() -> Tool:
    """Raises Missing. It brings torch, 5 GB."""
    venv = venv_of("guidellm", "guidellm==0.8.1")
    tokenizer = _tokenizer(venv / "bin/python")

    def command(port: int, ask: Ask, folder: Path) -> list[str]:
        rate = f"kind=concurrent,streams={ask.concurrency}"
        if ask.rate is not None:
            rate = f"kind=constant,rate={ask.rate}"
        backend = f"kind=openai_http,target=http://127.0.0.1:{port},model={MODEL}"
        data = f"kind=synthetic_text,prompt_tokens={INPUT_TOKENS},output_tokens={OUTPUT_TOKENS}"
        tool = [str(venv / "bin/guidellm"), "run", "--backend", backend, "--data", data, "--profile", rate]
        tool += ["--tokenizer", f"kind=huggingface_auto,model={tokenizer}", "--disable-console-interactive"]
        tool += ["--constraint", f"kind=max_requests,count={ask.requests}"]
        return [*tool, "--output", f"kind=json,path={folder / 'out.json'}"]

    def read(folder: Path) -> Mapping[str, float]:
        metrics = json.loads((folder / "out.json").read_text())["benchmarks"][0]["metrics"]
        return {"ttft_p99": metrics["time_to_first_token_ms"]["successful"]["percentiles"]["p99"]}

    return Tool("guidellm", command, read, {"HF_HUB_OFFLINE": "1"})


OURS = Tool("ours", _ours, _read_ours)
PLAIN = Tool("plain client", _plain, _read_plain)
PEER_TOOLS: Mapping[str, Callable[[], Tool]] = {"aiperf": aiperf, "guidellm": guidellm}


class Favoured:
    """A control group whose processes go before all others of the machine, so that what else it does disturbs no tool:
    `command` runs in it. Where control groups are not of version 1, commands run as they are."""

    SHARES = 262_144

    def __init__(self) -> None:
        self._folder = Path(f"/sys/fs/cgroup/cpu/skerry-bench-tool-{os.getpid()}")
        try:
            self._folder.mkdir()
            (self._folder / "cpu.shares").write_text(str(self.SHARES))
        except OSError:
            self._folder = Path()

    def command(self, command: Sequence[str]) -> list[str]:
        if self._folder == Path():
            return list(command)
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._folder / "cgroup.procs"), *command]

    def close(self) -> None:
        if self._folder != Path():
            self._folder.rmdir()


class Look:
    """At a program and what it started, while it runs: CPU seconds by moment, and the most memory."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.moments: list[tuple[float, float]] = []
        self.peak_mib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        gone: dict[int, float] = {}
        while not self._stop.wait(LOOK_EVERY_S):
            pids = (self._pid, *below(self._pid))
            for pid in pids:
                gone[pid] = max(gone.get(pid, 0.0), cpu_s_of(pid))
            self.moments.append((time.monotonic(), sum(gone.values())))
            self.peak_mib = max(self.peak_mib, sum(map(_resident_mib, pids)))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def cpu_s(self, since_s: float, until_s: float) -> float:
        if not self.moments:
            return 0.0
        moments, spent = zip(*self.moments, strict=True)
        first, last = np.interp([since_s, until_s], moments, spent)
        return float(last - first)


def _resident_mib(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1024**2
    except (OSError, IndexError):
        return 0.0
