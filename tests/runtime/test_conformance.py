"""Every runtime keeps the contract."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from skerry.model.sandbox import SandboxSpec
from skerry.runtime.catalog import CATALOG
from skerry.runtime.conformance import CHECKS, Check
from skerry.runtime.contract import Runtime, Slot, StartPlan
from skerry.runtime.fake import FakeMachine, FakeRuntime
from tests.runtime.conftest import IMAGE, Machine


class ContainerKit:
    image = IMAGE

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @property
    def runtime(self) -> Runtime:
        return self._machine.runtime

    def new_id(self) -> str:
        return self._machine.new_id()

    def plan(self, sandbox_id: str, command: Sequence[str] = ()) -> StartPlan:
        return self._machine.plan(sandbox_id, command=list(command) or None)

    async def restart(self) -> None:
        await self._machine.runtime.close()
        self._machine.runtime = CATALOG["container"](self._machine.settings)
        await self._machine.runtime.open()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_container(check: Check, machine: Machine) -> None:
    machine.run(check(ContainerKit(machine)))


class FakeKit:
    image = "sha256:fake"

    def __init__(self, folder: Path) -> None:
        self._machine = FakeMachine(folder)
        self._numbers = itertools.count()
        self.runtime: Runtime = FakeRuntime(self._machine)

    def new_id(self) -> str:
        return f"sb-{next(self._numbers)}"

    def plan(self, sandbox_id: str, command: Sequence[str] = ()) -> StartPlan:
        nowhere = Path("/nonexistent")
        return StartPlan(
            sandbox_id=sandbox_id,
            hostname="box",
            spec=SandboxSpec(image="fake", command=list(command) or None),
            slot=Slot(0, 1_000_000, 65536, nowhere, nowhere, None, None),
            command=command,
            env={},
            workdir="/",
            user="root",
        )

    async def open(self) -> None:
        async def unpack(folder: Path) -> None:
            for name in ("root", "etc", "tmp"):
                (folder / name).mkdir()
            (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")

        await self.runtime.open()
        await self.runtime.import_image(self.image, unpack)

    async def restart(self) -> None:
        await self.runtime.close()
        self.runtime = FakeRuntime(self._machine)
        await self.runtime.open()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_fake(check: Check, tmp_path: Path) -> None:
    async def checked() -> None:
        kit = FakeKit(tmp_path)
        await kit.open()
        await check(kit)

    asyncio.run(checked())
