"""A Debian image from the host's mirror, and that a build which is broken off leaves no process, mount or file."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from skerry.agent.images.progress import Step
from skerry.errors import Invalid
from tests.agent.images_machine import FolderRuntime, Told, make_store, nothing_left, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]  # packages are fetched and unpacked


def _at_work(folder: Path) -> list[str]:
    """Processes that have `folder` in their command line or are inside it."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            places = os.readlink(path.with_name("root")) + os.readlink(path.with_name("cwd"))
        except OSError:
            continue
        if path.parent.name != str(os.getpid()) and str(folder) in line + places:
            found.append(line)
    return found


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir(mode=0o700)
    return tmp_path


def test_debian_from_packages(open_folder: Path) -> None:
    runtime, told = FolderRuntime(open_folder / "pool"), Told()

    async def build() -> str:
        store = make_store(open_folder / "data", runtime)
        await store.open()
        made = await store.build("im-1", "debian:12", ["less"], told)
        assert made.config.cmd == []
        return made.digest

    tree = runtime.image_path(asyncio.run(build()))
    assert (tree / "usr/bin/less").exists()
    assert (tree / "etc/os-release").read_text().count("bookworm")
    installed = subprocess.run(["chroot", str(tree), "dpkg", "-l"], capture_output=True, text=True, check=True).stdout
    assert " less " in installed
    for name in ("etc/hostname", "etc/resolv.conf", "etc/machine-id", "etc/apt/apt.conf.d/99mmdebstrap"):
        assert not (tree / name).exists(), name
    assert "bookworm main" in (tree / "etc/apt/sources.list").read_text()
    assert told.steps() == [step for step in Step if step is not Step.CONVERT]
    assert nothing_left(open_folder / "data", runtime)


def test_a_cancelled_build_leaves_nothing(open_folder: Path) -> None:
    runtime, told = FolderRuntime(open_folder / "pool"), Told()

    async def build() -> None:
        store = make_store(open_folder / "data", runtime)
        await store.open()
        task = asyncio.create_task(store.build("im-1", "debian:12", [], told))
        await until(lambda: Step.DOWNLOAD in told.steps())
        assert _at_work(open_folder)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(build())
    assert nothing_left(open_folder / "data", runtime)
    assert _at_work(open_folder) == []
    assert str(open_folder) not in Path("/proc/mounts").read_text()


def _build_until_killed(folder: Path) -> None:
    async def build() -> None:
        store = make_store(folder / "data", FolderRuntime(folder / "pool"))
        await store.open()
        await store.build("im-1", "debian:12", [], lambda *_: None)

    asyncio.run(build())


def test_a_killed_agent_takes_its_build_along(open_folder: Path) -> None:
    agent = multiprocessing.get_context("spawn").Process(target=_build_until_killed, args=(open_folder,))
    agent.start()
    assert agent.pid is not None
    deadline_s = time.monotonic() + 60
    while not any("mmdebstrap" in line for line in _at_work(open_folder)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    os.kill(agent.pid, signal.SIGKILL)
    agent.join()
    while _at_work(open_folder) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert _at_work(open_folder) == []

    async def next_agent() -> None:
        await make_store(open_folder / "data", FolderRuntime(open_folder / "pool")).open()

    assert any((open_folder / "data/incoming").iterdir())
    asyncio.run(next_agent())
    assert not any((open_folder / "data/incoming").iterdir())


def test_what_is_no_recipe_is_refused(open_folder: Path) -> None:
    runtime = FolderRuntime(open_folder / "pool")

    async def build() -> None:
        store = make_store(open_folder / "data", runtime)
        await store.open()
        with pytest.raises(Invalid, match="recipes are"):
            await store.build("im-1", "arch:1", [], Told())
        with pytest.raises(Invalid, match="'apt-'"):
            await store.build("im-1", "debian:12", ["apt-"], Told())

    asyncio.run(build())
    assert nothing_left(open_folder / "data", runtime)
