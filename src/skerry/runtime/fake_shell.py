"""The few programs that commands in a fake sandbox consist of, acted out on a folder without starting anything."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path

from skerry.model.exec import STDERR, STDOUT, WindowSize

USERS = {"root": 0, "nobody": 65534}
LISTS_END = ("do", "done")


class Exit(Exception):  # not an error: how `exit` and `kill $$` leave the script
    def __init__(self, code: int) -> None:
        self.code = code


class FakeInput:
    """A stdin: bytes until it is closed."""

    def __init__(self, *, is_open: bool) -> None:
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self.is_open = is_open
        if not is_open:
            self._chunks.put_nowait(b"")

    def feed(self, data: bytes) -> None:
        self._chunks.put_nowait(data)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._chunks.put_nowait(b"")

    async def next(self) -> bytes:
        """b"" at the end."""
        return await self._chunks.get()


Emit = Callable[[int, bytes], None]


class FakeShell:
    """One command with its surroundings. `run` gives its exit code; to kill it, cancel the task that runs it."""

    def __init__(
        self, *, root: Path, env: dict[str, str], workdir: str, user: str, stdin: FakeInput, emit: Emit
    ) -> None:
        self.size = WindowSize()
        self._root = root
        self._env = env
        self._workdir = workdir
        self._user = user
        self._stdin = stdin
        self._emit: Emit = emit
        self._background: set[asyncio.Task[int]] = set()
        self._programs: dict[str, Callable[[list[str]], Awaitable[int]]] = {
            name.removeprefix("_do_"): getattr(self, name) for name in dir(self) if name.startswith("_do_")
        }

    def has(self, program: str) -> bool:
        return program in self._programs or self.path(program).is_file()

    def path(self, guest_path: str) -> Path:
        return self._root / os.path.normpath(os.path.join("/", self._workdir, guest_path)).lstrip("/")

    async def run(self, command: list[str]) -> int:
        try:
            return await self._run(command)
        except Exit as leaving:
            return leaving.code

    def kill_background(self) -> None:
        for task in self._background:
            task.cancel()

    async def _run(self, words: list[str]) -> int:
        program = self._programs.get(words[0])
        if program is None:
            code = 126 if "/" in words[0] and self.path(words[0]).exists() else 127
            self._emit(STDERR, f"{words[0]}: cannot be run\n".encode())
            return code
        return await program(words[1:])

    # A shell: lists, until loops, background, redirection of output

    async def _do_sh(self, arguments: list[str]) -> int:
        lexer = shlex.shlex(arguments[1], posix=True, punctuation_chars=";&>")
        lexer.whitespace_split = True
        words = list(lexer)
        code = 0
        while words:
            code = await self._list(words)
        return code

    async def _list(self, words: list[str]) -> int:
        code = 0
        while words and words[0] not in LISTS_END:
            code = await self._loop(words) if words[0] == "until" else await self._simple(words)
        return code

    async def _loop(self, words: list[str]) -> int:
        ends = words.index("done")
        loop, words[:] = words[1:ends], words[ends + 1 :]
        if words and words[0] == ";":
            words.pop(0)
        middle = loop.index("do")
        while await self._list(loop[:middle]) != 0:
            await self._list(loop[middle + 1 :])
        return 0

    async def _simple(self, words: list[str]) -> int:
        command: list[str] = []
        target: str | None = None
        ending = ";"
        while words:
            word = words.pop(0)
            if word in (";", "&"):
                ending = word
                break
            if word in (">", ">&"):
                target = words.pop(0)
            else:
                command.append(word)
        if ending == "&":
            self._background.add(asyncio.ensure_future(self.run(command)))
            return 0
        if target is None:
            return await self._run(command)
        return await self._redirected(command, target)

    async def _redirected(self, command: list[str], target: str) -> int:
        plain, kept = self._emit, bytearray()

        def keep(_: int, data: bytes) -> None:
            kept.extend(data)

        self._emit = keep
        try:
            return await self._run(command)
        finally:
            self._emit = plain
            if target == "2":
                plain(STDERR, bytes(kept))
            else:
                self.path(target).write_bytes(kept)

    # Programs

    async def _do_exit(self, arguments: list[str]) -> int:
        raise Exit(int(arguments[0]))

    async def _do_kill(self, arguments: list[str]) -> int:
        raise Exit(128 - int(arguments[0]))

    async def _do_read(self, _: list[str]) -> int:
        return 0 if await self._stdin.next() else 1

    async def _do_true(self, _: list[str]) -> int:
        return 0

    async def _do_echo(self, arguments: list[str]) -> int:
        self._emit(STDOUT, " ".join(arguments).encode() + b"\n")
        return 0

    async def _do_cat(self, arguments: list[str]) -> int:
        if not arguments:
            while chunk := await self._stdin.next():
                self._emit(STDOUT, chunk)
            return 0
        try:
            self._emit(STDOUT, self.path(arguments[0]).read_bytes())
        except OSError as error:
            self._emit(STDERR, f"cat: {error.strerror}\n".encode())
            return 1
        return 0

    async def _do_seq(self, arguments: list[str]) -> int:
        self._emit(STDOUT, b"".join(b"%d\n" % number for number in range(1, int(arguments[0]) + 1)))
        return 0

    async def _do_sleep(self, arguments: list[str]) -> int:
        await asyncio.sleep(float(arguments[0]))
        return 0

    async def _do_test(self, arguments: list[str]) -> int:
        return 0 if self.path(arguments[1]).exists() else 1

    async def _do_printenv(self, arguments: list[str]) -> int:
        self._emit(STDOUT, self._env.get(arguments[0], "").encode() + b"\n")
        return 0 if arguments[0] in self._env else 1

    async def _do_pwd(self, _: list[str]) -> int:
        self._emit(STDOUT, self._workdir.encode() + b"\n")
        return 0

    async def _do_id(self, _: list[str]) -> int:
        name = self._user.partition(":")[0]
        self._emit(STDOUT, f"{USERS.get(name, name)}\n".encode())
        return 0

    async def _do_stty(self, _: list[str]) -> int:
        self._emit(STDOUT, f"{self.size.rows} {self.size.columns}\n".encode())
        return 0

    async def _do_rm(self, arguments: list[str]) -> int:
        self.path(arguments[-1]).unlink(missing_ok=True)
        return 0
