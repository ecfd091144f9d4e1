"""One sandbox as a step works in it: run a command with its output line by line, put a private file, look up a user."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, NamedTuple

from skerry.client import wire
from skerry.client.calls import commands, files, sandboxes
from skerry.client.result import Collector, CommandResult
from skerry.client.transport import Transport
from skerry.environment.provision.record import FOLDER
from skerry.errors import Invalid, NotFound, SkerryError, Unavailable

STEPS = f"{FOLDER}/steps"
"""Where the text of a step lies in the sandbox while it runs."""
LINE_CHARACTERS_MAX = 8192
"""A longer line is told in pieces."""
ACCOUNTS_BYTES_MAX = 1024 * 1024
ID_MAX = 65_535

Stream = Literal["stdout", "stderr"]
OnLine = Callable[[str, Stream], object]


class Ids(NamedTuple):
    uid: int
    gid: int


ROOT = Ids(0, 0)


class Guest:
    def __init__(self, transport: Transport, ref: str) -> None:
        self.transport = transport
        self.ref = ref
        self.base = sandboxes.path(ref)

    def run(
        self,
        command: Sequence[str],
        on_line: OnLine,
        *,
        user: str | None = None,
        workdir: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> CommandResult:
        """To its end; it ends too when we leave. None as user: root."""
        body = commands.exec_body(
            command, {"user": user or "root", "workdir": workdir, "env": env, "timeout_s": timeout_s}
        )
        collector, frames = Collector(0), wire.Frames()
        lines: dict[Stream, Lines] = {"stdout": Lines(), "stderr": Lines()}
        with self.transport.stream(commands.stream(self.ref, body)) as stream:
            for chunk in stream:
                for frame in frames.feed(chunk):
                    piece = collector.take(frame)
                    if piece is not None:
                        for line in lines[piece[0]].feed(piece[1]):
                            on_line(line, piece[0])
        for name, each in lines.items():
            for line in each.end():
                on_line(line, name)
        if not collector.ended:
            raise Unavailable("the connection ended before the step did; it was ended with it")
        return collector.result()

    def answer(self, command: str) -> str:
        """What a short shell command of root's prints; "" where it fails."""
        body = commands.exec_body(command, {"user": "root", "timeout_s": 30.0})
        reply: Any = self.transport.json(commands.run(self.ref, body))
        return reply["stdout"] if reply["exit"].get("code") == 0 else ""

    @contextmanager
    def private_file(self, name: str, data: bytes, owner: Ids) -> Generator[str]:
        """The path of a file with that content, which its owner alone may read and run; gone afterwards."""
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.uid, info.gid = len(data), 0o500, owner.uid, owner.gid
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.addfile(info, io.BytesIO(data))
        self.transport.json(files.write_archive(self.base, STEPS, archive.getvalue()))
        path = f"{STEPS}/{name}"
        try:
            yield path
        finally:
            # A step may have stopped the sandbox, or the server be gone: the next run of the step replaces it.
            with suppress(SkerryError):
                self.transport.json(files.remove(self.base, path))

    def write(self, path: str, text: str, mode: str) -> None:
        self.transport.json(files.write(self.base, path, text.encode(), mode=mode))

    def ids(self, user: str | None) -> Ids:
        """By the sandbox's own files, as a command with that user would have them. None: root's."""
        if user is None or user == "root":
            return ROOT
        wanted, _, group = user.partition(":")
        account = next((line for line in self._lines("/etc/passwd", 7) if wanted in (line[0], line[2])), None)
        if account is None and not wanted.isdecimal():
            raise Invalid(f"the sandbox has no user {wanted}")
        uid, gid = (account[2], account[3]) if account else (wanted, "0")
        if group:
            found = next((line for line in self._lines("/etc/group", 4) if group in (line[0], line[2])), None)
            if found is None and not group.isdecimal():
                raise Invalid(f"the sandbox has no group {group}")
            gid = found[2] if found else group
        return Ids(_id(uid, user), _id(gid, user))

    def _lines(self, path: str, fields: int) -> list[list[str]]:
        data = bytearray()
        try:
            with self.transport.stream(files.read(self.base, path)) as stream:
                while len(data) <= ACCOUNTS_BYTES_MAX and (chunk := stream.read_some()):
                    data += chunk
        except NotFound as error:
            if error.field != "path":
                raise
        lines = bytes(data[:ACCOUNTS_BYTES_MAX]).decode(errors="replace").splitlines()
        return [line for each in lines if len(line := each.split(":")) == fields]


class Lines:
    """Cuts text into lines as it comes."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[str]:
        *whole, self._held = (self._held + text).split("\n")
        while len(self._held) > LINE_CHARACTERS_MAX:
            whole.append(self._held[:LINE_CHARACTERS_MAX])
            self._held = self._held[LINE_CHARACTERS_MAX:]
        return [
            line[start : start + LINE_CHARACTERS_MAX].removesuffix("\r")
            for line in whole
            for start in range(0, max(1, len(line)), LINE_CHARACTERS_MAX)
        ]

    def end(self) -> list[str]:
        held, self._held = self._held, ""
        return [held] if held else []


def _id(text: str, user: str) -> int:
    number = int(text) if text.isdecimal() and len(text) <= 10 else ID_MAX + 1
    if number > ID_MAX:
        raise Invalid(f"{user}: the ids of a sandbox go to {ID_MAX}")
    return number
