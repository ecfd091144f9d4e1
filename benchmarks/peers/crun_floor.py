"""The floor: what a sandbox costs by hand with btrfs, ip, nft and crun, when nothing is remembered or checked."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from peers.commands import Stopwatch, attempt, run, told

TABLE = "skerry_floor"
NETWORK = "10.199"
NAMESPACES = ("pid", "mount", "ipc", "uts", "cgroup")
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]
MOUNTS = (
    ("/proc", "proc", "proc", []),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
)


class CrunFloor:
    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._pool = self._folder / "pool"
        self._numbers: dict[str, int] = {}
        self._used = 0

    def open(self, tree: str, pool_bytes: int) -> None:
        self._pool.mkdir(parents=True)
        image = self._folder / "pool.img"
        with image.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, pool_bytes)
        run("mkfs.btrfs", "-q", str(image))
        device = told("losetup", "--find", "--show", "--direct-io=on", str(image)).strip()
        run("mount", "-o", "noatime", device, str(self._pool))
        run("losetup", "--detach", device)  # when the mount goes, so does it
        run("btrfs", "subvolume", "create", f"{self._pool}/image")
        run("tar", "-C", f"{self._pool}/image", "-xpf", tree)
        self.open_network()

    def open_network(self) -> None:
        rules = f"add table inet {TABLE}\nadd chain inet {TABLE} forward {{ type filter hook forward priority 0; }}\n"
        run("nft", "-f", "-", given=rules)

    def network(self, name: str) -> float:
        """That alone: a namespace, a link, addresses, a route, a rule."""
        watch = Stopwatch()
        self._network(name)
        took_ms = watch.ms()
        run("ip", "netns", "delete", self._place(name))
        del self._numbers[name]
        return took_ms

    def create(self, name: str) -> float:
        """Until the first output of a command in it."""
        watch = Stopwatch()
        self._snapshot("image", name)
        self._network(name)
        self._start(name)
        self._echo(name)
        return watch.ms()

    def start(self, name: str) -> float:
        watch = Stopwatch()
        self._start(name)
        return watch.ms()

    def exec(self, name: str) -> float:
        watch = Stopwatch()
        self._echo(name)
        return watch.ms()

    def stop(self, name: str) -> float:
        watch = Stopwatch()
        self._crun("delete", "-f", name)
        return watch.ms()

    def checkpoint(self, name: str, checkpoint: str) -> float:
        watch = Stopwatch()
        self._crun("pause", name)
        self._snapshot(name, checkpoint, "-r")
        self._crun("resume", name)
        return watch.ms()

    def restore(self, name: str, checkpoint: str) -> float:
        watch = Stopwatch()
        self._crun("delete", "-f", name)
        self._drop(name)
        self._snapshot(checkpoint, name)
        self._start(name)
        return watch.ms()

    def fork(self, name: str, count: int) -> float:
        """One checkpoint, then each fork by hand as `create` does, one after the other."""
        watch = Stopwatch()
        self.checkpoint(name, f"{name}-fork")
        for number in range(count):
            fork = f"{name}-{number}"
            self._snapshot(f"{name}-fork", fork)
            self._network(fork)
            self._start(fork)
        took_ms = watch.ms()
        for number in range(count):
            self.delete(f"{name}-{number}")
        self._drop(f"{name}-fork")
        return took_ms

    def delete(self, name: str) -> float:
        watch = Stopwatch()
        self._crun("delete", "-f", name)
        took_ms = watch.ms()
        run("ip", "netns", "delete", self._place(name))
        self._drop(name)
        return took_ms

    def drop_checkpoint(self, checkpoint: str) -> None:
        self._drop(checkpoint)

    def fill(self, name: str, files: int, file_bytes: int) -> None:
        """The same files as the benchmark writes in our box, before anything is timed."""
        content = b"x" * file_bytes
        for number in range(files):
            folder = self._pool / name / "data" / str(number // 1000)
            if number % 1000 == 0:
                folder.mkdir(parents=True)
            (folder / str(number)).write_bytes(content)
        os.sync()

    def close(self) -> None:
        for name in self._numbers:
            attempt("crun", *self._root(), "delete", "-f", name)
            attempt("ip", "netns", "delete", self._place(name))
        attempt("nft", "delete", "table", "inet", TABLE)
        attempt("umount", str(self._pool))
        attempt("find", "/sys/fs/cgroup", "-path", "*/skerry-floor", "-delete")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _root(self) -> tuple[str, ...]:
        return "--cgroup-manager=cgroupfs", "--root", str(self._folder / "state")

    def _crun(self, *command: str) -> None:
        run("crun", *self._root(), *command)

    def _echo(self, name: str) -> None:
        if told("crun", *self._root(), "exec", name, "echo", "hello") != "hello\n":
            raise RuntimeError("no hello")

    def _snapshot(self, source: str, target: str, *flags: str) -> None:
        run("btrfs", "subvolume", "snapshot", *flags, f"{self._pool}/{source}", f"{self._pool}/{target}")

    def _drop(self, name: str) -> None:
        run("btrfs", "subvolume", "delete", f"{self._pool}/{name}")

    def _place(self, name: str) -> str:
        return f"skfl{self._numbers[name]}"

    def _network(self, name: str) -> None:
        self._used += 1
        number = self._numbers[name] = self._used
        place = self._place(name)
        near = f"{NETWORK}.{number * 4 >> 8 & 255}.{number * 4 & 255}".rpartition(".")
        host, guest = f"{near[0]}.{int(near[2]) + 1}", f"{near[0]}.{int(near[2]) + 2}"
        outside = [
            f"netns add {place}",
            f"link add {place} type veth peer name eth0 netns {place}",
            f"addr add {host}/30 dev {place}",
            f"link set {place} up",
        ]
        inside = [
            f"addr add {guest}/30 dev eth0",
            "link set eth0 up",
            "link set lo up",
            f"route add default via {host}",
        ]
        run("ip", "-batch", "-", given="\n".join(outside) + "\n")
        run("ip", "-netns", place, "-batch", "-", given="\n".join(inside) + "\n")
        rule = f"add rule inet {TABLE} forward iifname {place} ip saddr != {guest} drop\n"
        run("nft", "-f", "-", given=rule)

    def _start(self, name: str) -> None:
        bundle = self._folder / "bundles" / name
        bundle.mkdir(parents=True, exist_ok=True)
        (bundle / "config.json").write_text(json.dumps(self._config(name)))
        self._crun("run", "--detach", "--bundle", str(bundle), name)

    def _config(self, name: str) -> dict[str, object]:
        network = {"type": "network", "path": f"/run/netns/{self._place(name)}"}
        return {
            "ociVersion": "1.0.2",
            "hostname": name,
            "root": {"path": f"{self._pool}/{name}"},
            "process": {
                "args": ["sleep", "infinity"],
                "cwd": "/",
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "user": {"uid": 0, "gid": 0},
                "noNewPrivileges": True,
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            },
            "mounts": [
                {"destination": target, "type": kind, "source": source, "options": options}
                for target, kind, source, options in MOUNTS
            ],
            "linux": {
                "namespaces": [*({"type": kind} for kind in NAMESPACES), network],
                "cgroupsPath": f"/skerry-floor/{name}",
                "resources": {
                    "memory": {"limit": 1024**3},
                    "pids": {"limit": 1024},
                    "cpu": {"quota": 100_000, "period": 100_000},
                },
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
                "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
            },
        }
