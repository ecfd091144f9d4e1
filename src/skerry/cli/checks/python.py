"""The Python that runs us."""

from __future__ import annotations

import sys

from skerry.cli.checks.finding import Finding, fail, install, ok
from skerry.cli.checks.host import Host

LEAST = (3, 11)


def look(host: Host) -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if tuple(sys.version_info) < LEAST:
        return [fail("python", f"{version}; 3.11 or newer is needed", install("python3"))]
    return [ok("python", version)]
