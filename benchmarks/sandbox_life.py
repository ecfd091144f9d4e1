"""The life of a sandbox beside the same by hand with crun (the floor) and by podman: medians of interleaved rounds."""

from __future__ import annotations

import time
from typing import Any

import base_image
from harness import Api, Served, Table, arguments, in_a_row, interleaved, timed_ms
from peers.client import PeerFailed, Peers

GIB = 1024**3
FORKS = 10
FLOOR = "crun floor"
FILL = """
my ($files, $bytes) = @ARGV;
my $content = "x" x $bytes;
mkdir "/data";
for my $n (0 .. $files - 1) {
  my $folder = "/data/" . int($n / 1000);
  mkdir $folder if $n % 1000 == 0;
  open(my $file, ">", "$folder/$n") or die $!;
  print $file $content;
  close($file) or die $!;
}
"""


class Life:
    def __init__(self, api: Api, peers: Peers, table: Table, rounds: int) -> None:
        self._api = api
        self._peers = peers
        self._table = table
        self._rounds = rounds

    def create_to_output(self) -> None:
        def ours(_: int) -> float:
            boxes: list[Any] = []

            def work() -> None:
                boxes.append(self._api.create())
                self._api.exec(boxes[0]["id"], "echo", "hello")

            took_ms = timed_ms(work)
            self._api.delete(boxes[0]["id"])
            # Slots are made ahead in the background; a person does not create at the rate of a loop.
            time.sleep(0.1)
            return took_ms

        def floor(number: int) -> float:
            took_ms = self._peers.ask("crun", "create", f"life-{number}")
            self._peers.ask("crun", "delete", f"life-{number}")
            return took_ms

        sides = {"ours": ours, "floor": floor}
        if self._peers.has_podman():
            sides["podman"] = lambda _: self._peers.ask("podman", "run_and_remove", "none")
            try:
                self._peers.ask("podman", "run_and_remove", "podman")
                sides["podman_network"] = lambda _: self._peers.ask("podman", "run_and_remove", "podman")
            except PeerFailed:
                print("podman's default network does not work here; measured without", flush=True)
        found = interleaved(self._rounds, **sides)
        labels = {
            "floor": FLOOR,
            "podman": "podman run --rm, no network",
            "podman_network": "podman run --rm, its network",
        }
        peers = {labels[name]: times for name, times in found.items() if name != "ours"}
        self._table.times("sandbox_life/create_to_output_ms", found["ours"], **peers)

    def exec_in(self, box: str) -> None:
        sides = {
            "ours": lambda _: in_a_row(lambda: timed_ms(lambda: self._api.exec(box, "echo", "hello"))),
            "floor": lambda _: in_a_row(lambda: self._peers.ask("crun", "exec", "big")),
        }
        if self._peers.has_podman():
            sides["podman"] = lambda _: in_a_row(lambda: self._peers.ask("podman", "exec", "life"))
        found = interleaved(self._rounds, **sides)
        peers = {"crun exec": found["floor"], **({"podman exec": found["podman"]} if "podman" in found else {})}
        self._table.times("sandbox_life/exec_ms", found["ours"], **peers)

    def checkpoint(self, box: str, name: str) -> None:
        """Of a box that is idle; the floor pauses and snapshots the same tree."""

        def ours(_: int) -> float:
            return timed_ms(lambda: self._ready(self._call(box, "checkpoints?wait_s=60", {})))

        def floor(number: int) -> float:
            took_ms = self._peers.ask("crun", "checkpoint", "big", f"cp-{number}")
            self._peers.ask("crun", "drop_checkpoint", f"cp-{number}")
            return took_ms

        found = interleaved(self._rounds, ours=ours, floor=floor)
        self._table.times(name, found["ours"], **{FLOOR: found["floor"]})

    def restore(self, box: str) -> None:
        checkpoint = self._call(box, "checkpoints?wait_s=60", {})["id"]
        self._peers.ask("crun", "checkpoint", "big", "back")

        def ours(_: int) -> float:
            return timed_ms(lambda: self._running(self._call(box, "restore?wait_s=60", {"checkpoint": checkpoint})))

        found = interleaved(self._rounds, ours=ours, floor=lambda _: self._peers.ask("crun", "restore", "big", "back"))
        self._table.times("sandbox_life/restore_ms", found["ours"], **{FLOOR: found["floor"]})

    def fork(self, box: str) -> None:
        def ours(_: int) -> float:
            forks: list[Any] = []

            def work() -> None:
                forks.extend(self._call(box, "fork?wait_s=60", {"count": FORKS})["items"])
                for each in forks:
                    self._running(each)

            took_ms = timed_ms(work)
            for each in forks:
                self._api.delete(each["id"])
            time.sleep(0.5)
            return took_ms

        rounds = max(3, self._rounds // 2)
        found = interleaved(rounds, ours=ours, floor=lambda _: self._peers.ask("crun", "fork", "big", FORKS))
        self._table.times("sandbox_life/fork_x10_ms", found["ours"], **{FLOOR: found["floor"]})

    def stop_and_start(self, box: str) -> None:
        sides = {"ours": self._cycle_ours(box), "floor": self._cycle("crun", "big")}
        if self._peers.has_podman():
            sides["podman"] = self._cycle("podman", "life")
        stops: dict[str, list[float]] = {name: [] for name in sides}
        starts: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(self._rounds + 1):
            first = number % len(sides)
            turns = list(sides.items())
            for name, (stop, start) in turns[first:] + turns[:first]:
                stop_ms, start_ms = stop(), start()
                if number:
                    stops[name].append(stop_ms)
                    starts[name].append(start_ms)
        for figure, found in (("start_ms", starts), ("stop_ms", stops)):
            peers = {FLOOR: found["floor"], **({"podman": found["podman"]} if "podman" in found else {})}
            self._table.times(f"sandbox_life/{figure}", found["ours"], **peers)

    def _cycle_ours(self, box: str) -> Any:
        return (
            lambda: timed_ms(lambda: self._call(box, "stop?wait_s=60", {"grace_s": 0})),
            lambda: timed_ms(lambda: self._running(self._call(box, "start?wait_s=60"))),
        )

    def _cycle(self, peer: str, name: str) -> Any:
        return lambda: self._peers.ask(peer, "stop", name), lambda: self._peers.ask(peer, "start", name)

    def _call(self, box: str, path: str, body: object = None) -> Any:
        return self._api.call("POST", f"/v1/sandboxes/{box}/{path}", body)

    def _running(self, box: Any) -> None:
        if box["state"] != "running":
            raise SystemExit(f"sandbox {box['name']} is {box['state']}: {box['reason']}")

    def _ready(self, checkpoint: Any) -> None:
        if checkpoint["state"] != "ready":
            raise SystemExit(f"checkpoint is {checkpoint['state']}: {checkpoint['reason']}")


def main() -> None:
    chosen = arguments(20, __doc__)
    rounds = 3 if chosen.quick else chosen.rounds
    files, file_bytes = (5000, 40_000) if chosen.quick else (50_000, 42_000)
    pool_bytes = (4 if chosen.quick else 10) * GIB
    with Served(pool_size=str(pool_bytes)) as served, Peers() as peers:
        api = served.api()
        peers.ask("crun", "open", str(base_image.tree()), pool_bytes)
        peers.ask("crun", "create", "big")
        if peers.has_podman():
            peers.ask("podman", "open", str(base_image.tree()))
            peers.ask("podman", "create", "life")
        table = Table(f"sandbox_life: {rounds} rounds")
        life = Life(api, peers, table, rounds)
        life.create_to_output()
        box = api.create(name="big")["id"]
        life.exec_in(box)
        life.checkpoint(box, "sandbox_life/checkpoint_small_ms")
        api.exec(box, "perl", "-e", FILL, str(files), str(file_bytes))
        api.exec(box, "sync")
        peers.ask("crun", "fill", "big", files, file_bytes)
        print(f"both boxes now hold {files:,} files, {files * file_bytes / 1e9:.1f} GB", flush=True)
        life.checkpoint(box, "sandbox_life/checkpoint_ms")
        life.restore(box)
        life.fork(box)
        life.stop_and_start(box)
        table.print_figures()


if __name__ == "__main__":
    main()
