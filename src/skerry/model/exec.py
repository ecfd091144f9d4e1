"""Running a command in a sandbox: what may be asked, and what is told of it. Sessions live with the agent."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, model_validator

from skerry.model.fields import Command, Env, Frozen, GuestPath, User
from skerry.model.sandbox import MIB

OUTPUT_BYTES_MAX = 64 * MIB
STDIN_BYTES_MAX = 10 * MIB

# WebSocket messages open with one channel byte, as in Kubernetes' v5.channel.k8s.io; HTTP streams frame the same
# channels as Docker's attach does: channel, three zero bytes, length (4, big-endian), payload.
STDIN, STDOUT, STDERR, EXIT, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
STREAM_TYPE = "application/vnd.skerry.stream"


class WindowSize(Frozen):
    rows: Annotated[int, Field(ge=1, le=10_000)] = 24
    columns: Annotated[int, Field(ge=1, le=10_000)] = 80


class ExecSpec(Frozen):
    command: Command
    env: Env = {}
    workdir: GuestPath | None = None
    user: User | None = None
    tty: bool = False
    size: WindowSize = WindowSize()
    stdin: str | None = None
    """Text given to the command at once; interactive input goes over the WebSocket. At most 10 MiB."""
    timeout_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    """After this the command and its session are killed and the exit is 124, as timeout(1) does."""
    output_bytes_max: Annotated[int, Field(ge=0, le=OUTPUT_BYTES_MAX)] = 1 * MIB
    """Kept of each of stdout and stderr in an answer or for reattaching; the rest is dropped and said so."""
    detach: bool = False
    """Answer at once with the session; it goes on without a client and over a restart of the agent."""

    @model_validator(mode="after")
    def _stdin_bounded(self) -> ExecSpec:
        if self.stdin is not None and len(self.stdin.encode()) > STDIN_BYTES_MAX:
            raise ValueError(f"stdin is at most {STDIN_BYTES_MAX} bytes; stream more over the WebSocket")
        return self


class ExecExit(Frozen):
    """code: the command's own; 126 not executable, 127 not found, 128+n killed by signal n, 124 timed out."""

    code: int | None
    oom: bool = False
    timed_out: bool = False


class ExecSession(Frozen):
    id: str
    sandbox: str
    command: list[str]
    tty: bool
    detached: bool
    started_at: datetime
    ended_at: datetime | None = None
    exit: ExecExit | None = None
    """None while it runs."""


class ExecResult(Frozen):
    session: str
    exit: ExecExit
    stdout: str
    stderr: str
    truncated: bool = False
    duration_ms: float


class KillRequest(Frozen):
    signal: Annotated[str, Field(pattern=r"^(SIG)?(HUP|INT|QUIT|KILL|USR1|USR2|TERM|CONT|STOP|WINCH)$")] = "TERM"
