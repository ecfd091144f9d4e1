"""Control groups, in either version, with the controllers that make limits hold."""

from __future__ import annotations

from skerry.cli.checks.finding import Finding, fail, ok
from skerry.cli.checks.host import Host

NEEDED = ("cpu", "memory", "pids")
NEEDED_V1 = (*NEEDED, "devices", "freezer")
"""In version 2 the freezer is built in and devices are held by an eBPF program."""
REMOUNT_V2 = "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line, then reboot"


def look(host: Host) -> list[Finding]:
    unified = host.text("/sys/fs/cgroup/cgroup.controllers")
    if unified is not None:
        absent = [name for name in NEEDED if name not in unified.split()]
        if absent:
            return [fail("cgroups", f"version 2 without {', '.join(absent)}", _enable(absent))]
        return [ok("cgroups", "version 2")]
    absent = [name for name in NEEDED_V1 if not host.exists(f"/sys/fs/cgroup/{name}/tasks")]
    if absent:
        return [fail("cgroups", f"version 1 without {', '.join(absent)}", REMOUNT_V2)]
    if host.exists("/sys/fs/cgroup/unified/cgroup.controllers"):
        return [ok("cgroups", "hybrid; version 1 is used, the empty version 2 tree is hidden from sandboxes")]
    return [ok("cgroups", "version 1")]


def _enable(absent: list[str]) -> str:
    flags = " ".join(f"+{name}" for name in absent)
    return f"echo '{flags}' > /sys/fs/cgroup/cgroup.subtree_control"
