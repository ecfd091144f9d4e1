"""Every check in the order it is told; a new one is a file beside this and a line here."""

from __future__ import annotations

from collections.abc import Callable

from skerry.cli.checks import btrfs, cgroups, forwarding, kernel, programs, python, space, user, virtual_machines
from skerry.cli.checks.finding import Finding, Level
from skerry.cli.checks.host import Host

Check = Callable[[Host], list[Finding]]


def everything(host: Host, data_dir: str) -> list[Finding]:
    checks: list[Check] = [
        user.look,
        python.look,
        kernel.look,
        cgroups.look,
        btrfs.look,
        programs.look,
        lambda this: space.look(this, data_dir),
        forwarding.look,
        virtual_machines.look,
    ]
    return [finding for check in checks for finding in check(host)]


def misses(host: Host, data_dir: str) -> list[Finding]:
    """What keeps `skerry serve` from working; the checks that only ever warn are left out, to start quickly."""
    checks: list[Check] = [
        user.look,
        kernel.look,
        cgroups.look,
        btrfs.look,
        programs.look,
        lambda this: space.look(this, data_dir),
    ]
    return [finding for check in checks for finding in check(host) if finding.level is Level.FAIL]
