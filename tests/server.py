"""A whole Skerry of a test's own: real programs, real sandboxes, its own data folder, names and addresses."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from skerry.runtime.container.memory import memory_folder
from skerry.serve.exits import ExitFiles, start_time_ticks
from skerry.settings import Settings
from tests import machine

READY_S_MAX = 60.0
GONE_S_MAX = 30.0
BOOTSTRAPS_MAX = 3
CACHE = Path("/var/tmp/skerry-test")
SITE = Path(__file__).parent / "faults" / "site"


@contextlib.contextmanager
def once() -> Iterator[None]:
    """One run at a time makes what is kept on this machine; whoever waited finds it made."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def rootfs_archive() -> Path:
    """A docker-archive of a minimal Debian 12, made once on this machine by the same tool that recipes use."""
    archive, tree = CACHE / "debian-12.oci.tar", debian_tree()
    with once():
        return archive if archive.exists() else oci_archive(tree, archive)


def debian_tree(*packages: str) -> Path:
    """The root file system as a tar, with `packages` in it; made once on this machine."""
    tree = CACHE / f"{'-'.join(['debian-12', *packages])}-minbase.tar"
    with once():
        if tree.exists():
            return tree
        scratch = tree.with_suffix(".part.tar")
        include = [f"--include={','.join(packages)}"] if packages else []
        _bootstrap(["mmdebstrap", "--variant=minbase", *include, "--quiet", "bookworm", str(scratch)])
        scratch.rename(tree)
    return tree


def _bootstrap(command: list[str]) -> None:
    """An archive of packages that does not answer for a moment is not what is tested here."""
    for _ in range(BOOTSTRAPS_MAX - 1):
        if subprocess.run(command, check=False).returncode == 0:
            return
    subprocess.run(command, check=True)


def debian_packages(*packages: str) -> Path:
    """What `packages` add to the minimal Debian, as a tar for a sandbox of it: far sooner there than an image."""
    import tarfile

    layer = CACHE / f"{'-'.join(['debian-12', *packages])}-layer.tar"
    if layer.exists():
        return layer
    scratch = layer.with_suffix(".part.tar")
    with (
        tarfile.open(debian_tree()) as base,
        tarfile.open(debian_tree(*packages)) as whole,
        tarfile.open(scratch, "w") as tar,
    ):
        there = {member.name: (member.size, member.mtime) for member in base}
        for member in whole:
            is_file = not member.isdir() and not member.isdev() and not member.name.startswith("./dev/")
            if is_file and there.get(member.name) != (member.size, member.mtime):
                tar.addfile(member, whole.extractfile(member) if member.isreg() else None)
    scratch.rename(layer)
    return layer


def oci_archive(tree: Path, archive: Path) -> Path:
    """One rootfs tar as an OCI layout in a tar: the smallest image that skopeo reads."""
    import hashlib
    import io
    import tarfile

    layer = tree.read_bytes()
    layer_digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        }
    ).encode()
    media = "application/vnd.oci.image"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{media}.manifest.v1+json",
            "config": {"mediaType": f"{media}.config.v1+json", "digest": _digest(config), "size": len(config)},
            "layers": [{"mediaType": f"{media}.layer.v1.tar", "digest": f"sha256:{layer_digest}", "size": len(layer)}],
        }
    ).encode()
    index = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                {"mediaType": f"{media}.manifest.v1+json", "digest": _digest(manifest), "size": len(manifest)}
            ],
        }
    ).encode()
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index}
    for blob in (layer, config, manifest):
        files[f"blobs/sha256/{_digest(blob)[7:]}"] = blob
    scratch = archive.with_suffix(".part")
    with tarfile.open(scratch, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    scratch.rename(archive)
    return archive


def _digest(data: bytes) -> str:
    import hashlib

    return "sha256:" + hashlib.sha256(data).hexdigest()


class Reaper(threading.Thread):
    """What the supervisor does for orphans: this process becomes their parent and keeps how each ended."""

    def __init__(self, exits: Path) -> None:
        super().__init__(daemon=True)
        self._exits = ExitFiles(str(exits))
        self.over = threading.Event()
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER

    def run(self) -> None:
        while not self.over.wait(0.02):
            for task in Path("/proc/self/task").iterdir():
                try:
                    pids = (task / "children").read_text().split()
                except OSError:  # ENOENT or ESRCH: that thread has just ended
                    continue
                for pid in pids:
                    self._reap(int(pid))

    def _reap(self, pid: int) -> None:
        try:
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
            numbers = Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].splitlines()[0].split()
            # Never a program that a test waits for: only who lives in a guest's pid namespace, and crun's helpers.
            if rest.split()[0] == "Z" and (len(numbers) > 1 or name in ("init", "crun")):
                ticks = start_time_ticks(pid)
                self._exits.write(pid, ticks, os.waitpid(pid, 0)[1])
        except (OSError, IndexError):
            return


class Server:
    """`programs` started one by one under this process, so that a test can kill and restart each at will."""

    def __init__(self, data_dir: Path, *, subnet: str, port: int, url_port: int = 0, **settings: object) -> None:
        self.settings = Settings(
            data_dir=data_dir,
            run_dir=Path("/run") / f"skt-{data_dir.name[-8:]}",
            listen=f"127.0.0.1:{port}",
            url_listen=f"127.0.0.1:{url_port}",
            network_subnet=subnet,
            **{"pool_size": "4GiB", "log_level": "warning", "ssh_listen": "off", **settings},  # pyright: ignore[reportArgumentType]
        )
        self.faults = data_dir / "faults"
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped: set[str] = set()
        """On purpose: nobody revives them."""
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.settings.run_path.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.settings.run_path / "exits").mkdir(exist_ok=True)
        self.faults.mkdir(exist_ok=True)
        self.log = data_dir / "server.log"
        self._reaper = Reaper(self.settings.run_path / "exits")
        self._reaper.start()

    def start(self, *names: str) -> None:
        for name in names or ("agent", "control"):
            self._stopped.discard(name)
            environment = os.environ | {
                "SKERRY_SETTINGS_JSON": self.settings.model_dump_json(exclude_none=True),
                "SKERRY_FAULTS": str(self.faults),
                "PYTHONPATH": str(SITE),
            }
            with self.log.open("ab") as log:
                self._children[name] = subprocess.Popen(
                    [sys.executable, "-m", "skerry.serve.launch", name, str(os.getpid())],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        self.wait_ready(*names)

    def wait_ready(self, *names: str) -> None:
        from skerry.serve.ready import answers_health

        deadline = time.monotonic() + READY_S_MAX
        for name in names or ("agent", "control"):
            while not answers_health(str(self.settings.run_path / f"{name}.sock")):
                code = self._children[name].poll()
                if code is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{name} is not ready (exit {code}); log:\n{self.log.read_text()[-4000:]}")
                time.sleep(0.02)

    def pid(self, name: str) -> int:
        return self._children[name].pid

    def alive(self, name: str) -> bool:
        return self._children[name].poll() is None

    def kill(self, *names: str) -> None:
        for name in names:
            self._children[name].send_signal(signal.SIGKILL)
            self._children[name].wait()

    def stop(self, *names: str) -> None:
        for name in names or ("gateway", "control", "agent"):
            self._stopped.add(name)
            child = self._children.get(name)
            if child is not None and child.poll() is None:
                child.terminate()
                try:
                    child.wait(60)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()

    def revive(self) -> None:
        """Start whatever has died, as the supervisor would."""
        dead = [name for name in self._children if not self.alive(name) and name not in self._stopped]
        if dead:
            self.start(*dead)

    def supervise(self, work: Callable[[], object]) -> None:
        """Do `work` in a thread and meanwhile start again at once whatever dies. This thread does the starting: a
        program gets its SIGTERM when the thread that started it ends."""
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            doing = pool.submit(work)
            while not doing.done():
                self.revive()
                concurrent.futures.wait([doing], timeout=0.02)
        self.revive()
        doing.result()

    def arm(self, name: str, step: int) -> None:
        (self.faults / f"{name}.die").write_text(str(step))

    def disarm(self, name: str) -> bool:
        """True if it had not died yet: the work has fewer steps than that."""
        try:
            (self.faults / f"{name}.die").unlink()
        except FileNotFoundError:
            return False
        return True

    def died_at(self, name: str) -> list[str]:
        path = self.faults / f"{name}.died"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def address(self) -> str:
        return f"unix://{self.settings.control_socket}"

    @property
    def key(self) -> str:
        return self.settings.admin_key_path.read_text().strip()

    def remove(self) -> None:
        """Everything of it off the machine, for the end of a test run."""
        self.stop()
        self._reaper.over.set()
        machine.kill_processes(self.settings)
        deadline = time.monotonic() + GONE_S_MAX
        while machine.processes(self.settings) and time.monotonic() < deadline:
            time.sleep(0.01)
        machine.remove_groups(self.settings)
        table = f"skerry_{self.settings.instance}"
        subprocess.run(["nft", "delete", "table", "inet", table], capture_output=True, check=False)
        shutil.rmtree(self.settings.run_path, ignore_errors=True)
        shutil.rmtree(memory_folder(self.settings.run_path), ignore_errors=True)
        shutil.rmtree(self.settings.data_dir, ignore_errors=True)
