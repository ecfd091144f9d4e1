"""A real container runtime for tests: a private mount namespace, a pool with a Debian image, slots with namespaces."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import secrets
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from skerry.errors import SkerryError
from skerry.model.sandbox import GIB, SandboxSpec
from skerry.runtime.catalog import CATALOG, prepare_process
from skerry.runtime.conformance_kit import until
from skerry.runtime.container.memory import memory_folder
from skerry.runtime.container.syscalls import bind_file, umount
from skerry.runtime.contract import ExecPlan, HostMount, Runtime, Slot, StartPlan
from skerry.settings import Settings
from tests.server import debian_tree

IMAGE = "sha256:debian-12-minbase"
UID_BASE_FIRST = 1_000_000 + 12_000 * 65_536
"""Far above what an installation on this machine hands out."""
UID_COUNT = 65_536
CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

T = TypeVar("T")

if os.geteuid() == 0:
    prepare_process()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "machine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.system)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="real sandboxes need root"))


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One loop for a runtime's life, as in the agent. Not for longer than a module: tests elsewhere change the mount
    namespace of the main thread, and the loop's worker threads would stay behind in the old one."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


class Machine:
    """A runtime with what a test needs around it. Every sandbox made through it is destroyed at the end."""

    def __init__(
        self,
        runtime: Runtime,
        loop: asyncio.AbstractEventLoop,
        folder: Path,
        settings: Settings,
        numbers: Iterator[int],
    ) -> None:
        self.runtime = runtime
        self.folder = folder
        self.settings = settings
        self._loop = loop
        self._numbers = numbers
        self._slots: list[Path] = []
        self._names: list[str] = []
        self.output: dict[str, bytearray] = {}

    def run(self, work: Awaitable[T]) -> T:
        async def bounded() -> T:
            try:
                async with asyncio.timeout(60):
                    return await work
            except SkerryError as error:
                error.add_note(f"because: {error.because}")
                raise

        return self._loop.run_until_complete(bounded())

    def new_id(self) -> str:
        sandbox_id = f"sb-{secrets.token_hex(4)}"
        self._names.append(sandbox_id)
        return sandbox_id

    def slot(self) -> Slot:
        number = next(self._numbers)
        folder = self.folder / "slots" / str(number)
        folder.mkdir(parents=True)
        self._slots.append(folder)
        uid_base = UID_BASE_FIRST + number * UID_COUNT
        make_namespaces(folder, uid_base)
        return Slot(
            number=number,
            uid_base=uid_base,
            uid_count=UID_COUNT,
            user_namespace=folder / "user",
            network_namespace=folder / "net",
            address="10.201.0.2",
            nameserver="10.201.0.1",
        )

    def plan(self, sandbox_id: str, slot: Slot | None = None, **wanted: Any) -> StartPlan:
        keys = ("env", "workdir", "user", "guest_socket_folder", "hostname", "devices")
        outer = {key: wanted.pop(key) for key in keys if key in wanted}
        spec = SandboxSpec(image="debian:12", **wanted)
        given: dict[str, Any] = {
            "sandbox_id": sandbox_id,
            "hostname": "box",
            "spec": spec,
            "slot": slot or self.slot(),
            "command": spec.command or (),
            "env": {"PATH": PATH},
            "workdir": "/",
            "user": "root",
            "mounts": [HostMount(each.target, Path(str(each.source)), each.readonly) for each in spec.mounts],
        }
        return StartPlan(**(given | outer))

    def box(self, sandbox_id: str | None = None, **wanted: Any) -> str:
        """A sandbox that runs."""
        sandbox_id = sandbox_id or self.new_id()
        self.run(self.runtime.create_disk(sandbox_id, IMAGE, None))
        self.run(self.runtime.start(self.plan(sandbox_id, **wanted), self.collect(sandbox_id)))
        return sandbox_id

    def collect(self, sandbox_id: str) -> Callable[[bytes], None]:
        return self.output.setdefault(sandbox_id, bytearray()).extend

    def said(self, sandbox_id: str, count: int) -> list[str]:
        """The first lines of the main command, once there are so many: they come when they come."""
        self.run(until(lambda: self.output[sandbox_id].count(b"\n") >= count))
        return self.output[sandbox_id].decode().splitlines()

    def exec(self, sandbox_id: str, *command: str, stdin: bytes | None = None, **wanted: Any) -> tuple[int | None, str]:
        """(exit code, stdout and stderr together)"""
        code, out, err = self.run(self.exec_async(sandbox_id, *command, stdin=stdin, **wanted))
        return code, (out + err).decode(errors="replace")

    def sh(self, sandbox_id: str, script: str, **wanted: Any) -> tuple[int | None, str]:
        return self.exec(sandbox_id, "sh", "-c", script, **wanted)

    async def exec_async(
        self, sandbox_id: str, *command: str, stdin: bytes | None = None, **wanted: Any
    ) -> tuple[int | None, bytes, bytes]:
        given: dict[str, Any] = {"env": {"PATH": PATH}, "workdir": "/", "user": "root"}
        plan = ExecPlan(command=command, stdin=stdin is not None, **(given | wanted))
        process = await self.runtime.exec(sandbox_id, plan)
        if stdin is not None:
            await process.write(stdin)
            await process.close_stdin()
        streams = {1: bytearray(), 2: bytearray()}
        while (chunk := await process.read()) is not None:
            streams[chunk[0]] += chunk[1]
        code = await process.wait()
        await process.close()
        return code, bytes(streams[1]), bytes(streams[2])

    def keep(self) -> Machine:
        """Another view on the same machine, whose sandboxes stay when this one is cleaned."""
        return Machine(self.runtime, self._loop, self.folder, self.settings, self._numbers)

    def clean(self) -> None:
        for sandbox_id in self._names:
            self.run(self.runtime.destroy(sandbox_id))
        self._names.clear()
        for folder in self._slots:
            for name in ("user", "net"):
                umount(folder / name, lazy=True)
            shutil.rmtree(folder)
        self._slots.clear()


def make_namespaces(folder: Path, uid_base: int) -> None:
    """A user namespace and a network namespace that it owns, pinned as files."""
    libc = ctypes.CDLL(None, use_errno=True)
    to_child, to_parent = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        failed = libc.unshare(CLONE_NEWUSER)
        os.write(to_parent[1], b"u")
        os.read(to_child[0], 1)
        failed |= libc.unshare(CLONE_NEWNET)
        os.write(to_parent[1], b"x" if failed else b"n")
        os.read(to_child[0], 1)
        os._exit(0)
    os.read(to_parent[0], 1)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{name}").write_text(f"0 {uid_base} {UID_COUNT}")
    os.write(to_child[1], b"u")
    assert os.read(to_parent[0], 1) == b"n", "no user or network namespaces here"
    bind_file(f"/proc/{child}/ns/user", folder / "user")
    bind_file(f"/proc/{child}/ns/net", folder / "net")
    os.write(to_child[1], b"n")
    os.waitpid(child, 0)
    for fd in (*to_child, *to_parent):
        os.close(fd)


def make_settings(folder: Path) -> Settings:
    return Settings(data_dir=folder / "data", run_dir=folder / "run", pool_size=3 * GIB, pool_reserve=64 * 1024**2)


async def unpack_debian(target: Path) -> None:
    arguments = ["tar", "-C", str(target), "--numeric-owner", "-xpf", str(debian_tree())]
    await asyncio.to_thread(subprocess.run, arguments, check=True)


@pytest.fixture(scope="module")
def module_machine(loop: asyncio.AbstractEventLoop) -> Iterator[Machine]:
    folder = Path(f"/var/tmp/skerry-runtime-{secrets.token_hex(3)}")
    folder.mkdir()
    settings = make_settings(folder)
    settings.data_dir.mkdir()
    settings.run_path.mkdir(mode=0o700)
    machine = Machine(CATALOG["container"](settings), loop, folder, settings, itertools.count())
    try:
        machine.run(machine.runtime.open())
        machine.run(machine.runtime.import_image(IMAGE, unpack_debian))
        yield machine
    finally:
        machine.clean()
        machine.run(machine.runtime.close())
        for left in (folder, memory_folder(settings.run_path)):
            subprocess.run(["rm", "-rf", "--one-file-system", str(left)], check=True)


@pytest.fixture
def machine(module_machine: Machine) -> Iterator[Machine]:
    yield module_machine
    module_machine.clean()
