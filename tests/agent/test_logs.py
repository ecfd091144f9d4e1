"""A sandbox's log: rotated by size, compressed, so many kept, followed across a rotation."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

from skerry.agent.logs import OutputLog


async def collect(log: OutputLog, *, follow: bool = False, tail: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in log.read(follow=follow, tail=tail)])


def test_rotates_compresses_and_keeps_only_the_newest(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = OutputLog(tmp_path / "box", bytes_max=100, keep=2)
        for number in range(50):
            log.write(f"line {number:04d}\n".encode())
        await log.close()
        packed = sorted((tmp_path / "box").glob("*.gz"))
        assert [path.name for path in packed] == ["00000004.gz", "00000005.gz"]
        assert gzip.decompress(packed[-1].read_bytes()) == b"".join(b"line %04d\n" % n for n in range(40, 50))
        assert await collect(log) == b"".join(b"line %04d\n" % n for n in range(30, 50))

    asyncio.run(scenario())


def test_tail_gives_the_last_lines_even_from_a_rotated_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = OutputLog(tmp_path / "box", bytes_max=100, keep=5)
        for number in range(12):
            log.write(f"line {number:04d}\n".encode())
        await log.close()
        assert await collect(log, tail=1) == b"line 0011\n"
        assert await collect(log, tail=4) == b"line 0008\nline 0009\nline 0010\nline 0011\n"
        assert await collect(log, tail=0) == b""
        assert (await collect(log, tail=1000)).count(b"\n") == 12

    asyncio.run(scenario())


def test_follow_sees_every_line_across_rotations(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = OutputLog(tmp_path / "box", bytes_max=64, keep=3)
        seen = bytearray()

        async def follow() -> None:
            async for chunk in log.read(follow=True, tail=None):
                seen.extend(chunk)

        task = asyncio.create_task(follow())
        for number in range(40):
            log.write(f"line {number:04d}\n".encode())
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.05)
        task.cancel()
        await log.close()
        assert bytes(seen) == b"".join(b"line %04d\n" % n for n in range(40))

    asyncio.run(scenario())


def test_a_log_survives_its_writer(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = OutputLog(tmp_path / "box", bytes_max=1000, keep=1)
        first.write(b"before\n")
        await first.close()
        second = OutputLog(tmp_path / "box", bytes_max=1000, keep=1)
        second.write(b"after\n")
        assert await collect(second) == b"before\nafter\n"
        await second.close()

    asyncio.run(scenario())
