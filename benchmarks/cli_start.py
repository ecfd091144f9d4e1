"""A whole `skerry exec BOX true`, from process start to process end, beside `podman exec BOX true`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import base_image
from harness import Served, Table, arguments, interleaved, timed_ms
from peers.client import Peers


def main() -> None:
    chosen = arguments(40, __doc__)
    rounds = 5 if chosen.quick else chosen.rounds
    skerry = str(Path(sys.executable).with_name("skerry"))
    with Served(pool_size="4GiB") as served, Peers() as peers:
        box = served.api().create(name="box")["name"]
        if not peers.has_podman():
            raise SystemExit("podman is not installed: apt-get install -y podman")
        peers.ask("podman", "open", str(base_image.tree()))
        peers.ask("podman", "create", "box")

        def skerry_exec(_: int) -> float:
            command = [skerry, "exec", box, "true"]
            return timed_ms(lambda: subprocess.run(command, env=served.environment, check=True))

        table = Table(f"cli_start: {rounds} rounds")
        found = interleaved(rounds, ours=skerry_exec, podman=lambda _: peers.ask("podman", "exec_true", "box"))
        table.times("cli_start/exec_ms", found["ours"], **{"podman exec": found["podman"]})
        table.print_figures()


if __name__ == "__main__":
    main()
