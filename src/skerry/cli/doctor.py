"""`skerry doctor`: can this host run sandboxes, and if not, which command mends it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import command

if TYPE_CHECKING:
    from skerry.cli.checks.finding import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@command("doctor", short_help="Check this machine and say what mends each miss.")
@click.option(
    "--data-dir",
    envvar="SKERRY_DATA_DIR",
    default="/var/lib/skerry",
    show_default=True,
    help="Where `skerry serve` will keep data [SKERRY_DATA_DIR].",
)
def doctor(invocation: Invocation, data_dir: str) -> None:
    """Check this host: kernel, cgroups, btrfs, crun, nftables, disk space and what is useful later.

    Exit code 0 when sandboxes can run here (warnings allowed), 1 when something must be mended first.
    """
    from skerry.cli.checks.catalog import everything
    from skerry.cli.checks.finding import Level
    from skerry.cli.checks.host import ThisHost

    findings = everything(ThisHost(), data_dir)
    failed = any(finding.level is Level.FAIL for finding in findings)
    if invocation.output.json:
        click.echo(json.dumps({"ok": not failed, "checks": [finding.wire() for finding in findings]}, indent=2))
    else:
        for text in lines(findings):
            click.echo(text)
        click.echo("Something must be mended first." if failed else "Sandboxes can run here: sudo skerry serve")
    raise SystemExit(1 if failed else 0)


def lines(findings: list[Finding]) -> list[str]:
    """One line each; under a miss the command that mends it."""
    width = max((len(finding.name) for finding in findings), default=0)
    told: list[str] = []
    for finding in findings:
        level = click.style(f"{finding.level.value:<4}", fg=COLOURS[finding.level.value])
        told.append(f"{level}  {finding.name:<{width}}  {finding.say}")
        if finding.mend:
            told.append(f"      {'':<{width}}  mend: {finding.mend}")
    return told
