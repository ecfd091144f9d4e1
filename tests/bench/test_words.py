"""Command lines as users of other tools write them, through the command itself: what is sent, and how it ends."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from skerry.cli.bench import bench
from skerry.cli.bench_others import retold
from skerry.cli.bench_words import lengths, load, scenario
from skerry.cli.invocation import Invocation
from skerry.errors import Invalid
from tests.bench.server import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def skerry(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    """Exit code, and what it printed as JSON."""
    code = bench.main([*shlex.split(line), "--json"], obj=Invocation({}), standalone_mode=False)
    return code or 0, json.loads(capsys.readouterr().out or "null")


THEIRS = {
    "vllm": "--backend openai-chat --base-url {url} --endpoint /v1/chat/completions --model m --dataset-name random "
    "--random-input-len 9 --random-output-len 5 --num-prompts 6 --request-rate inf --max-concurrency 3 --ignore-eos "
    "--num-warmups 2 --goodput 'ttft:2000 e2el:9000' --seed 3 --result-dir {out} --save-result --disable-tqdm "
    "--percentile-metrics ttft,tpot,itl,e2el --metric-percentiles=50,99 --temperature 0 --random-range-ratio 0.0",
    "aiperf": "-m m -u {url} --endpoint-type chat --streaming --concurrency 3 --request-count 6 --isl 9 --osl 5 "
    "--warmup-request-count 2 --random-seed 3 --output-artifact-dir {out} --goodput 'time_to_first_token:2000' "
    "--ui none --osl-stddev 0",
    "guidellm": "--target {url} --model m --data prompt_tokens=9,output_tokens=5 --concurrency 3 --max-requests 6 "
    "--num-warmups 2 --output-path {out} --slo 'ttft<2s'",
    "guidellm 0.7": "--backend kind=openai_http,target={url},model=m --profile kind=concurrent,streams=3 "
    "--constraint kind=max_requests,count=6 --data kind=synthetic_text,prompt_tokens=9,output_tokens=5 "
    "--output kind=json,path={out}.json --seed kind=static,value=3 --num-warmups 2 --slo 'ttft<2s'",
    "genai-bench": "--api-backend openai --api-base {url} --api-key k --api-model-name m --task text-to-text "
    "--traffic-scenario 'D(9,5)' "
    "--num-concurrency 3 --max-requests-per-run 6 --max-time-per-run 1 --num-warmups 2 --experiment-base-dir {out} "
    "--slo 'ttft<2s'",
}


@pytest.mark.parametrize("tool", THEIRS)
def test_lines_of_others(tool: str, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.bodies.clear()
    server.heads.clear()
    line = THEIRS[tool].format(url=f"http://127.0.0.1:{server.port}", out=tmp_path)
    code, told = skerry(f"run {line}", capsys)
    assert (code, told["summary"]["requests"], told["summary"]["failed"]) == (0, 4, 0)
    assert told["summary"]["rates"]["concurrency_max"] <= 3
    assert [len(body["messages"][0]["content"].split()) for body in server.bodies] == [9] * 6
    assert {(body["max_tokens"], body["min_tokens"], body["ignore_eos"]) for body in server.bodies} == {(5, 5, True)}
    assert told["summary"]["objectives"][0]["kept"] is True
    assert (tmp_path / "report.html").exists()
    assert all(("authorization: bearer k" in head) == (tool == "genai-bench") for head in server.heads)


def test_gates_and_repeated_runs(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"run --url http://127.0.0.1:{server.port} -m m --rate 200 -n 4"
    assert skerry(f"{line} --fail-if 'ttft_p99>9s, error_rate>0.5, total_tokens_per_second<1'", capsys)[0] == 0
    assert skerry(f"{line} --fail-if 'itl_p50>1ms'", capsys)[0] == 1
    assert skerry(f"{line} --fail-if 'ttft_p99>9s' --timeout 1ms", capsys)[0] == 1, "nothing succeeded"
    code, told = skerry(f"{line} --repeat 2 --cost-per-hour 3 -o {tmp_path}", capsys)
    assert (code, [each["name"] for each in told]) == (0, ["1", "2", ""])
    assert {"ttft_p99", "requests_per_second", "cost_per_million_tokens"} <= told[2]["intervals"].keys()
    assert "95 % confidence" in (tmp_path / "report.html").read_text()
    assert "95 % confidence" in (tmp_path / "summary.md").read_text()


def test_data_that_ends_early_is_told_or_begins_anew(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "x"}\n' * 2)
    line = f"run --url http://127.0.0.1:{server.port} -m m --concurrency 1 -n 3 --data {tmp_path / 'a.jsonl'}"
    bench.main(shlex.split(line), obj=Invocation({}), standalone_mode=False)
    assert "the data ended after 2 of 3 requests" in capsys.readouterr().err
    assert skerry(f"{line} --data-repeat", capsys)[1]["summary"]["requests"] == 3


@pytest.mark.parametrize(
    ("flags", "say"),
    [
        ("-m m --concurrency 1 -n 1", "give --url, --service or --engine"),
        ("--url http://h:1 --concurrency 1 -n 1", "model: give --model"),
        ("--url http://h:1 -m m --rate inf", "inf needs --concurrency or --requests"),
        ("--url http://h:1 -m m --rate 1 -n 1 --traffic-scenario X", "traffic-scenario: 'X' is not allowed"),
        ("--url http://h:1 -m m --rate 1 -n 1 --data a.xyz", "which kind"),
        ("--model m --profile kind=sweep,sweep_size=5", "a sweep is `skerry bench sweep`"),
        ("--model m --constraint kind=over_saturation", "known are max_requests and max_duration"),
        ("--model m --ramp-up-strategy linear", "ramp-up-strategy: here, give `load:"),
        ("--model m --temperature hot", "temperature: 'hot' is no number"),
        ("--url http://h:1 -m m --rate 1 -n 1 --extra-body 5", "extra-body: '5' is not allowed; give a JSON object"),
        ("--url http://h:1 --service tiny -m m --rate 1 -n 1", "one of url, service and engine"),
    ],
)
def test_what_cannot_be_is_told(flags: str, say: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((Invalid, click.UsageError), match=say):
        skerry(f"run {flags}", capsys)


def test_lengths_of_others() -> None:
    assert scenario("N(480,240)/(300,150)") == {"input_tokens": "N(480,240)", "output_tokens": "N(300,150)"}
    assert scenario("U(50, 100)/(200, 250)") == {"input_tokens": "U(50,100)", "output_tokens": "U(200,250)"}
    assert lengths("prompt_tokens=64,prompt_tokens_stdev=8,output_tokens=3") == {
        "input_tokens": "N(64,8)",
        "output_tokens": "3",
    }
    assert lengths("file.jsonl") is None
    assert load({"rate": 5.0, "concurrency": 3, "burstiness": 0.5}) == {
        "rate": 5.0,
        "in_flight_max": 3,
        "burstiness": 0.5,
        "arrival": "gamma",
    }
    assert load({"rate": float("inf"), "requests": 7}) == {"requests": 7, "concurrency": 7}


def test_what_others_say_in_several_words() -> None:
    def one(line: str) -> str:
        return shlex.join(retold(shlex.split(line)))

    backend = '{"kind": "openai_http", "target": "http://h:1", "verify": false, "request_format": "/v1/completions"}'
    assert one(f"--backend '{backend}'") == "--url http://h:1 --api /v1/completions --insecure"
    assert one("--backend openai-chat") == "--backend openai-chat"
    assert one("--profile kind=poisson,rate=5,warmup=2") == "--rate 5 --arrival poisson --warmup 2"
    assert one("--profile=kind=throughput") == "--rate inf"
    assert one("--data kind=csv_file,path=a.csv") == "--data a.csv"
    assert one("--data kind=huggingface,source=d") == "--data hf:d"
    assert one("--data a.jsonl --seed 5 --tokenizer t") == "--data a.jsonl --seed 5 --tokenizer t"
    assert one("--host gpu1 --port 9 --save-result -m x") == "-m x --url http://gpu1:9"
    assert one("--isl 100 --isl-stddev 10 --osl 5") == "--isl 'N(100,10)' --osl 5"
    assert one("--random-input-len 100 --random-range-ratio 0.5") == "--isl 'U(50,150)'"
    assert one("--top-p 0.9 --temperature 0") == """--extra-body '{"top_p": 0.9, "temperature": 0}'"""
