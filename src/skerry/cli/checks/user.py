"""Root, because namespaces, mounts, cgroups and nftables all need it."""

from __future__ import annotations

from skerry.cli.checks.finding import Finding, fail, ok
from skerry.cli.checks.host import Host


def look(host: Host) -> list[Finding]:
    if host.user_id() != 0:
        return [fail("root", "this user may not make sandboxes", "sudo skerry doctor")]
    return [ok("root", "running as root")]
