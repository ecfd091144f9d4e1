"""Calls about commands that run in a sandbox, and the words in which one is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from skerry.client import parse
from skerry.client.call import REPLY_S, Call, segment
from skerry.client.calls import sandboxes
from skerry.client.wire import STREAM_TYPE

if TYPE_CHECKING:
    from skerry.model.exec import ExecResult, ExecSession


class RunOptions(TypedDict, total=False):
    """The fields of ExecSpec besides its command."""

    env: Mapping[str, str] | None
    workdir: str | None
    user: str | None
    stdin: str | None
    timeout_s: float | None
    output_bytes_max: int | None


def exec_body(command: str | Sequence[str], options: RunOptions, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"command": sandboxes.shell_words(command)}
    for name, value in {**options, **more}.items():
        if value is not None:
            body[name] = dict(value) if isinstance(value, Mapping) else value  # pyright: ignore[reportUnknownArgumentType]
    return body


def path(ref: str, *rest: str) -> str:
    return sandboxes.path(ref, "exec", *rest)


def run(ref: str, body: Mapping[str, Any]) -> Call[ExecResult]:
    """The whole output at the end; the command may take as long as it likes, so silence means nothing."""
    return Call("POST", path(ref), parse.exec_result, body=body, reply_s=None)


def stream(ref: str, body: Mapping[str, Any]) -> Call[Any]:
    return Call("POST", path(ref), body=body, accept=STREAM_TYPE, reply_s=None)


def start(ref: str, body: Mapping[str, Any]) -> Call[ExecSession]:
    return Call("POST", path(ref), parse.exec_session, body={**body, "detach": True}, reply_s=REPLY_S)


def list_all(ref: str) -> Call[list[ExecSession]]:
    return Call("GET", path(ref), parse.exec_sessions)


def get(ref: str, session: str) -> Call[ExecSession]:
    return Call("GET", path(ref, segment(session)), parse.exec_session)


def kill(ref: str, session: str, signal: str = "TERM") -> Call[Any]:
    return Call("POST", path(ref, segment(session), "kill"), parse.anything, body={"signal": signal})


def resize(ref: str, session: str, rows: int, columns: int) -> Call[Any]:
    body = {"rows": rows, "columns": columns}
    return Call("POST", path(ref, segment(session), "resize"), parse.anything, body=body)


def attach_path(ref: str, session: str) -> str:
    """Of the WebSocket that replays a session's kept output and goes on with it."""
    return path(ref, segment(session), "attach")
