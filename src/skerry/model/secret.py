"""A secret: a value that sandboxes are given and nobody is shown. What is known of one never includes the value."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from skerry.model.explain import WITHHELD
from skerry.model.fields import Frozen, GuestPath, Labels, Name, User, matching

SECRETS_MAX = 1000
USES_MAX = 64
"""Secrets of one sandbox."""
VALUE_BYTES_MAX = 64 * 1024
FOLDER = "/run/secrets"
RESERVED = ("/proc", "/sys", "/dev", "/.skerry", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
MODE = "0400"


def _withheld(message: str) -> PydanticCustomError:
    """A finding that does not show what was given."""
    return PydanticCustomError(WITHHELD, "{message}", {"message": message})


def _within_limit(value: bytes) -> None:
    if not value:
        raise _withheld("a secret has at least one byte")
    if len(value) > VALUE_BYTES_MAX:
        raise _withheld(f"a secret has at most {VALUE_BYTES_MAX // 1024} KiB; keep more in a folder or a volume")


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise _withheld("expected text")
    try:
        _within_limit(value.encode())
    except UnicodeEncodeError:
        raise _withheld("expected text that UTF-8 can express; send other bytes as base64") from None
    return value


def _base64(value: Any) -> Any:
    try:
        _within_limit(b64decode(value if isinstance(value, str) else "?", validate=True))
    except (binascii.Error, ValueError) as error:
        if isinstance(error, PydanticCustomError):
            raise
        raise _withheld("expected base64") from None
    return value


class SecretRequest(Frozen):
    """A value, as text or as bytes in base64. It is never answered with."""

    model_config = ConfigDict(hide_input_in_errors=True)

    value: Annotated[SecretStr, BeforeValidator(_text)] | None = None
    base64: Annotated[SecretStr, BeforeValidator(_base64)] | None = None
    labels: Labels | None = None
    """None: as they were."""

    @model_validator(mode="after")
    def _one_value(self) -> SecretRequest:
        if (self.value is None) == (self.base64 is None):
            raise ValueError("give the value once: as `value`, or as `base64`")
        return self

    def plain(self) -> bytes:
        if self.value is not None:
            return self.value.get_secret_value().encode()
        assert self.base64 is not None
        return b64decode(self.base64.get_secret_value())


class Secret(Frozen):
    """The record."""

    id: str
    project: str
    name: str
    version: int
    """Counts how often it was set."""
    size_bytes: int
    text: bool
    """UTF-8 without NUL: what an environment variable can hold."""
    labels: Labels = {}
    created_at: datetime
    updated_at: datetime


class SecretWithUsers(Secret):
    used_by: list[str]
    """Names of the sandboxes that name it, whatever their state."""


class SealedSecret(Frozen):
    """A value on its way to a machine, and in its journal: of use to nobody without the key."""

    id: str
    project: str
    name: str
    version: int
    sealed: str = Field(repr=False)

    @property
    def bound_to(self) -> str:
        return bound_to(self.project, self.name, self.id, self.version)


def bound_to(project: str, name: str, secret_id: str, version: int) -> str:
    """What a value is sealed for: in another row, or in the place of a newer one, it does not open."""
    return f"{project}/{name}/{secret_id}/{version}"


def is_text(value: bytes) -> bool:
    try:
        return "\0" not in value.decode()
    except UnicodeDecodeError:
        return False


if TYPE_CHECKING:
    Variable = str
    Mode = str
else:
    Variable = matching(
        r"^[A-Za-z_][A-Za-z0-9_]{0,255}$", "a variable: letters, digits and '_', not starting with a digit"
    )
    Mode = matching(r"^0?[0-7]{3}$", "permission bits in octal, such as 0400")


class SecretUse(Frozen):
    """How a sandbox gets one. Neither `env` nor `file`: the file /run/secrets/NAME."""

    name: Name
    env: Variable | None = None
    """Environment variable of the main process and of every command."""
    file: GuestPath | None = None
    """Path of a read-only file, in memory only."""
    user: User | None = None
    """Owner of the file; None: the sandbox's user."""
    mode: Mode | None = None
    """Of the file; None: 0400."""

    @model_validator(mode="after")
    def _owner_needs_file(self) -> SecretUse:
        if self.path is None and (self.user is not None or self.mode is not None):
            raise ValueError("user and mode are a file's: give `file` too, or leave them out")
        return self

    @property
    def path(self) -> str | None:
        """Where its file is; None: it has none."""
        return self.file or (f"{FOLDER}/{self.name}" if self.env is None else None)


Secrets = Annotated[list[SecretUse], Field(max_length=USES_MAX)]


def check_uses(uses: Sequence[SecretUse], env: Iterable[str], targets: Iterable[str]) -> None:
    """Raises ValueError where two want the same variable or place. `targets`: of the sandbox's mounts."""
    variables = dict.fromkeys(env, "env")
    places: list[tuple[str, str]] = [(path, f"mount {path}") for path in targets]
    for number, use in enumerate(uses):
        field = f"secrets[{number}]"
        if use.env is not None:
            if use.env in variables:
                raise ValueError(f"{field}.env: {use.env} is set by {variables[use.env]} already")
            variables[use.env] = field
        path = use.path
        if path is None:
            continue
        if path == "/" or any(_is_within(path, top) or path == top for top in RESERVED):
            raise ValueError(f"{field}.file: {path} is reserved; {FOLDER}/{use.name} is free")
        for other, whose in places:
            if path == other or _is_within(path, other) or _is_within(other, path):
                raise ValueError(f"{field}.file: {path} is in the way of {whose}, or the other way round")
        places.append((path, field))


def _is_within(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")
