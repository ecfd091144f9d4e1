"""podman with overlay storage, crun and cgroupfs: the peer that people know, set up to be quick."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path

from peers.commands import Stopwatch, attempt, run, told

IMAGE = "skerry-bench"
SERVER_IMAGE = "skerry-bench-server"
BRIDGE = "cni-podman0"
# Limits within what an unprivileged-enough root may set, and no event log, which costs time.
CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "crun"
"""


class Podman:
    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._podman = ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver=overlay"]

    def open(self, tree: str) -> None:
        self._folder.mkdir(parents=True)
        self._bridge_is_ours = not os.path.exists(f"/sys/class/net/{BRIDGE}")
        conf = self._folder / "containers.conf"
        conf.write_text(CONF)
        os.environ["CONTAINERS_CONF"] = str(conf)
        told(*self._podman, "import", "--quiet", tree, IMAGE)

    def run_and_remove(self, network: str) -> float:
        """`podman run --rm IMAGE echo`: create to first output, and gone again."""
        watch = Stopwatch()
        if told(*self._podman, "run", "--rm", f"--network={network}", IMAGE, "echo", "hello") != "hello\n":
            raise RuntimeError("no hello")
        return watch.ms()

    def create(self, name: str, network: str = "none") -> float:
        watch = Stopwatch()
        run(*self._podman, "run", "--detach", f"--network={network}", "--name", name, IMAGE, "sleep", "infinity")
        return watch.ms()

    def create_with_folder(self, name: str, folder: str) -> float:
        """With a folder of the host and podman's own network, as an environment's sandboxes have."""
        watch = Stopwatch()
        mount = f"{folder}:/workspace"
        run(*self._podman, "run", "--detach", "--memory=256m", "--name", name, "-v", mount, IMAGE, "sleep", "infinity")
        return watch.ms()

    def exec(self, name: str) -> float:
        watch = Stopwatch()
        if told(*self._podman, "exec", name, "echo", "hello") != "hello\n":
            raise RuntimeError("no hello")
        return watch.ms()

    def exec_true(self, name: str) -> float:
        watch = Stopwatch()
        run(*self._podman, "exec", name, "true")
        return watch.ms()

    def stop(self, name: str) -> float:
        watch = Stopwatch()
        run(*self._podman, "stop", "--time=0", name)
        return watch.ms()

    def start(self, name: str) -> float:
        watch = Stopwatch()
        run(*self._podman, "start", name)
        return watch.ms()

    def delete(self, name: str) -> float:
        watch = Stopwatch()
        run(*self._podman, "rm", "--force", "--time=0", name)
        return watch.ms()

    def serve(self, name: str, tree: str, port: int, command: list[str]) -> None:
        """A server of the host's own network, which spares podman what its own would cost each request."""
        told(*self._podman, "import", "--quiet", tree, SERVER_IMAGE)
        run(*self._podman, "run", "--detach", "--network=host", "--name", name, SERVER_IMAGE, *command)
        self._port = port
        self._first_byte()

    def pause(self, name: str) -> None:
        run(*self._podman, "pause", name)

    def unpause_to_first_byte(self, name: str) -> float:
        watch = Stopwatch()
        run(*self._podman, "unpause", name)
        self._first_byte()
        return watch.ms()

    def start_to_first_byte(self, name: str) -> float:
        watch = Stopwatch()
        run(*self._podman, "start", name)
        self._first_byte()
        return watch.ms()

    def _first_byte(self) -> None:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self._port)) as connection:
                    connection.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
                    if connection.recv(1):
                        return
            except OSError:
                pass
            time.sleep(0.002)

    def close(self) -> None:
        if self._folder.exists():
            for command in (("rm", "--all", "--force", "--time=0"), ("rmi", "--all", "--force")):
                attempt(*self._podman, *command)
            attempt("umount", f"{self._folder}/root/overlay")
            if self._bridge_is_ours:
                attempt("ip", "link", "delete", BRIDGE)
            shutil.rmtree(self._folder, ignore_errors=True)
