"""Services' gateway beside nginx and the LLM routers of PyPI: two mock backends, the same callers, interleaved rounds.

What a request costs is told in CPU seconds of the gateway's processes, which is fair between one that has a single
thread and one that takes every core; what it adds in time is told beside going to a backend directly, at a low rate.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import uvloop
from harness import Table, arguments
from peers.load import Found, load, request
from peers.routers import GATEWAYS, KEY, Missing, Program, mock

SLOW = frozenset({"litellm"})
"""Asked less, or a round of theirs would take minutes."""
ROUTERS = ("sglang-router", "vllm-router", "litellm", "smg")
SHORT, LARGE, LARGE_BYTES, PACED, SATURATED, CALM = 16_000, 4_000, 32_000, 768, 256, 600
CHUNKS, FIRST_MS, EACH_MS = 64, 20, 20
CONNECTIONS, STREAMS = 64, 256
FEWER = 8


@dataclass
class Side:
    """One gateway, in front of mocks that answer at once and of mocks that keep a pace."""

    name: str
    quick: Program
    paced: Program
    seen: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def note(self, name: str, value: float) -> None:
        self.seen.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.seen[name]) if name in self.seen else 0.0


def at(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def one_round(side: Side, direct: Side, fewer: int) -> None:
    def run(program: Program, requests: int, **given: object) -> tuple[Found, float]:
        count = max(CONNECTIONS, requests // (fewer * (FEWER if side.name in SLOW else 1)))
        stream = bool(given.get("stream", False))
        sent = request(program.port, stream=stream, prompt_bytes=int(str(given.get("prompt_bytes", 24))), key=KEY)
        before_s = program.cpu_s()
        connections = int(str(given.get("connections", CONNECTIONS)))
        found = uvloop.run(
            load(program.port, sent, connections=connections, requests=count, gap_s=float(str(given.get("gap_s", 0))))
        )
        side.note("failed", found.failed)
        return found, (program.cpu_s() - before_s) / count * 1000

    found, cpu = run(side.quick, SHORT)
    side.note("requests_per_s", found.asked / found.seconds)
    side.note("cpu_per_request", cpu)
    found, cpu = run(side.quick, LARGE, prompt_bytes=LARGE_BYTES)
    side.note("cpu_per_large_request", cpu)
    found, _ = run(side.quick, SATURATED, stream=True, connections=CONNECTIONS)
    side.note("chunks_per_s", found.chunks / found.seconds)
    found, cpu = run(side.paced, PACED, stream=True, connections=STREAMS)
    side.note("cpu_per_stream", cpu)
    # Calm: a few callers with pauses, so that nobody waits for anybody.
    found, _ = run(side.quick, CALM, connections=4, gap_s=0.01)
    side.note("ms_p50", at(found.took_ms, 0.5))
    side.note("ms_p99", at(found.took_ms, 0.99))
    found, _ = run(side.paced, CALM // 4, stream=True, connections=16, gap_s=0.01)
    side.note("ttft_ms_p50", at(found.first_ms, 0.5))
    side.note("ttft_ms_p99", at(found.first_ms, 0.99))


def start(names: list[str], quick: list[int], paced: list[int]) -> list[Side]:
    sides: list[Side] = []
    for name in names:
        try:
            first = GATEWAYS[name](quick)
        except Missing as missing:
            print(f"{name}: left out: {missing}", flush=True)
            continue
        try:
            sides.append(Side(name, first, GATEWAYS[name](paced)))
        except Missing as missing:
            first.stop()
            print(f"{name}: left out: {missing}", flush=True)
    return sides


def tell(sides: list[Side], direct: Side) -> None:
    columns: list[tuple[str, str, Callable[[Side], float]]] = [
        ("req/s", "8.0f", lambda side: side.median("requests_per_s")),
        ("CPU s/1000", "11.4f", lambda side: side.median("cpu_per_request")),
        ("32 KB CPU", "10.4f", lambda side: side.median("cpu_per_large_request")),
        ("chunks/s", "9.0f", lambda side: side.median("chunks_per_s")),
        ("stream CPU", "11.3f", lambda side: side.median("cpu_per_stream")),
        ("+p50 ms", "8.3f", lambda side: side.median("ms_p50") - direct.median("ms_p50")),
        ("+p99 ms", "8.3f", lambda side: side.median("ms_p99") - direct.median("ms_p99")),
        ("TTFT +p50", "10.3f", lambda side: side.median("ttft_ms_p50") - direct.median("ttft_ms_p50")),
        ("TTFT +p99", "10.3f", lambda side: side.median("ttft_ms_p99") - direct.median("ttft_ms_p99")),
        ("failed", "7.0f", lambda side: sum(side.seen["failed"])),
        ("MiB", "6.0f", lambda side: side.quick.memory_mib()),
    ]
    print("\n" + " " * 14 + "".join(f"{name:>{kind.split('.')[0]}}" for name, kind, _ in columns))
    for side in [*sides, direct]:
        print(f"{side.name:<14}" + "".join(f"{find(side):{kind}}" for _, kind, find in columns), flush=True)
    print()


def figures(sides: list[Side], direct: Side, rounds: int) -> None:
    ours = next(side for side in sides if side.name == "ours")
    routers = [side for side in sides if side.name in ROUTERS]
    table = Table(f"gateway: medians of {rounds} rounds")
    for name, unit in (("requests_per_s", "requests/s"), ("chunks_per_s", "chunks/s")):
        best = max(routers, key=lambda side: side.median(name), default=None)
        table.add(f"gateway/{name}", ours.median(name), best and best.median(name), best.name if best else None, unit)
    for name, unit in (
        ("cpu_per_request", "CPU s per 1,000"),
        ("cpu_per_large_request", "CPU s per 1,000 of 32 KB"),
        ("cpu_per_stream", f"CPU s per 1,000 streams of {CHUNKS} chunks"),
    ):
        for peer in [side for side in sides if side is not ours]:
            table.add(f"gateway/{name}", ours.median(name), peer.median(name), peer.name, unit)
    for told, name in (
        ("added_ms_p50", "ms_p50"),
        ("added_ms_p99", "ms_p99"),
        ("added_ttft_ms_p50", "ttft_ms_p50"),
        ("added_ttft_ms_p99", "ttft_ms_p99"),
    ):
        for peer in [side for side in sides if side is not ours] or [None]:
            other = None if peer is None else peer.median(name) - direct.median(name)
            table.add(
                f"gateway/{told}", ours.median(name) - direct.median(name), other, peer.name if peer else None, "ms"
            )
    table.add("gateway/failed", sum(ours.seen["failed"]), None, None, "requests")
    table.print_figures()


def main() -> None:
    chosen = arguments(5, __doc__)
    rounds, fewer = (1, 4) if chosen.quick else (chosen.rounds, 1)
    names = ["ours", "nginx", "sglang-router", "vllm-router", *([] if chosen.quick else ["litellm", "smg"])]
    quick = [mock(chunks=CHUNKS) for _ in range(2)]
    paced = [mock(first_ms=FIRST_MS, each_ms=EACH_MS, chunks=CHUNKS) for _ in range(2)]
    sides = start(names, [each.port for each in quick], [each.port for each in paced])
    direct = Side("direct", quick[0], paced[0])
    try:
        every = [*sides, direct]
        for number in range(rounds + 1):
            turn = number % len(every)
            for side in every[turn:] + every[:turn]:
                one_round(side, direct, fewer * 4 if number == 0 else fewer)
                if number == 0:  # it warms up
                    side.seen.clear()
        tell(sides, direct)
        figures(sides, direct, rounds)
    finally:
        for program in [*(each.quick for each in sides), *(each.paced for each in sides), *quick, *paced]:
            program.stop()


if __name__ == "__main__":
    main()
