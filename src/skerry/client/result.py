"""What came of a command, and how it is put together from frames. Pure; both SDKs use it."""

from __future__ import annotations

import codecs
import json
from typing import Any, Literal, NamedTuple

from skerry.client import wire
from skerry.errors import SkerryError

StreamName = Literal["stdout", "stderr"]
Piece = tuple[StreamName, str]

KEPT_BYTES_MAX = 1024**2
"""Of each of stdout and stderr in a result, as on the server; callbacks see all of it."""


class CommandResult(NamedTuple):
    exit_code: int | None
    """The command's own; 126 not executable, 127 not found, 128+n killed by signal n, 124 timed out."""
    stdout: str
    stderr: str
    session: str | None = None
    timed_out: bool = False
    oom: bool = False
    truncated: bool = False
    """More was printed than is kept."""
    duration_ms: float | None = None

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


class CommandFailed(SkerryError):
    """A command ended with another code than 0 and was run with `check=True`; `result` has all of it."""

    code = "command_failed"

    def __init__(self, result: CommandResult) -> None:
        last = result.stderr.strip().splitlines()[-1:] or [""]
        why = "timed out" if result.timed_out else "ran out of memory" if result.oom else f"exit {result.exit_code}"
        super().__init__(f"the command failed: {why}" + (f": {last[0][:300]}" if last[0] else ""))
        self.result = result


def checked(result: CommandResult, check: bool) -> CommandResult:
    if check and not result.ok:
        raise CommandFailed(result)
    return result


def from_body(body: Any) -> CommandResult:
    """Of the JSON of an ExecResult."""
    end = body["exit"]
    return CommandResult(
        exit_code=end.get("code"),
        stdout=body["stdout"],
        stderr=body["stderr"],
        session=body.get("session"),
        timed_out=end.get("timed_out", False),
        oom=end.get("oom", False),
        truncated=body.get("truncated", False),
        duration_ms=body.get("duration_ms"),
    )


class Collector:
    """Takes frames in, gives text out, and keeps as much as a result holds."""

    def __init__(self, kept_bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._kept_bytes_max = kept_bytes_max
        decoder = codecs.getincrementaldecoder("utf-8")
        # A character may be cut in two by a frame's end.
        self._decoders = {wire.STDOUT: decoder("replace"), wire.STDERR: decoder("replace")}
        self._kept = {wire.STDOUT: bytearray(), wire.STDERR: bytearray()}
        self._truncated = False
        self._end: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        return self._end is not None

    def take(self, frame: wire.Frame) -> Piece | None:
        channel, payload = frame
        if channel == wire.EXIT:
            self._end = json.loads(payload)
            return None
        if channel not in self._kept:
            return None
        room = self._kept_bytes_max - len(self._kept[channel])
        self._kept[channel] += payload[: max(0, room)]
        self._truncated = self._truncated or len(payload) > room
        text = self._decoders[channel].decode(payload)
        return ("stdout" if channel == wire.STDOUT else "stderr", text) if text else None

    def result(self) -> CommandResult:
        end = self._end or {}
        return CommandResult(
            exit_code=end.get("code"),
            stdout=self._kept[wire.STDOUT].decode(errors="replace"),
            stderr=self._kept[wire.STDERR].decode(errors="replace"),
            session=end.get("session"),
            timed_out=end.get("timed_out", False),
            oom=end.get("oom", False),
            truncated=self._truncated,
        )
