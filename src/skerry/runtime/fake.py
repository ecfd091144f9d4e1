"""A runtime that keeps the contract in a folder and starts nothing: for tests of whatever stands on a runtime."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from skerry.errors import Conflict, Invalid, NotFound
from skerry.model.exec import WindowSize
from skerry.model.sandbox import ExitReason, SandboxSpec
from skerry.runtime.contract import Capabilities, Ended, ExecPlan, Found, OnOutput, Process, StartPlan, Usage
from skerry.runtime.fake_shell import USERS, FakeInput, FakeShell

ROOM_BYTES = 1 << 40
FIRST_PID = 100_000


class FakeBox:
    """One fake sandbox that runs, or has run."""

    def __init__(self, plan: StartPlan, pid: int, root: Path, on_output: OnOutput) -> None:
        self.plan = plan
        self.pid = pid
        self.root = root
        self.processes: dict[int, FakeProcess] = {}
        self.oom_kills = 0
        self.frozen = False
        self._on_output = on_output
        self._unheard = bytearray()
        self._reason: ExitReason | None = None
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        shell = FakeShell(
            root=root,
            env=plan.env | plan.secret_env,
            workdir=plan.workdir,
            user=plan.user,
            stdin=FakeInput(is_open=False),
            emit=lambda _, data: self._on_output(data),
        )
        if plan.command and not shell.has(plan.command[0]):
            raise Invalid(f"the sandbox has no program {plan.command[0]} that can be run", field="command")
        # Ends are seen by callback: a task that is cancelled before its first step never runs at all.
        self._task = asyncio.ensure_future(self._live(shell))
        self._task.add_done_callback(lambda _: self._over(shell))

    @property
    def runs(self) -> bool:
        return not self.ended.done()

    def listen(self, on_output: OnOutput) -> None:
        self._on_output = on_output
        on_output(bytes(self._unheard))
        self._unheard.clear()

    def deafen(self) -> None:
        """Its agent died: what it prints waits for the next."""
        self._on_output = self._unheard.extend

    async def kill(self, reason: ExitReason) -> None:
        self._reason = reason
        self._task.cancel()
        await asyncio.shield(self.ended)

    async def _live(self, shell: FakeShell) -> int:
        if self.plan.command:
            return await shell.run(list(self.plan.command))
        await asyncio.Event().wait()
        return 0

    def _over(self, shell: FakeShell) -> None:
        shell.kill_background()
        for process in list(self.processes.values()):
            process.strike(signal.SIGKILL)
        code = 128 + signal.SIGKILL if self._task.cancelled() else self._task.result()
        self.ended.set_result(Ended(code, self._reason or ExitReason.EXITED))


class FakeProcess:
    def __init__(self, box: FakeBox, plan: ExecPlan, pid: int) -> None:
        self.pid = pid
        self._name = plan.name
        self._box = box
        self._output: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self._stdin = FakeInput(is_open=plan.stdin or plan.tty)
        self._shell = FakeShell(
            root=box.root,
            env=plan.env | plan.secret_env,
            workdir=plan.workdir,
            user=plan.user,
            stdin=self._stdin,
            emit=lambda channel, data: self._output.put_nowait((channel, data)),
        )
        self._shell.size = plan.size
        self._signal = 0
        self._at_end = False
        self._code: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._shell.run(list(plan.command)))
        self._task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[int]) -> None:
        self._box.processes.pop(self.pid, None)
        self._stdin.close()
        self._code.set_result(128 + self._signal if task.cancelled() else task.result())
        self._output.put_nowait(None)

    def strike(self, number: int) -> None:
        if not self._code.done():
            self._signal = number
            self._task.cancel()

    def answers_to(self, token: dict[str, str]) -> bool:
        return token == self.token() or token == {"name": self._name}

    def token(self) -> dict[str, str]:
        return {"pid": str(self.pid)}

    async def read(self) -> tuple[int, bytes] | None:
        if self._at_end:
            return None
        chunk = await self._output.get()
        self._at_end = chunk is None
        return chunk

    async def write(self, data: bytes) -> None:
        if not self._stdin.is_open:
            raise Conflict("the command's stdin is closed")
        self._stdin.feed(data)

    async def close_stdin(self) -> None:
        self._stdin.close()

    async def resize(self, size: WindowSize) -> None:
        self._shell.size = size

    async def kill(self, signal: int) -> None:
        self.strike(signal)
        await asyncio.wait({self._code})

    async def wait(self) -> int | None:
        return await asyncio.shield(self._code)

    async def close(self) -> None:
        pass


class FakeMachine:
    """What outlives an agent: disks in `folder`, sandboxes in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boxes: dict[str, FakeBox] = {}
        self.pids = itertools.count(FIRST_PID)


class FakeRuntime:
    name = "fake"

    def __init__(self, machine: FakeMachine) -> None:
        self.capabilities = Capabilities()
        self._machine = machine

    async def open(self) -> None:
        for kind in ("images", "disks", "checkpoints", "volumes", "incoming"):
            (self._machine.folder / kind).mkdir(parents=True, exist_ok=True)

    async def close(self) -> None:
        for box in self._machine.boxes.values():
            box.deafen()

    async def look(self) -> list[Found]:
        disks = set(self._names("disks"))
        running = {name: box.pid for name, box in self._machine.boxes.items() if box.runs}
        return [Found(name, name in disks, running.get(name)) for name in sorted(disks | running.keys())]

    async def room(self) -> tuple[int, int]:
        return ROOM_BYTES, ROOM_BYTES

    # Disks

    async def import_image(self, digest: str, unpack: Callable[[Path], Awaitable[None]]) -> int:
        target = self._path("images", digest)
        if not target.exists():
            draft = self._path("incoming", digest)
            draft.mkdir()
            try:
                await unpack(draft)
                draft.rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return sum(file.lstat().st_size for file in target.rglob("*")) or 1

    def image_path(self, digest: str) -> Path:
        return self._existing("images", digest)

    async def images(self) -> list[str]:
        return self._names("images")

    async def delete_image(self, digest: str) -> None:
        shutil.rmtree(self._path("images", digest), ignore_errors=True)

    async def create_disk(self, sandbox_id: str, source_image: str | None, source_checkpoint: str | None) -> bool:
        if self._path("disks", sandbox_id).exists():
            return False
        if source_image is not None:
            source = self._existing("images", source_image)
        else:
            source = self._existing("checkpoints", str(source_checkpoint))
        return self._copy(source, self._path("disks", sandbox_id))

    def disk_path(self, sandbox_id: str) -> Path:
        return self._existing("disks", sandbox_id)

    def checkpoint_path(self, checkpoint_id: str) -> Path:
        return self._existing("checkpoints", checkpoint_id)

    async def checkpoints(self) -> list[str]:
        return self._names("checkpoints")

    async def delete_checkpoint(self, checkpoint_id: str) -> None:
        shutil.rmtree(self._path("checkpoints", checkpoint_id), ignore_errors=True)

    # Volumes

    async def create_volume(
        self, volume_id: str, source: str | None, limit_bytes: int | None, *, readonly: bool = False
    ) -> None:
        target = self._path("volumes", volume_id)
        if source is not None:
            self._copy(self._existing("volumes", source), target)
        target.mkdir(exist_ok=True)

    async def resize_volume(self, volume_id: str, limit_bytes: int) -> None:
        self.volume_path(volume_id)

    def volume_path(self, volume_id: str) -> Path:
        return self._existing("volumes", volume_id)

    async def volumes(self) -> dict[str, int]:
        return dict.fromkeys(self._names("volumes"), 0)

    async def delete_volume(self, volume_id: str) -> None:
        shutil.rmtree(self._path("volumes", volume_id), ignore_errors=True)

    # Life

    async def start(self, plan: StartPlan, on_output: OnOutput) -> int:
        pid = await self.adopt(plan.sandbox_id, on_output)
        if pid is None:
            pid = next(self._machine.pids)
            box = FakeBox(plan, pid, self.disk_path(plan.sandbox_id), on_output)
            self._machine.boxes[plan.sandbox_id] = box
        return pid

    async def adopt(self, sandbox_id: str, on_output: OnOutput) -> int | None:
        box = self._machine.boxes.get(sandbox_id)
        if box is None or not box.runs:
            return None
        box.listen(on_output)
        box.frozen = False
        return box.pid

    async def wait(self, sandbox_id: str) -> Ended:
        box = self._machine.boxes.get(sandbox_id)
        return await asyncio.shield(box.ended) if box else Ended(None, ExitReason.LOST)

    async def stop(self, sandbox_id: str, grace_s: float) -> None:
        box = self._machine.boxes.get(sandbox_id)
        if box is not None and box.runs:
            await box.kill(ExitReason.STOPPED)

    async def destroy(self, sandbox_id: str) -> None:
        await self.stop(sandbox_id, 0)
        self._machine.boxes.pop(sandbox_id, None)
        shutil.rmtree(self._path("disks", sandbox_id), ignore_errors=True)

    async def checkpoint(self, sandbox_id: str, checkpoint_id: str) -> float:
        self._copy(self.disk_path(sandbox_id), self._path("checkpoints", checkpoint_id))
        box = self._machine.boxes.get(sandbox_id)
        return 1.0 if box is not None and box.runs and not box.frozen else 0.0

    async def restore(self, sandbox_id: str, checkpoint_id: str) -> None:
        source = self.checkpoint_path(checkpoint_id)
        shutil.rmtree(self._path("disks", sandbox_id), ignore_errors=True)
        self._copy(source, self._path("disks", sandbox_id))

    # Sleep

    async def freeze(self, sandbox_id: str, *, squeeze: bool = False) -> None:
        box = self._machine.boxes.get(sandbox_id)
        if box is None or not box.runs:
            raise Conflict("the sandbox does not run; start it first")
        box.frozen = True

    async def thaw(self, sandbox_id: str) -> None:
        box = self._machine.boxes.get(sandbox_id)
        if box is not None:
            box.frozen = False

    # While it runs

    async def limit(self, sandbox_id: str, spec: SandboxSpec) -> None:
        pass

    def main_pid(self, sandbox_id: str) -> int | None:
        return None

    async def exec(self, sandbox_id: str, plan: ExecPlan) -> Process:
        box = self._machine.boxes.get(sandbox_id)
        if box is None or not box.runs:
            raise Conflict("the sandbox does not run; start it first")
        name = plan.user.partition(":")[0]
        if name not in USERS and not name.isdigit():
            raise Invalid(f"the sandbox has no user {name}", field="user")
        if plan.workdir not in ("/", "/tmp") and not (box.root / plan.workdir.lstrip("/")).is_dir():
            raise Invalid(f"the sandbox has no folder {plan.workdir}", field="workdir")
        process = FakeProcess(box, plan, next(self._machine.pids))
        box.processes[process.pid] = process
        return process

    async def adopt_exec(self, sandbox_id: str, token: dict[str, str]) -> Process | None:
        box = self._machine.boxes.get(sandbox_id)
        return next((found for found in box.processes.values() if found.answers_to(token)), None) if box else None

    async def usage(self, sandbox_id: str) -> Usage:
        self.disk_path(sandbox_id)
        box = self._machine.boxes.get(sandbox_id)
        pids = 1 + len(box.processes) if box is not None and box.runs else 0
        return Usage(0.0, 0, 0, box.oom_kills if box is not None else 0, pids, 0, 0, 0)

    # Inside

    def _path(self, kind: str, name: str) -> Path:
        return self._machine.folder / kind / name

    def _existing(self, kind: str, name: str) -> Path:
        path = self._path(kind, name)
        if not path.is_dir():
            raise NotFound(f"there is no {name} in {kind}")
        return path

    def _names(self, kind: str) -> list[str]:
        return sorted(entry.name for entry in (self._machine.folder / kind).iterdir())

    def _copy(self, source: Path, target: Path) -> bool:
        if target.exists():
            return False
        shutil.copytree(source, target, symlinks=True)
        return True
