"""What others wait while one client asks for a thousand answers at once: held at the gateway, or pushed into engines.

Simulated engines in simulated time, as `routing.py`; each has 64 slots. An engine's own queue is first come, first
served; the gateway's is fair. It takes half a minute.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from typing import Final, NamedTuple

from routing import SMALL
from routing_fleet import Fleet
from routing_traces import Session, Shape, Turn, synthetic

from skerry.gateway.routing.catalog import policy
from skerry.gateway.services.service import AHEAD
from skerry.model.service import PolicyName

FLOOD, FROM_S, EVERY_S, REPLICAS = 1000, 40.0, 0.01, 4
BEGINNING, OWN, ANSWER = 50, 12, 150
"""Blocks that its prompts have in common, blocks of each alone, tokens of an answer."""
LIMITS: Final = (0, SMALL.sequences, math.ceil(SMALL.sequences * AHEAD), 2 * SMALL.sequences)


class Found(NamedTuple):
    hit_ratio: float
    others_p50_s: float
    others_p99_s: float
    flood_p50_s: float
    flood_p99_s: float


def trace(seed: int) -> list[Session]:
    draw = random.Random(seed)
    common = [draw.getrandbits(60) for _ in range(BEGINNING)]
    flood: list[Session] = []
    for number in range(FLOOD):
        blocks = (*common, *(draw.getrandbits(60) for _ in range(OWN)))
        flood.append(Session(FROM_S + number * EVERY_S, (Turn(blocks, len(blocks) * 16, ANSWER),), "flood"))
    return synthetic(Shape(sessions=200, per_s=1.5), seed) + flood


def run(limit: int, seed: int) -> Found:
    fleet = Fleet(policy(PolicyName.AUTO, seed), REPLICAS, SMALL, per_replica=limit)
    hit_ratio = fleet.run(trace(seed)).hit_ratio
    flood = sorted(fleet.ttfts_of.pop("flood"))
    others = sorted(each for ttfts in fleet.ttfts_of.values() for each in ttfts)
    return Found(hit_ratio, *(of[int(len(of) * share)] for of in (others, flood) for share in (0.5, 0.99)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="seeds")
    rounds = parser.parse_args().rounds
    found: dict[int, Found] = {}
    print(f"{'at once':>8}{'hit':>8}{'others p50 s':>14}{'p99':>8}{'flood p50 s':>14}{'p99':>8}")
    for limit in LIMITS:
        columns = zip(*(run(limit, seed) for seed in range(1, rounds + 1)), strict=True)
        one = found[limit] = Found(*(statistics.fmean(column) for column in columns))
        times = f"{one.others_p50_s:>14.2f}{one.others_p99_s:>8.2f}{one.flood_p50_s:>14.1f}{one.flood_p99_s:>8.1f}"
        print(f"{limit or 'all':>8}{one.hit_ratio:>8.3f}{times}", flush=True)
    held, pushed = found[LIMITS[2]], found[0]
    for name, ours, peer in (
        ("others_p99_ttft", held.others_p99_s, pushed.others_p99_s),
        ("own_p99_ttft", held.flood_p99_s, pushed.flood_p99_s),
    ):
        told = {
            "name": f"routing/flood_{name}",
            "ours": round(ours, 3),
            "peer": round(peer, 3),
            "peer_name": "not held",
        }
        print(json.dumps({**told, "ratio": round(ours / peer, 3), "unit": "s"}))


if __name__ == "__main__":
    main()
