"""kill -9 of the supervisor, three times: its programs end, sandboxes run on, the next `skerry serve` adopts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from skerry import Client
from skerry.model.sandbox import S
from skerry.serve.ready import serving_pid
from skerry.settings import Settings
from tests import machine
from tests.server import Server, rootfs_archive
from tests.system.conftest import free_port, make_server

IMAGE = "debian:12"


def serve(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "skerry.main", "serve", "--data-dir", str(settings.data_dir), "--listen"]
    command += [f"127.0.0.1:{free_port()}", "--network-subnet", settings.network_subnet, "--pool-size", "2GiB"]
    with log.open("ab") as output:
        own = {"SKERRY_RUN_DIR": str(settings.run_path), "SKERRY_URL_LISTEN": settings.url_listen}
        environment = os.environ | own
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    deadline = time.monotonic() + 60
    while not all(serves(settings, name, process.pid) for name in ("agent", "control", "gateway")):
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.05)
    return process


def serves(settings: Settings, name: str, parent: int) -> bool:
    """Answers, and is a child of this supervisor and not of the one before it."""
    pid = serving_pid(str(settings.run_path / f"{name}.sock"))
    try:
        return pid is not None and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(parent)
    except OSError:
        return False


def connect(server: Server) -> Client:
    return Client(address=server.address, key=server.key)


def test_killed_three_times_and_stopped_once(tmp_path: Path) -> None:
    server = make_server("10.228.0.0/20")  # for its names and its tidying; its programs are started by `serve` here
    settings, log = server.settings, tmp_path / "serve.log"
    process = serve(settings, log)
    try:
        with connect(server) as client:
            client.images.pull(f"oci-archive:{rootfs_archive()}", name=IMAGE)
            box = client.sandboxes.create(IMAGE, name="box")
            box.commands.run("sleep 100000 & echo $! > /root/pid")
            pid = box.files.read("/root/pid").decode().strip()
        for end in (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
            process.send_signal(end)
            process.wait(60)
            assert machine.processes(settings), "the sandbox runs on"
            process = serve(settings, log)
            with connect(server) as client:
                box = client.sandboxes.connect("box")
                info = box.info()
                assert (info.state, info.restarts) == (S.RUNNING, 0)
                assert box.commands.run(f"kill -0 {pid} && echo same").stdout == "same\n"
        with connect(server) as client:
            client.sandboxes.connect("box").delete()
        assert machine.processes(settings) == set()
        agent = int((settings.data_dir / "agent.lock").read_text())
        process.terminate()
        process.wait(60)
        assert f"name=agent pid={agent} code=0" in log.read_text(), "it let go of everything in order"
        assert machine.groups(settings) == [], "with no sandbox left, nothing of ours is"
    finally:
        process.terminate()
        process.wait(60)
        server.remove()
