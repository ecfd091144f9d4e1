"""QEMU and KVM: not used yet, told so that a host can be chosen for hostile code in time."""

from __future__ import annotations

from skerry.cli.checks.finding import Finding, install, ok, warn
from skerry.cli.checks.host import Host

FOR_LATER = "only virtual machines, which come later, need it"


def look(host: Host) -> list[Finding]:
    return [_qemu(host), _kvm(host)]


def _qemu(host: Host) -> Finding:
    where = host.which("qemu-system-x86_64") or host.which("qemu-system-aarch64")
    if where:
        return ok("qemu", where)
    return warn("qemu", f"not found; {FOR_LATER}", install("--no-install-recommends qemu-system-x86 qemu-utils"))


def _kvm(host: Host) -> Finding:
    # That the device opens does not prove that guests run: nested hosts may still fail, so this never says more.
    if host.exists("/dev/kvm"):
        return ok("kvm", "/dev/kvm exists; whether guests run shows only when one is booted")
    return warn("kvm", f"no /dev/kvm, so virtual machines will be emulated; {FOR_LATER}")
