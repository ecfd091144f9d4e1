"""`skerry up` of ten sandboxes from one image, for the first time and again with nothing to do, as whole processes,
beside a loop of `podman run` with the same folder and podman's own network, and then of `podman start`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import base_image
from harness import Served, Table, arguments, interleaved, timed_ms
from peers.client import Peers

BOXES = 10
FILE = f"""\
version: 1
name: bench
sandboxes:
  box: {{image: "{base_image.NAME}", memory: 256MiB, count: {BOXES}}}
"""


def main() -> None:
    chosen = arguments(7, __doc__)
    rounds = 2 if chosen.quick else chosen.rounds
    skerry = str(Path(sys.executable).with_name("skerry"))
    with Served() as served, Peers() as peers, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        (Path(folder) / "skerry.yaml").write_text(FILE)
        if not peers.has_podman():
            raise SystemExit("podman is not installed: apt-get install -y podman")
        peers.ask("podman", "open", str(base_image.tree()))
        environment = {**served.environment, "XDG_STATE_HOME": f"{folder}-state"}
        names = [f"box-{number}" for number in range(1, BOXES + 1)]

        def ours(*words: str) -> None:
            subprocess.run([skerry, *words], env=environment, cwd=folder, check=True, capture_output=True)

        def first(number: int) -> float:
            ours("destroy", "--yes")
            return timed_ms(lambda: ours("up"))

        def podman_first(number: int) -> float:
            for name in names if number else ():
                peers.ask("podman", "delete", name)
            return sum(peers.ask("podman", "create_with_folder", name, folder) for name in names)

        def podman_again(_: int) -> float:
            return sum(peers.ask("podman", "start", name) for name in names)

        table = Table(f"up: {BOXES} sandboxes, {rounds} rounds")
        found = interleaved(rounds, ours=first, podman=podman_first)
        table.times("up/first_ms", found["ours"], **{"a loop of podman run": found["podman"]})
        found = interleaved(rounds, ours=lambda _: timed_ms(lambda: ours("up")), podman=podman_again)
        table.times("up/no_change_ms", found["ours"], **{"a loop of podman start": found["podman"]})
        table.print_figures()


if __name__ == "__main__":
    main()
