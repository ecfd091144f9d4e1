"""Foreign failures to typed errors, by table: what the sockets, TLS and HTTP layers say never leaks to a caller."""

from __future__ import annotations

import json
from typing import Any

from skerry.client.target import Target
from skerry.errors import (
    Conflict,
    DeadlineExceeded,
    Failed,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    SkerryError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    from_wire,
)

ERROR_BYTES_MAX = 1024**2
BY_STATUS: dict[int, type[SkerryError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    429: LimitReached,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}


def from_answer(status: int, text: bytes, target: Target) -> SkerryError:
    """The error of an answer with status 400 or more, whoever wrote it: our server or a proxy before it."""
    try:
        body: Any = json.loads(text)
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("error"), dict):  # pyright: ignore[reportUnknownMemberType]
        return from_wire(body)  # pyright: ignore[reportUnknownArgumentType]
    kind = BY_STATUS.get(status, SkerryError)
    words = " ".join(text.decode(errors="replace").split())[:200]
    return kind(f"{target.address} answered {status}" + (f": {words}" if words else ""))


def from_failure(failure: Exception, target: Target) -> SkerryError:
    """The error of a connection that could not be made or broke."""
    where = "Skerry on this machine" if target.source == "this machine" else f"Skerry at {target.address}"
    if isinstance(failure, ConnectionRefusedError | FileNotFoundError):
        return Unavailable(f"{where} is not running; start it with `skerry serve`", because=str(failure))
    if isinstance(failure, PermissionError):
        return Forbidden(f"you may not open {target.address}; become root, or use `skerry context create`")
    if type(failure).__name__ == "SSLCertVerificationError":  # by name: importing ssl costs each start of the CLI
        say = f"the certificate of {target.address} is not trusted; name its authority's file in SSL_CERT_FILE"
        return Unavailable(say, because=str(failure))
    if isinstance(failure, TimeoutError):
        return DeadlineExceeded(f"{where} did not answer in time", because=str(failure))
    if isinstance(failure, ConnectionError | EOFError):
        return Unavailable(f"{where} broke the connection before the answer was whole", because=repr(failure))
    if isinstance(failure, ValueError):
        return Unavailable(f"what listens at {target.address} is not Skerry: it does not speak HTTP as we do")
    words = getattr(failure, "strerror", None) or str(failure) or type(failure).__name__
    return Unavailable(f"cannot reach {where}: {words}", because=repr(failure))


def from_close(code: int, reason: str, target: Target) -> SkerryError:
    """The error of a WebSocket that ended before the command's exit was told."""
    try:
        body: Any = json.loads(reason)
    except ValueError:
        body = None
    if isinstance(body, dict):
        error: dict[str, Any] = body  # pyright: ignore[reportUnknownVariableType]
        return from_wire(error if "error" in error else {"error": error})
    if reason:
        return Failed(reason)
    return Unavailable(f"Skerry at {target.address} ended the session before the command did", because=f"close {code}")
