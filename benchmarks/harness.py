"""What every benchmark shares: a Skerry of its own, its HTTP API, interleaved rounds, the table and the figures."""

from __future__ import annotations

import argparse
import compileall
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import base_image
import click

import skerry as skerry_package
from skerry.runtime.container.memory import memory_folder
from skerry.settings import Settings

READY_S_MAX = 120
CALL_S_MAX = 900
IDLE_S_MAX = 2.0
"""A kept connection that rested longer is made anew: the server closes it after five."""


class Refused(Exception):
    """An answer of 400 or above."""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("local", timeout=CALL_S_MAX)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Api:
    """One kept connection; one per thread."""

    def __init__(self, socket_path: str, key: str) -> None:
        self._connection = UnixConnection(socket_path)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._used_s = 0.0

    def call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else body if hasattr(body, "read") else json.dumps(body).encode()
        if time.monotonic() - self._used_s > IDLE_S_MAX:
            self._connection.close()
        try:
            self._connection.request(method, path, body=data, headers=self._headers)  # pyright: ignore[reportArgumentType]
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # what is half said cannot be gone on with
            raise
        self._used_s = time.monotonic()
        if answer.status >= 400:
            raise Refused(f"{method} {path}: {answer.status} {text[:500].decode(errors='replace')}")
        return json.loads(text) if text else None

    def create(self, **spec: object) -> Any:
        box = self.call("POST", "/v1/sandboxes?wait_s=60", {"image": base_image.NAME, **spec})
        if box["state"] != "running":
            raise Refused(f"sandbox is {box['state']}: {box['reason']}")
        return box

    def exec(self, box: str, *command: str) -> str:
        result = self.call("POST", f"/v1/sandboxes/{box}/exec", {"command": list(command)})
        if result["exit"]["code"] != 0:
            raise Refused(f"{command} ended with {result['exit']}: {result['stderr']}")
        return result["stdout"]

    def delete(self, box: str) -> None:
        self.call("DELETE", f"/v1/sandboxes/{box}?force=true&wait_s=60")

    def close(self) -> None:
        self._connection.close()


class Served:
    """`skerry serve` with a temporary data_dir, the image loaded; gone with everything it made at the end."""

    def __init__(self, pool_size: str = "8GiB", **settings: object) -> None:
        self.data_dir = Path(tempfile.mkdtemp(prefix="skerry-bench-", dir="/var/tmp"))
        port, url_port = _free_port(), _free_port()
        # Another benchmark, or the tests, may run beside this one with the usual addresses.
        subnet = f"10.{210 + os.getpid() % 40}.0.0/16"
        self.settings = Settings(
            data_dir=self.data_dir,
            listen=f"127.0.0.1:{port}",
            url_listen=f"127.0.0.1:{url_port}",
            network_subnet=subnet,
            pool_size=pool_size,  # pyright: ignore[reportArgumentType]
            log_level="warning",
            **settings,  # pyright: ignore[reportArgumentType]
        )
        self.address = f"http://127.0.0.1:{port}"
        self.environment = {
            # Without PYTHONDONTWRITEBYTECODE and the like, under which every start would compile our source again.
            **{name: value for name, value in os.environ.items() if not name.startswith(("SKERRY_", "PYTHON"))},
            **{f"SKERRY_{name.upper()}": str(value) for name, value in settings.items()},
            "SKERRY_DATA_DIR": str(self.data_dir),
            "SKERRY_URL_LISTEN": self.settings.url_listen,
            "SKERRY_SSH_LISTEN": "off",
        }

    def __enter__(self) -> Served:
        skerry = str(Path(sys.executable).with_name("skerry"))
        for package in (skerry_package, click):  # as installed packages are
            compileall.compile_dir(str(Path(package.__file__ or "").parent), quiet=2)
        self.process = subprocess.Popen(
            [
                *(skerry, "serve", "--data-dir", str(self.data_dir), "--listen", self.settings.listen),
                *("--network-subnet", self.settings.network_subnet, "--pool-size", str(self.settings.pool_size)),
                *("--log-level", self.settings.log_level),
            ],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=(self.data_dir / "serve.log").open("w"),
        )
        try:
            self._wait_ready()
            self.key = self.settings.admin_key_path.read_text().strip()
            with base_image.archive().open("rb") as archive:
                image = self.api().call("POST", f"/v1/images/upload?name={base_image.NAME}&wait_s=300", archive)
            if image["state"] != "ready":
                raise Refused(f"the image is {image['state']}: {image['reason']}")
        except BaseException:
            sys.stderr.write((self.data_dir / "serve.log").read_text()[-4000:])
            self.__exit__()
            raise
        return self

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S_MAX
        for path in (self.settings.agent_socket, self.settings.control_socket, self.settings.gateway_socket):
            while True:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise Refused(f"skerry serve did not come up (exit code {self.process.returncode})")
                try:
                    Api(str(path), "").call("GET", "/health")
                    break
                except (OSError, Refused, http.client.HTTPException):
                    time.sleep(0.05)

    def api(self) -> Api:
        return Api(str(self.settings.control_socket), self.key)

    def programs(self) -> dict[str, int]:
        """Pids of the supervisor, the agent, control and the gateway."""
        found = {"serve": self.process.pid}
        for pid in _children(self.process.pid):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            for name in ("agent", "control", "gateway"):
                if name.encode() in command:
                    found[name] = pid
        return found

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            try:
                self._delete_all()
            except (OSError, Refused, AttributeError, http.client.HTTPException) as error:
                print(f"clean-up: {error}", file=sys.stderr)
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        table = f"skerry_{self.settings.instance}"
        subprocess.run(["nft", "delete", "table", "inet", table], capture_output=True, check=False)
        groups = ["find", "/sys/fs/cgroup", "-depth", "-type", "d", "-path", f"*/skerry-{self.settings.instance}*"]
        subprocess.run([*groups, "-exec", "rmdir", "{}", ";"], capture_output=True, check=False)
        shutil.rmtree(self.settings.run_path, ignore_errors=True)
        shutil.rmtree(memory_folder(self.settings.run_path), ignore_errors=True)
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def _delete_all(self) -> None:
        api = self.api()
        while boxes := api.call("GET", "/v1/sandboxes?limit=500")["items"]:
            for box in boxes:
                with contextlib.suppress(Refused):  # it may have gone since it was listed
                    api.call("DELETE", f"/v1/sandboxes/{box['id']}?force=true&wait_s=0")
            time.sleep(0.3)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def timed_ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def interleaved(rounds: int, **sides: Callable[[int], float]) -> dict[str, list[float]]:
    """Each side once per round, so that whatever else the machine does hits all of them alike, and each takes its
    turn at going first, since a peer leaves caches cold for whoever comes after it. The first round warms up and is
    not counted. A side gets the round's number and answers milliseconds."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            took_ms = sides[name](number)
            if number:
                found[name].append(took_ms)
    return found


def in_a_row(work: Callable[[], float], times: int = 5) -> float:
    """The median of a few, one right after the other: what a step costs to who does it again and again."""
    return statistics.median(work() for _ in range(times))


class Figure(NamedTuple):
    name: str
    ours: float
    peer: float | None
    peer_name: str | None
    unit: str

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.peer else None


def _told(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.3f}"


class Table:
    """Rows as they are measured; at the end the figures, one JSON line each, for whoever reads by machine."""

    def __init__(self, title: str) -> None:
        self._figures: list[Figure] = []
        print(f"{title}\n{'':<38}{'ours':>10}{'p95':>10}  {'peer':>10}  {'ratio':>6}", flush=True)

    def times(self, name: str, ours: list[float], **peers: list[float]) -> None:
        """A row per peer of medians in milliseconds; peers' names come with underscores for blanks."""
        p95 = sorted(ours)[min(len(ours) - 1, int(len(ours) * 0.95))]
        if not peers:
            self.add(name, statistics.median(ours), None, None, "ms", p95=p95)
        for peer_name, peer in peers.items():
            self.add(name, statistics.median(ours), statistics.median(peer), peer_name.replace("_", " "), "ms", p95=p95)

    def add(
        self, name: str, ours: float, peer: float | None, peer_name: str | None, unit: str, *, p95: float | None = None
    ) -> None:
        figure = Figure(name, round(ours, 3), None if peer is None else round(peer, 3), peer_name, unit)
        self._figures.append(figure)
        told_p95 = "" if p95 is None else _told(p95)
        told_peer = f"{_told(peer):>10}  {figure.ratio:>6.2f}  {peer_name}" if peer and figure.ratio is not None else ""
        print(f"{name:<38}{_told(ours):>10}{told_p95:>10}  {told_peer}".rstrip() + f"  [{unit}]", flush=True)

    def print_figures(self) -> None:
        print()
        for figure in self._figures:
            ratio = None if figure.ratio is None else round(figure.ratio, 3)
            told = {"name": figure.name, "ours": figure.ours, "peer": figure.peer, "peer_name": figure.peer_name}
            print(json.dumps({**told, "ratio": ratio, "unit": figure.unit}), flush=True)


def arguments(rounds: int, description: str | None, **more: int) -> argparse.Namespace:
    """--rounds, --quick and whatever else a benchmark counts, each with its usual number."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller, to see that it works")
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("real sandboxes need root")
    return chosen


def numbered(prefix: str) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"{prefix}-{number}"
