"""Refusals at the door of services, in OpenAI's form, which clients written for it read."""

from __future__ import annotations

import json

from skerry.errors import SkerryError
from skerry.gateway.answers import reason_of, status_of

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
_CODES = {
    "unauthenticated": "invalid_api_key",
    "forbidden": "insufficient_permissions",
    "limit_reached": "rate_limit_exceeded",
    "too_large": "request_too_large",
    "deadline_exceeded": "timeout",
}


def refused(error: SkerryError, status: int | None, more: bytes) -> tuple[int, bytes, bytes]:
    """Status; head without what ends it; body."""
    status = status or status_of(error)
    code = _CODES.get(error.code, error.code)
    if error.code == "not_found" and error.field == "model":
        code = "model_not_found"
    if error.field == "budget":
        code = "insufficient_quota"
    told = {"message": error.say, "type": _TYPES.get(status, "server_error"), "param": error.field, "code": code}
    body = json.dumps({"error": told}).encode()
    lines = b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n" % (
        status,
        reason_of(status),
    )
    if error.retry_after_s is not None:
        lines += b"Retry-After: %d\r\n" % max(1, round(error.retry_after_s))
    if status == 401:
        lines += b"WWW-Authenticate: Bearer\r\n"
    return status, lines + more + b"Content-Length: %d\r\n" % len(body), body
