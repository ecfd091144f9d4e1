"""Every error as the API answers it: the status by the error's code, one sentence, the field's path."""

from __future__ import annotations

import json

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skerry.errors import SkerryError
from skerry.model.wire import STATUS


def error_response(error: SkerryError, headers: dict[str, str] | None = None) -> Response:
    given = dict(headers or {})
    if error.retry_after_s is not None:
        given["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if error.code == "unauthenticated":
        given["WWW-Authenticate"] = "Bearer"
    status = STATUS.get(error.code, 500)
    return Response(json.dumps(error.wire()), status, given, "application/json")


async def send_error(error: SkerryError, scope: Scope, receive: Receive, send: Send, **headers: str) -> None:
    """For a WebSocket too: it is refused with this answer in place of the handshake."""
    await error_response(error, headers)(scope, receive, send)
