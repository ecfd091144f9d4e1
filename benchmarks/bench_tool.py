"""`skerry bench` beside other benchmark tools and the floor for a client in Python, on one mock that knows the truth.

Each tool gives its load to the same mock, which keeps when it wrote each token: the error of a figure is what a tool
reports less what the mock wrote. How many requests it gets through, and what they cost, is told with a mock that
answers at once; CPU is counted from the first request to the last answer, start and report are told apart. Drift is how
late requests come in that are to come evenly, at 100 a second.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from harness import Table, arguments
from peers.bench_tools import OURS, PEER_TOOLS, PLAIN, RUN_S_MAX, Ask, Favoured, Look, Tool, exact_mock
from peers.routers import Missing, Program

USERS, MANY_USERS, RATE, CALM_RATE = 64, 256, 300.0, 100.0
REQUESTS = 10_000
FIRST_MS, EACH_MS = "50:150", "15:25"


@dataclass
class Side:
    tool: Tool
    seen: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def note(self, name: str, value: float) -> None:
        self.seen.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        return statistics.median(self.seen[name]) if self.seen.get(name) else None


def times(mock: Program) -> list[list[float]]:
    connection = http.client.HTTPConnection("127.0.0.1", mock.port, timeout=60)
    connection.request("GET", "/times")
    found = json.loads(connection.getresponse().read())
    connection.close()
    return [each for each in found if len(each) > 1]


def once(tool: Tool, mock: Program, ask: Ask) -> tuple[list[list[float]], dict[str, float], Look, float]:
    """What the mock wrote, what the tool reports, how it was seen to run, and all its CPU seconds. Raises Missing."""
    folder = Path(tempfile.mkdtemp(prefix="skerry-tool-", dir="/var/tmp"))
    favoured = Favoured()
    times(mock)
    try:
        command = favoured.command(tool.command(mock.port, ask, folder))
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **tool.environment}, stdout=log, stderr=log
            )
            look = Look(process.pid)
            try:
                process.wait(RUN_S_MAX)
            finally:
                look.stop()
                process.kill()
                process.wait()
        if process.returncode:
            raise Missing(f"{tool.name}: code {process.returncode}: {(folder / 'log').read_text()[-1500:]}")
        return times(mock), dict(tool.read(folder)), look, look.moments[-1][1] if look.moments else 0.0
    finally:
        favoured.close()
        shutil.rmtree(folder, ignore_errors=True)


def capacity(side: Side, mock: Program, requests: int) -> None:
    truth, _, look, spent_s = once(side.tool, mock, Ask(requests, concurrency=USERS))
    began_s, ended_s = min(each[0] for each in truth), max(each[-1] for each in truth)
    cpu_s = look.cpu_s(began_s, ended_s)
    side.note("sustained_rate", len(truth) / (ended_s - began_s))
    side.note("cpu_s_per_1000", cpu_s / len(truth) * 1000)
    side.note("peak_mib", look.peak_mib)
    side.note("start_and_report_cpu_s", spent_s - cpu_s)


def accuracy(side: Side, mock: Program, ask: Ask, where: str) -> None:
    truth, told, _, _ = once(side.tool, mock, ask)
    true_ms = {
        "ttft": [1000 * (each[1] - each[0]) for each in truth],
        "itl": [1000 * gap for each in truth for gap in np.diff(each[1:])],
    }
    for name, values in true_ms.items():
        if f"{name}_p99" in told:
            side.note(f"{name}_error_p99_ms_{where}", abs(told[f"{name}_p99"] - float(np.percentile(values, 99))))


def drift(side: Side, mock: Program, requests: int) -> None:
    """Late against an even grid that is laid so that half come before and half after."""
    truth, _, _, _ = once(side.tool, mock, Ask(requests, rate=CALM_RATE))
    came_s = np.sort([each[0] for each in truth])
    late_s = came_s - np.arange(len(came_s)) / CALM_RATE
    side.note("drift_p99_ms", float(np.percentile(late_s - np.median(late_s), 99)) * 1000)


def one_round(side: Side, quick: Program, paced: Program, part: int) -> None:
    # Others are asked a quarter at once, or a round of theirs would take minutes.
    fewer = part * (1 if side.tool in (OURS, PLAIN) else 4)
    capacity(side, quick, REQUESTS // fewer)
    accuracy(side, paced, Ask(1500 // part, rate=RATE), "rate")
    accuracy(side, paced, Ask(1500 // part, concurrency=MANY_USERS), "users")
    drift(side, paced, 1000 // part)


def start() -> list[Side]:
    sides = [Side(OURS), Side(PLAIN)]
    for name, make in PEER_TOOLS.items():
        if name == "guidellm" and not os.environ.get("BENCH_GUIDELLM"):
            print("guidellm: left out: it brings 5 GB; set BENCH_GUIDELLM=1 to have it", flush=True)
            continue
        try:
            sides.append(Side(make()))
        except Missing as missing:
            print(f"{name}: left out: {missing}", flush=True)
    return sides


def worst(side: Side, name: str) -> float | None:
    """Of both loads."""
    found = [each for where in ("rate", "users") if (each := side.median(f"{name}_{where}")) is not None]
    return max(found) if found else None


COLUMNS: list[tuple[str, str, Callable[[Side], float | None]]] = [
    ("req/s", "9.0f", lambda side: side.median("sustained_rate")),
    ("CPU s/1000", "12.3f", lambda side: side.median("cpu_s_per_1000")),
    ("start CPU s", "13.2f", lambda side: side.median("start_and_report_cpu_s")),
    ("MiB", "7.0f", lambda side: side.median("peak_mib")),
    ("TTFT err", "10.2f", lambda side: side.median("ttft_error_p99_ms_rate")),
    ("TTFT 256", "10.2f", lambda side: side.median("ttft_error_p99_ms_users")),
    ("ITL err", "9.2f", lambda side: side.median("itl_error_p99_ms_rate")),
    ("ITL 256", "9.2f", lambda side: side.median("itl_error_p99_ms_users")),
    ("drift p99", "11.2f", lambda side: side.median("drift_p99_ms")),
]


def tell(sides: list[Side]) -> None:
    print("\n" + " " * 14 + "".join(f"{name:>{kind.split('.')[0]}}" for name, kind, _ in COLUMNS))
    for side in sides:
        cells = [(find(side), kind) for _, kind, find in COLUMNS]
        row = "".join(
            "-".rjust(int(kind.split(".")[0])) if value is None else f"{value:{kind}}" for value, kind in cells
        )
        print(f"{side.tool.name:<14}{row}", flush=True)
    print()


def figures(sides: list[Side], rounds: int) -> None:
    ours = sides[0]
    table = Table(f"bench_tool: medians of {rounds} rounds")
    for name, unit, find in (
        ("sustained_rate", "requests/s", Side.median),
        ("cpu_s_per_1000", "CPU s per 1,000", Side.median),
        ("peak_mib", "MiB", Side.median),
        ("ttft_error_p99_ms", "ms", worst),
        ("itl_error_p99_ms", "ms", worst),
        ("drift_p99_ms", "ms", Side.median),
    ):
        mine = find(ours, name)
        if mine is None:
            continue
        for peer in sides[1:] or [None]:
            table.add(
                f"bench_tool/{name}", mine, find(peer, name) if peer else None, peer.tool.name if peer else None, unit
            )
    table.print_figures()


def main() -> None:
    chosen = arguments(3, __doc__)
    rounds, part = (1, 8) if chosen.quick else (chosen.rounds, 1)
    sides = start()
    quick, paced = exact_mock(), exact_mock(first_ms=FIRST_MS, each_ms=EACH_MS)
    try:
        for mock in (quick, paced):  # the first to come to a fresh one finds it slow
            once(PLAIN, mock, Ask(1000, concurrency=MANY_USERS))
        for number in range(rounds):
            turn = number % len(sides)
            for side in list(sides[turn:] + sides[:turn]):
                try:
                    one_round(side, quick, paced, part)
                except (Missing, subprocess.TimeoutExpired) as error:
                    if side.tool is OURS:
                        raise
                    print(f"left out: {error}", flush=True)
                    sides.remove(side)
        tell(sides)
        figures(sides, rounds)
    finally:
        quick.stop()
        paced.stop()


if __name__ == "__main__":
    main()
