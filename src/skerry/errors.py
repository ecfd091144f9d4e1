"""Every error Skerry raises, each named by what its receiver should do next. No HTTP here: the edges translate.

SkerryError
├── Invalid             mend the request: `field` says where, the sentence what is allowed
│   └── Unsupported     this runtime or host cannot do it; ask for something else
├── Unauthenticated     present a key
├── Forbidden           this key may not; ask its owner
├── NotFound            nothing has that name or id
├── Conflict            the object is busy or not in the right state; look, then try again
│   ├── AlreadyExists   take another name
│   ├── InUse           remove its users first
│   ├── Protected       switch off its protection first
│   ├── RestartNeeded   stop it, ask again, start it
│   └── IllegalMove     a state machine was asked for an arrow it does not have
├── TooLarge            send less
├── LimitReached        a named limit is full; remove something or raise it
├── NoRoom              no capacity now; retry after `retry_after_s`
├── Unavailable         a program we need does not answer; retry after `retry_after_s`
├── DeadlineExceeded    it took longer than you allowed; it may still finish
└── Failed              an underlying tool failed; `because` has its words for the operator
"""

from __future__ import annotations

from typing import Any


class SkerryError(Exception):
    """`say` is one sentence for the user; `because` is for the operator's log and never leaves the host."""

    code = "error"

    def __init__(
        self,
        say: str,
        *,
        because: str | None = None,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(say)
        self.say = say
        self.because = because
        self.field = field
        self.retry_after_s = retry_after_s

    def wire(self) -> dict[str, Any]:
        """The form every API of ours answers with: {"error": {"code", "message", "field"?, "retry_after_s"?}}."""
        body: dict[str, Any] = {"code": self.code, "message": self.say}
        if self.field is not None:
            body["field"] = self.field
        if self.retry_after_s is not None:
            body["retry_after_s"] = self.retry_after_s
        return {"error": body}


class Invalid(SkerryError):
    code = "invalid"


class Unsupported(Invalid):
    code = "unsupported"


class Unauthenticated(SkerryError):
    code = "unauthenticated"


class Forbidden(SkerryError):
    code = "forbidden"


class NotFound(SkerryError):
    code = "not_found"


class Conflict(SkerryError):
    code = "conflict"


class AlreadyExists(Conflict):
    code = "already_exists"


class InUse(Conflict):
    code = "in_use"


class Protected(Conflict):
    code = "protected"


class RestartNeeded(Conflict):
    code = "restart_needed"


class IllegalMove(Conflict):
    code = "illegal_move"


class TooLarge(SkerryError):
    code = "too_large"


class LimitReached(SkerryError):
    code = "limit_reached"


class NoRoom(SkerryError):
    code = "no_room"


class Unavailable(SkerryError):
    code = "unavailable"


class DeadlineExceeded(SkerryError):
    code = "deadline_exceeded"


class Failed(SkerryError):
    code = "failed"


def _tree(kind: type[SkerryError]) -> list[type[SkerryError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _tree(child))]


BY_CODE: dict[str, type[SkerryError]] = {kind.code: kind for kind in _tree(SkerryError)}


def from_wire(body: object) -> SkerryError:
    """The typed error for a wire body; an unknown code becomes plain SkerryError so that old clients still work."""
    error = body.get("error") if isinstance(body, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if not isinstance(error, dict):
        return SkerryError("the server answered with an error of unknown form")
    fields: dict[str, Any] = error  # pyright: ignore[reportUnknownVariableType]
    kind = BY_CODE.get(str(fields.get("code")), SkerryError)
    return kind(
        str(fields.get("message", "unknown error")),
        field=fields.get("field"),
        retry_after_s=fields.get("retry_after_s"),
    )


def told_of(key: str, error: SkerryError) -> SkerryError:
    """The same error, saying whose it is. By its code: a kind may be made of other things than a sentence."""
    say = error.say if error.say.startswith(f"{key}: ") else f"{key}: {error.say}"
    kind = BY_CODE.get(error.code, SkerryError)
    return kind(say, because=error.because, field=error.field, retry_after_s=error.retry_after_s)
