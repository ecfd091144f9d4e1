"""What crun is told of a sandbox: config.json and process.json of the OCI runtime specification."""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.model.exec import WindowSize
from skerry.model.sandbox import MIB, SandboxSpec
from skerry.runtime.container.cgroups import Ceilings
from skerry.runtime.container.seccomp import Profile
from skerry.runtime.contract import Slot

Json = dict[str, Any]

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""Docker's fourteen without NET_RAW (forged packets), MKNOD and AUDIT_WRITE: what installing packages and dropping
privileges needs. They count in the sandbox's own user namespace only."""

OPEN_FILES_SOFT, OPEN_FILES_HARD_MAX = 1024, 1_048_576
OOM_SCORE_ADJUST = 500
"""When the host itself runs out of memory, sandboxes go before the host's own programs."""
UMASK = 0o022
CPU_PERIOD_US = 100_000
CPU_QUOTA_US_MIN = 1_000
DEV_BYTES, DEV_FILES = 64 * 1024, 128
TERMINALS_MAX = 256
"""Of one sandbox; the kernel's own bound is 4096 for the whole machine."""
TTY_GROUP = 5
PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

GUEST_FOLDER = "/.skerry"
GUEST_INIT = f"{GUEST_FOLDER}/init"
GUEST_SOCKETS = f"{GUEST_FOLDER}/run"
GUEST_POLICY = f"{GUEST_FOLDER}/policy"

DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2))
"""null zero full random urandom tty ptmx."""
TERMINAL_MAJOR = 136

MASKED = (
    *(f"/proc/{name}" for name in ("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug")),
    *(f"/proc/{name}" for name in ("scsi", "timer_list", "timer_stats", "kallsyms", "kmsg", "vmallocinfo")),
    *(f"/sys/{name}" for name in ("firmware", "devices/virtual/powercap", "kernel/slab", "fs/btrfs", "kernel/debug")),
)
"""Tell of the host, its hardware or other sandboxes."""
READONLY = tuple(f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger"))
# /sys/fs/cgroup is not among them: on cgroup v1 crun would bind it over with its controllers writable. The tmpfs that
# it puts around them is writable, holds 1 MiB and counts as the sandbox's own memory.

SYSCTLS = {
    "net.ipv4.ping_group_range": "0 65535",  # ping without CAP_NET_RAW, for every user here
    "net.ipv4.ip_unprivileged_port_start": "0",  # a network of its own has nobody to protect from port 80
    "net.ipv6.conf.all.disable_ipv6": "1",  # the egress rules speak IPv4: another way out must not exist
    "net.ipv6.conf.default.disable_ipv6": "1",
}

COMPILED_FILTER = "run.oci.seccomp_bpf_data"
"""crun's own annotation: a filter in the kernel's form, in base64."""

NO_FILES = ("nosuid", "nodev", "noexec")


@dataclass(frozen=True)
class Identity:
    """Who a process in the guest is, by number, as the guest's own /etc/passwd and /etc/group say."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str | None


@dataclass(frozen=True)
class Bind:
    """A host path shown in the guest; `source` is in the bundle and already idmapped where that is wanted."""

    source: Path
    target: str
    readonly: bool
    noexec: bool = False
    device: bool = False
    """It is a device, which is to live."""


@dataclass(frozen=True)
class Device:
    """A character device of the host."""

    major: int
    minor: int


def process(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    workdir: str,
    who: Identity,
    open_files_max: int,
    window: WindowSize | None = None,
) -> Json:
    """One process in the sandbox, with a terminal when `window` is given; main process and exec have the same rights.

    A user other than root has no capabilities, but keeps the bounding set so that it looks the same to all."""
    given = {"PATH": PATH_DEFAULT, "HOME": who.home, **({"TERM": "xterm-256color"} if window else {}), **env}
    held = list(CAPABILITIES) if who.uid == 0 else []
    made: Json = {
        "terminal": window is not None,
        "user": {"uid": who.uid, "gid": who.gid, "additionalGids": list(who.groups), "umask": UMASK},
        "args": list(command),
        "env": [f"{name}={value}" for name, value in given.items()],
        "cwd": posixpath.normpath(workdir or "/"),
        "capabilities": {
            "bounding": list(CAPABILITIES),
            "effective": held,
            "permitted": held,
            "inheritable": [],
            "ambient": [],
        },
        "noNewPrivileges": True,
        "oomScoreAdj": OOM_SCORE_ADJUST,
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": min(OPEN_FILES_SOFT, open_files_max), "hard": open_files_max},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
    }
    if window is not None:
        made["consoleSize"] = {"height": window.rows, "width": window.columns}
    return made


def config(
    *,
    main: Json,
    hostname: str,
    spec: SandboxSpec,
    slot: Slot,
    rootfs: Path,
    cgroup: str,
    binds: Sequence[Bind],
    seccomp: Profile,
    compiled: bytes | None = None,
    devices: Sequence[Device] = (),
) -> Json:
    """The whole sandbox. `compiled` is what crun made of `seccomp` before, which it then takes as it is."""
    annotations = {COMPILED_FILTER: base64.b64encode(compiled).decode()} if compiled else {}
    if compiled:
        # Without its rules, which every exec would read again. It still says: refuse all, should nobody heed the other.
        seccomp = {name: value for name, value in seccomp.items() if name != "syscalls"}
    mapping = [{"containerID": 0, "hostID": slot.uid_base, "size": slot.uid_count}]
    return {
        "ociVersion": "1.0.2",
        "annotations": annotations,
        "process": main,
        "root": {"path": str(rootfs), "readonly": False},
        "hostname": hostname,
        "mounts": [*_system_mounts(spec), *(_bind_mount(bind) for bind in binds)],
        "linux": {
            "namespaces": [
                *({"type": kind} for kind in ("pid", "mount", "ipc", "uts", "cgroup")),
                {"type": "user", "path": str(slot.user_namespace)},
                {"type": "network", "path": str(slot.network_namespace)},
            ],
            "uidMappings": mapping,
            "gidMappings": mapping,
            "cgroupsPath": cgroup,
            "resources": resources(spec, devices),
            "sysctl": SYSCTLS,
            "seccomp": seccomp,
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READONLY),
            "rootfsPropagation": "private",
        },
    }


def ceilings(spec: SandboxSpec) -> Ceilings:
    return Ceilings(
        cpu_quota_us=max(CPU_QUOTA_US_MIN, round(spec.cpu * CPU_PERIOD_US)),
        cpu_period_us=CPU_PERIOD_US,
        memory_bytes=spec.memory,
        pids=spec.pids,
    )


def resources(spec: SandboxSpec, devices: Sequence[Device] = ()) -> Json:
    """Hard ceilings. Device rules begin with deny-all: without it the others would mean nothing."""
    held = ceilings(spec)
    usable = (*DEVICES, *((each.major, each.minor) for each in devices))
    return {
        "devices": [
            {"allow": False, "access": "rwm"},
            *({"allow": True, "type": "c", "major": major, "minor": minor, "access": "rw"} for major, minor in usable),
            {"allow": True, "type": "c", "major": TERMINAL_MAJOR, "access": "rw"},
        ],
        "memory": {"limit": held.memory_bytes, "swap": held.memory_bytes},
        "cpu": {"quota": held.cpu_quota_us, "period": held.cpu_period_us},
        "pids": {"limit": held.pids},
    }


def _system_mounts(spec: SandboxSpec) -> list[Json]:
    shared_bytes = max(1 * MIB, spec.memory // 2)
    terminals = f"newinstance ptmxmode=0666 mode=0620 gid={TTY_GROUP} max={TERMINALS_MAX}".split()
    return [
        _mount("/proc", "proc", *NO_FILES),
        _mount("/dev", "tmpfs", "nosuid", "noexec", "mode=0755", f"size={DEV_BYTES}", f"nr_inodes={DEV_FILES}"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", *terminals),
        _mount("/dev/shm", "tmpfs", *NO_FILES, "mode=1777", f"size={shared_bytes}"),
        _mount("/dev/mqueue", "mqueue", *NO_FILES),
        _mount("/sys", "sysfs", *NO_FILES, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", *NO_FILES, "relatime", "ro"),
    ]


def _mount(target: str, kind: str, *options: str) -> Json:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}


def _bind_mount(bind: Bind) -> Json:
    options = [
        "bind",
        "nosuid",
        "dev" if bind.device else "nodev",
        *(["ro"] if bind.readonly else []),
        *(["noexec"] if bind.noexec else []),
    ]
    return {"destination": bind.target, "type": "bind", "source": str(bind.source), "options": options}
