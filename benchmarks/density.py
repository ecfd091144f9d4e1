"""Many idle sandboxes: the memory of each with our programs' share, how fast they come, what the agent does at rest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import base_image
from harness import Served, Table, arguments, numbered
from peers.client import PeerFailed, Peers

CREATORS = 4
REST_S = 10.0
MIB = 1024**2


KERNEL = ("SUnreclaim", "KernelStack", "PageTables", "Percpu")
"""Lines of /proc/meminfo that namespaces, cgroups, mounts and tasks cost; caches that can be dropped left out."""


def kernel_bytes() -> int:
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(fields[name].split()[0]) for name in KERNEL) * 1024


def family(*roots: int) -> set[int]:
    """The processes, and theirs, and theirs."""
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        try:
            waiting += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            continue
    return found


def memory_bytes(*roots: int) -> int:
    """Of those process trees, shared pages shared out, and of the kernel for them (and for all else: keep quiet)."""
    return sum(resident_bytes(pid) for pid in family(*roots)) + kernel_bytes()


def cpu_s(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Its own share of what is in memory."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # ended meanwhile
        return 0
    return int(text.partition("Pss:")[2].split()[0]) * 1024


def in_parallel(count: int, make: Callable[[int], Callable[[str], object]]) -> float:
    """Sandboxes per second when CREATORS threads make `count` of them."""
    names = numbered("idle")
    lock = threading.Lock()
    left = [count]
    failures: list[BaseException] = []

    def creator(number: int) -> None:
        create = make(number)
        while not failures:
            with lock:
                if left[0] == 0:
                    return
                left[0] -= 1
                name = next(names)
            try:
                create(name)
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=creator, args=(number,)) for number in range(CREATORS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return count / (time.monotonic() - began)


def main() -> None:
    chosen = arguments(1, __doc__, sandboxes=200)
    count = 20 if chosen.quick else chosen.sandboxes
    peer_count = max(5, count // 10)
    with Served(pool_size="8GiB") as served, Peers() as peers:
        warm = served.api()
        warm.delete(warm.create()["id"])
        time.sleep(3)
        programs = served.programs()
        before = memory_bytes(served.process.pid)
        ours_before = {name: resident_bytes(pid) for name, pid in programs.items()}

        def make(_: int) -> Callable[[str], object]:
            api = served.api()
            return lambda name: api.create(name=name)

        rate = in_parallel(count, make)
        time.sleep(3)  # slots are made ahead again
        after = memory_bytes(served.process.pid)
        grown = {name: resident_bytes(pid) - ours_before[name] for name, pid in programs.items()}
        cpu_before = {name: cpu_s(pid) for name, pid in programs.items()}
        time.sleep(REST_S)
        rest = {name: (cpu_s(pid) - cpu_before[name]) / REST_S * 100 for name, pid in programs.items()}

        podman_memory, podman_rate = podman(peers, peer_count) if peers.has_podman() else (None, None)
        table = Table(f"density: {count} idle sandboxes, {peer_count} containers of podman")
        peer = f"podman, {peer_count} containers"
        table.add("density/memory_mib_per_sandbox", (after - before) / count / MIB, podman_memory, peer, "MiB")
        table.add("density/create_per_s", rate, podman_rate, peer, "1/s")
        for name in programs:
            table.add(f"density/{name}_growth_kib_per_sandbox", grown[name] / count / 1024, None, None, "KiB")
            table.add(f"density/{name}_cpu_at_rest_percent", rest[name], None, None, "%")
        table.print_figures()


def podman(peers: Peers, count: int) -> tuple[float, float]:
    """One after the other: podman locks its store anyway. With a network, as ours have, where podman's works."""
    peers.ask("podman", "open", str(base_image.tree()))
    network = "podman"
    try:
        peers.ask("podman", "create", "warm", network)
    except PeerFailed:
        network = "none"
        peers.ask("podman", "create", "warm-none", network)
    before = memory_bytes(*monitors(peers.folder))
    began = time.monotonic()
    for number in range(count):
        peers.ask("podman", "create", f"idle-{number}", network)
    rate = count / (time.monotonic() - began)
    time.sleep(3)
    return (memory_bytes(*monitors(peers.folder)) - before) / count / MIB, rate


def monitors(folder: str) -> list[int]:
    """Podman's process beside each container (conmon), whose children are the container's."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"conmon" in command and folder.encode() in command:
            found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    main()
