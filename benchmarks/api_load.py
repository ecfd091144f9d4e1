"""Many clients create, exec and delete at once: no failure, nothing left behind, and how long each step takes."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from harness import Api, Served, Table, arguments

SETTLE_S_MAX = 60.0
FAILURES_SHOWN = 5


class Leftovers(NamedTuple):
    """What sandboxes are made of on the machine, counted from outside."""

    processes: int
    cgroups: int
    links: int
    mounts: int
    disks: int

    def beyond(self, before: Leftovers) -> dict[str, int]:
        return {name: more for name, more in zip(self._fields, map(_difference, self, before), strict=True) if more > 0}


def _difference(now: int, before: int) -> int:
    return now - before


def count(served: Served) -> Leftovers:
    instance = served.settings.instance
    agent = served.programs()["agent"]
    groups = [
        root
        for top in Path("/sys/fs/cgroup").iterdir()
        for root, _, _ in os.walk(top)
        if f"/skerry-{instance}/" in root
    ]
    processes = {pid for group in groups for pid in Path(group, "cgroup.procs").read_text().split()}
    links = [name for name in os.listdir("/sys/class/net") if name.startswith(f"sk{instance}-")]
    mounts = Path(f"/proc/{agent}/mountinfo").read_text().count("\n")
    pool = str(served.settings.run_path / "pool")
    listed = subprocess.run(
        ["nsenter", "--mount", f"--target={agent}", "btrfs", "subvolume", "list", pool],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return Leftovers(len(processes), len(groups), len(links), mounts, listed.count("\n"))


class Load:
    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {"create": [], "exec": [], "delete": []}
        self.failures: list[str] = []

    def client(self, api: Api, until_s: float) -> None:
        while time.monotonic() < until_s:
            try:
                box = self._timed("create", lambda: api.create(memory="64MiB"))
                out = self._timed("exec", lambda box=box: api.exec(box["id"], "echo", "hello"))
                if out != "hello\n":
                    self.failures.append(f"exec printed {out!r}")
                self._timed("delete", lambda box=box: api.delete(box["id"]))
            except Exception as error:  # every kind of failure is one
                self.failures.append(repr(error))

    def _timed(self, name: str, work: Callable[[], object]) -> object:
        began = time.perf_counter()
        result = work()
        self.times[name].append((time.perf_counter() - began) * 1000)
        return result


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] if times else float("nan")


def settled(served: Served, before: Leftovers) -> dict[str, int]:
    """What is left once background work has had its time."""
    deadline = time.monotonic() + SETTLE_S_MAX
    while (left := count(served).beyond(before)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def main() -> None:
    chosen = arguments(1, __doc__, seconds=60, clients=64)
    seconds = 8 if chosen.quick else chosen.seconds
    with Served(pool_size="8GiB") as served:
        warm = served.api()
        warm.delete(warm.create()["id"])
        time.sleep(5)
        before = count(served)
        load = Load()
        until_s = time.monotonic() + seconds
        clients = [threading.Thread(target=load.client, args=(served.api(), until_s)) for _ in range(chosen.clients)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        left = settled(served, before)
        remaining = len(warm.call("GET", "/v1/sandboxes")["items"])
        table = Table(f"api_load: {chosen.clients} clients for {seconds} s")
        table.add("api_load/failures", len(load.failures), None, None, "failures")
        table.add("api_load/leftovers", sum(left.values()) + remaining, None, None, "things")
        table.add("api_load/lives_per_s", len(load.times["delete"]) / seconds, None, None, "1/s")
        for name, times in load.times.items():
            table.add(f"api_load/{name}_p50_ms", percentile(times, 0.50), None, None, "ms")
            table.add(f"api_load/{name}_p99_ms", percentile(times, 0.99), None, None, "ms")
        for failure in load.failures[:FAILURES_SHOWN]:
            print(f"failure: {failure}")
        if left or remaining:
            print(f"left behind: {left}, sandboxes: {remaining}")
        table.print_figures()
        if load.failures or left or remaining:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
