"""What the kernel must be able to do: user namespaces, seccomp, idmapped mounts of btrfs."""

from __future__ import annotations

from skerry.cli.checks.finding import Finding, fail, ok, warn
from skerry.cli.checks.host import Host

IDMAPPED_BTRFS = (5, 15)
SIMPLE_QUOTAS = (6, 7)
NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")


def look(host: Host) -> list[Finding]:
    return [_version(host), _namespaces(host), _seccomp(host)]


def _version(host: Host) -> Finding:
    version = ".".join(map(str, host.kernel()))
    if host.kernel() < IDMAPPED_BTRFS:
        say = f"{version}; idmapped mounts of btrfs need 5.15"
        return fail("kernel", say, "apt-get install -y linux-image-amd64 && reboot")
    if host.kernel() < SIMPLE_QUOTAS:
        return warn("kernel", f"{version}; disk limits use full quota groups, slower than the simple ones of 6.7")
    return ok("kernel", f"{version}: idmapped mounts, simple quotas")


def _namespaces(host: Host) -> Finding:
    absent = [name for name in NAMESPACES if not host.exists(f"/proc/self/ns/{name}")]
    if absent:
        return fail("namespaces", f"the kernel has no {', '.join(absent)} namespaces; boot one that has")
    if (host.text("/proc/sys/user/max_user_namespaces") or "1").strip() == "0":
        say = "user namespaces are switched off"
        return fail("namespaces", say, "sysctl -w user.max_user_namespaces=65536")
    return ok("namespaces", "user, pid, mount, network, ipc, uts, cgroup")


def _seccomp(host: Host) -> Finding:
    if "errno" not in (host.text("/proc/sys/kernel/seccomp/actions_avail") or ""):
        return fail("seccomp", "the kernel has no seccomp filter; boot one with CONFIG_SECCOMP_FILTER")
    return ok("seccomp", "filters work")
