"""btrfs and loop devices: the pool where disks and checkpoints live."""

from __future__ import annotations

from skerry.cli.checks.finding import Finding, fail, ok
from skerry.cli.checks.host import Host


def look(host: Host) -> list[Finding]:
    return [
        _feature(host, "btrfs", known="\tbtrfs\n" in (host.text("/proc/filesystems") or "")),
        _feature(host, "loop", known=host.exists("/dev/loop-control")),
    ]


def _feature(host: Host, module: str, *, known: bool) -> Finding:
    if known:
        return ok(module, "in the kernel")
    if host.output("modprobe", "--dry-run", module) is not None:
        return ok(module, "a module that loads when it is used")
    mend = f"apt-get install -y kmod linux-image-amd64 && modprobe {module}"
    return fail(module, f"this kernel has no {module}", mend)
