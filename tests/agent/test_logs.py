"""A sandbox's log: rotated by size, compressed, so many kept, followed across a rotation."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

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
            # Of what was rotated away long ago nothing is there for whoever is slower than that.
            await until(lambda number=number: len(seen) >= 10 * (number - 15))
        await until(lambda: len(seen) >= 400)
        task.cancel()
        await log.close()
        assert bytes(seen) == b"".join(b"line %04d\n" % n for n in range(40))

    asyncio.run(scenario())


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        await asyncio.sleep(0)
        while not true():  # noqa: ASYNC110 — what is tested is who tells
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("tail", [None, 2])
def test_whoever_reads_slowly_misses_no_file_and_reads_none_twice(tmp_path: Path, tail: int | None) -> None:
    async def scenario() -> None:
        log = OutputLog(tmp_path / "box", bytes_max=30, keep=9)
        lines = [b"line %04d\n" % number for number in range(20)]
        for line in lines[:5]:
            log.write(line)
        reading = log.read(follow=True, tail=tail, until_end=True)
        seen = await anext(reading)
        for line in lines[5:]:  # five files full, of which the reader has the first open
            log.write(line)
        log.end()
        async for chunk in reading:
            seen += chunk
        assert seen == b"".join(lines if tail is None else lines[3:])
        await log.close()

    asyncio.run(scenario())


def test_a_file_that_is_being_packed_is_read_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = OutputLog(tmp_path / "box", bytes_max=1000, keep=3)
        (tmp_path / "box/00000001.log").write_bytes(b"once\n")
        (tmp_path / "box/00000001.gz").write_bytes(gzip.compress(b"once\n"))
        log.write(b"and on\n")
        assert await collect(log) == b"once\nand on\n"
        await log.close()

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
