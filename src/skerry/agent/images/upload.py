"""An archive on its way in: spooled to a file, bounded in bytes and in patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from skerry.agent.images.unpack import CHECK_BYTES
from skerry.agent.images.work import Job
from skerry.errors import TooLarge, Unavailable
from skerry.model.amounts import format_size

STALLED_S = 120.0
"""A sender that sends nothing for so long has gone, and gives its seat to another."""


class Upload:
    """An archive that has arrived; give it to `ImageStore.load`, then close it."""

    def __init__(self, job: Job, archive: Path, holds: AsyncExitStack) -> None:
        self.job = job
        self.archive = archive
        self._holds = holds

    async def close(self) -> None:
        await self._holds.aclose()


def too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"an archive may be {format_size(bytes_max)} at most")


async def spool(chunks: AsyncIterator[bytes], job: Job, bytes_max: int) -> Path:
    """Into a file of the job's folder; raises TooLarge as soon as it is."""
    archive = job.folder / "archive"
    done_bytes = unchecked_bytes = 0
    with archive.open("wb") as file:
        while True:
            try:
                async with asyncio.timeout(STALLED_S):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                raise Unavailable(f"the upload stood still for {STALLED_S:.0f} s; send it again") from None
            if chunk is None:
                return archive
            done_bytes += len(chunk)
            unchecked_bytes += len(chunk)
            if done_bytes > bytes_max:
                raise too_large(bytes_max)
            await asyncio.to_thread(file.write, chunk)
            if unchecked_bytes > CHECK_BYTES:
                unchecked_bytes = 0
                await job.check()
