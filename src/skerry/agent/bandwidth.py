"""How fast a sandbox may send and receive: a token bucket on each end of its cable, both out of its reach.

Each end shapes what leaves it: the end inside what the sandbox sends, the host's end what it gets. Shaping delays where
policing would drop, so that TCP settles at the rate instead of around it. tc-tbf(8); two programs for a sandbox with a
limit, nothing for one without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from skerry.agent.links import GUEST_LINK
from skerry.errors import Failed
from skerry.model.sandbox import Bandwidth

BURST_S = 0.01
BURST_BYTES_MIN = 64 * 1024
"""The largest packet that the kernel hands to a link in one piece."""
LATENCY_MS = 100
_SEARCH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class BandwidthLimits:
    def __init__(self) -> None:
        self._shaped: dict[str, Bandwidth] = {}

    async def set(self, link: str, network: Path, wanted: Bandwidth) -> None:
        """`link` is the host's end, `network` the file of the other end's namespace. Repeating it changes nothing."""
        if wanted == self._shaped.get(link, Bandwidth()):
            return
        await self._shape(["tc"], link, wanted.down)
        await self._shape(["nsenter", f"--net={network}", "tc"], GUEST_LINK, wanted.up)
        self._shaped[link] = wanted

    def forget(self, link: str) -> None:
        """The cable is taken down, and its limits with it."""
        self._shaped.pop(link, None)

    async def _shape(self, tc: Sequence[str], link: str, bits_per_s: int | None) -> None:
        if bits_per_s is None:
            # There may be none: then tc fails, and that is what is wanted.
            await _run([*tc, "qdisc", "del", "dev", link, "root"])
            return
        burst_bytes = max(BURST_BYTES_MIN, int(bits_per_s / 8 * BURST_S))
        bucket = ["rate", f"{bits_per_s}bit", "burst", f"{burst_bytes}b", "latency", f"{LATENCY_MS}ms"]
        code, words = await _run([*tc, "qdisc", "replace", "dev", link, "root", "tbf", *bucket])
        if code != 0:
            raise Failed("the bandwidth limit could not be set: see `skerry doctor`", because=words)


async def _run(command: Sequence[str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=_SEARCH,
    )
    _, words = await process.communicate()
    return process.returncode, words.decode(errors="replace").strip()
