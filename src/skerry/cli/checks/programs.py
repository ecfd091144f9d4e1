"""The programs of others that we start, each with the package it comes in."""

from __future__ import annotations

import re

from skerry.cli.checks.finding import Finding, fail, install, ok, warn
from skerry.cli.checks.host import Host

CRUN_LEAST = (1, 8)
ESSENTIAL = (
    ("catatonit", "catatonit", "is the first process of each sandbox"),
    ("mkfs.btrfs", "btrfs-progs", "makes the pool"),
    ("losetup", "util-linux", "attaches the pool"),
    ("ip", "iproute2", "shows networks"),
    ("nft", "nftables", "shows the firewall"),
)
FOR_IMAGES = (
    ("skopeo", "skopeo", "pulls images"),
    ("umoci", "umoci", "unpacks images"),
    ("mmdebstrap", "mmdebstrap", "builds images from recipes"),
)
LIBNFTABLES = "libnftables.so.1"


def look(host: Host) -> list[Finding]:
    findings = [_crun(host)]
    for command, package, purpose in ESSENTIAL:
        findings.append(_command(host, command, package, purpose, essential=True))
    findings.append(_libnftables(host))
    for command, package, purpose in FOR_IMAGES:
        findings.append(_command(host, command, package, purpose, essential=False))
    return findings


def _crun(host: Host) -> Finding:
    told = host.output("crun", "--version")
    found = re.search(r"crun version (\d+)\.(\d+)", told or "")
    if found is None:
        return fail("crun", "not found", install("crun"))
    version = int(found[1]), int(found[2])
    text = ".".join(map(str, version))
    if version < CRUN_LEAST:
        return fail("crun", f"{text}; 1.8 or newer is needed", install("crun"))
    return ok("crun", text)


def _command(host: Host, command: str, package: str, purpose: str, *, essential: bool) -> Finding:
    where = host.which(command)
    if where:
        return ok(command, where)
    return (fail if essential else warn)(command, f"not found; it {purpose}", install(package))


def _libnftables(host: Host) -> Finding:
    if LIBNFTABLES in (host.output("ldconfig", "-p") or ""):
        return ok("libnftables", "found")
    return fail("libnftables", "not found; it writes the firewall", install("libnftables1"))
