"""One sandbox that runs: its main process, its output, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from skerry.model.sandbox import ExitReason
from skerry.runtime.container.output import OutputReader
from skerry.runtime.container.spawn import Child
from skerry.runtime.contract import Ended

SIGKILL_CODE = 128 + 9
STRAYS_MAX = 256
ENTER_WAIT_S = 2.0
ENTER_POLL_S = 0.001


class Entering:
    """A `crun exec` on its way into the sandbox; until it is in, the sandbox must not be frozen."""

    def __init__(self, child: Child, pid_file: Path) -> None:
        self._child = child
        self._pid_file = pid_file

    def is_in(self) -> bool:
        return self._child.ended or self._pid_file.exists()


class Box:
    """`clear` is called once when the main process has ended, before anyone hears of it: no process, control group or
    pipe of the sandbox is left by then."""

    def __init__(
        self,
        *,
        sandbox_id: str,
        main: Child,
        uid_base: int,
        output: OutputReader | None,
        oom_kills: Callable[[], int],
        clear: Callable[[], Awaitable[None]],
    ) -> None:
        self.sandbox_id = sandbox_id
        self.main = main
        self.uid_base = uid_base
        self.stopping = False
        self.frozen = False
        """It sleeps: a checkpoint must not wake it."""
        self.door = asyncio.Lock()
        """Held while frozen, and while an exec is sent in."""
        self._entering: list[Entering] = []
        self._output = output
        self._strays: list[tuple[OutputReader, Path]] = []
        self._oom_kills = oom_kills
        self._clear = clear
        self._ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._watch = asyncio.get_running_loop().create_task(self._until_ended())

    @property
    def runs(self) -> bool:
        return not self._ended.done()

    async def wait(self) -> Ended:
        return await asyncio.shield(self._ended)

    def listen(self, on_output: Callable[[bytes], None]) -> None:
        if self._output is not None:
            self._output.divert(on_output)

    def enter(self, entering: Entering) -> None:
        self._entering = [other for other in self._entering if not other.is_in()]
        self._entering.append(entering)

    async def nobody_entering(self) -> None:
        deadline_s = asyncio.get_running_loop().time() + ENTER_WAIT_S
        while not all(entering.is_in() for entering in self._entering):
            if asyncio.get_running_loop().time() > deadline_s:
                return
            await asyncio.sleep(ENTER_POLL_S)

    def keep_draining(self, reader: OutputReader, path: Path) -> None:
        """What a command left running in the background still writes is read and dropped, else it would stand still
        once its pipe is full."""
        reader.divert(_drop)
        reader.resume()
        for other, name in self._strays:
            if other.at_end:
                name.unlink(missing_ok=True)
        self._strays = [(other, name) for other, name in self._strays if not other.at_end]
        self._strays.append((reader, path))
        if len(self._strays) > STRAYS_MAX:
            self._strays.pop(0)[0].close()

    def close(self) -> None:
        """Look no further; the sandbox goes on."""
        self._watch.cancel()
        self.main.close()
        self._close_readers()
        if not self._ended.done():
            self._ended.cancel()

    async def _until_ended(self) -> None:
        code = await self.main.wait()
        reason = ExitReason.EXITED
        if self.stopping:
            reason = ExitReason.STOPPED
        elif code == SIGKILL_CODE and self._oom_kills() > 0:
            reason = ExitReason.OOM
        if self._output is not None:
            self._output.drain()
        self._close_readers()
        try:
            await self._clear()
        finally:
            if not self._ended.done():
                self._ended.set_result(Ended(code, reason))

    def _close_readers(self) -> None:
        for reader in (*(reader for reader, _ in self._strays), *([self._output] if self._output else [])):
            reader.close()


def _drop(_: bytes) -> None:
    pass
