"""Field types that more than one noun uses: names, sizes, labels, paths in a guest; each with its limit."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from skerry.model.identity import ID_PATTERN

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
NAME_LENGTH_MAX = 63
USER_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9_-]{0,31})?$"
LABELS_MAX = 64
ENV_MAX = 512

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?)B?\s*$", re.IGNORECASE | re.ASCII)
_POWER = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\s*$", re.ASCII)
_RATE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMG]?)(?:bit|bps|bit/s)?\s*$", re.IGNORECASE | re.ASCII)
_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Frozen(BaseModel):
    """Base of everything a user may declare and of every record: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_size(value: Any) -> Any:
    """512, "512MiB", "1.5GiB", "10GB" -> bytes. Raises ValueError with what is allowed."""
    if isinstance(value, str):
        found = _SIZE.match(value)
        if not found:
            raise ValueError("expected bytes or a size such as 512MiB or 10GB")
        number, unit, binary = found.groups()
        return int(float(number) * (1024 if binary else 1000) ** _POWER[unit.upper()])
    return value


def parse_duration(value: Any) -> Any:
    """30, "30s", "10m", "1.5h", "2d" -> seconds. Raises ValueError with what is allowed."""
    if isinstance(value, str):
        found = _DURATION.match(value)
        if not found:
            raise ValueError("expected seconds or a time such as 30s, 10m or 2h")
        return float(found.group(1)) * _SECONDS[found.group(2)]
    return value


def parse_rate(value: Any) -> Any:
    """1000000, "10Mbit", "1Gbit", "unlimited" -> bits per second, None. Raises ValueError with what is allowed."""
    if value == "unlimited":
        return None
    if isinstance(value, str):
        found = _RATE.match(value)
        if not found:
            raise ValueError("expected bits per second, such as 10Mbit or 1Gbit, or unlimited")
        return int(float(found.group(1)) * 1000 ** _POWER[found.group(2).upper()])
    return value


def guest_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError("expected an absolute path in the sandbox, such as /srv/data")
    if ".." in path.split("/"):
        raise ValueError("'..' is not allowed in this path")
    return posixpath.normpath(path)


def _labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > LABELS_MAX:
        raise ValueError(f"at most {LABELS_MAX} labels are allowed")
    for key, value in labels.items():
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?", key):
            raise ValueError(f"label {key[:70]!r}: 1 to 63 letters, digits, '.', '_', '-', '/' are allowed")
        if len(value) > 256 or not value.isprintable():
            raise ValueError(f"label {key!r}: a value is at most 256 printable characters")
    return labels


def _env(env: dict[str, str]) -> dict[str, str]:
    if len(env) > ENV_MAX:
        raise ValueError(f"at most {ENV_MAX} variables are allowed")
    for key, value in env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,255}", key):
            raise ValueError(f"variable {key[:70]!r}: letters, digits and '_' are allowed, not starting with a digit")
        if "\0" in value or len(value) > 131_072:
            raise ValueError(f"variable {key!r}: a value is at most 128 KiB without NUL")
    return env


def matching(pattern: str, allowed: str) -> Any:
    """A string type whose pattern is in the schema and whose error is `allowed`, a sentence, not the pattern."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {allowed}")
        return value

    return Annotated[str, AfterValidator(check), Field(json_schema_extra={"pattern": pattern}, description=allowed)]


def _not_an_id(name: str) -> str:
    if ID_PATTERN.fullmatch(name):
        raise ValueError("a name that looks like an id would be taken for one; choose another")
    return name


if TYPE_CHECKING:
    Name = str
    User = str
else:
    Name = Annotated[
        matching(NAME_PATTERN, "1 to 63 lower-case letters, digits and '-', not at either end"),
        AfterValidator(_not_an_id),
    ]
    User = matching(USER_PATTERN, "a user name or id, or USER:GROUP")
Size = Annotated[int, BeforeValidator(parse_size)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
GuestPath = Annotated[str, Field(max_length=4096), AfterValidator(guest_path)]
Labels = Annotated[dict[str, str], AfterValidator(_labels)]
Env = Annotated[dict[str, str], AfterValidator(_env)]
Command = Annotated[list[Annotated[str, Field(max_length=131_072)]], Field(min_length=1, max_length=4096)]
