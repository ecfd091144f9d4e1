"""Room on the disk that holds data_dir."""

from __future__ import annotations

from skerry.cli.checks.finding import Finding, fail, ok, warn
from skerry.cli.checks.host import Host
from skerry.model.amounts import format_size

LEAST_BYTES = 6 * 1024**3
"""The smallest pool of 4 GiB, an image and room to breathe."""
COMFORTABLE_BYTES = 20 * 1024**3


def look(host: Host, data_dir: str = "/var/lib/skerry") -> list[Finding]:
    free = host.free_bytes(data_dir)
    say = f"{format_size(free)} free for {data_dir}"
    mend = "skerry serve --data-dir FOLDER, with FOLDER on a larger disk"
    if free < LEAST_BYTES and not host.exists(f"{data_dir}/pool.img"):
        return [fail("disk", f"{say}; at least {format_size(LEAST_BYTES)} is needed", mend)]
    if free < COMFORTABLE_BYTES:
        return [warn("disk", f"{say}; the pool will be small", mend)]
    return [ok("disk", say)]
