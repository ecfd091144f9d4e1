"""What a check says: one line, and for a miss the exact command that mends it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"  # works, with the limit that `say` names
    FAIL = "fail"  # sandboxes cannot run


@dataclass(frozen=True)
class Finding:
    name: str
    level: Level
    say: str
    mend: str | None = None

    def wire(self) -> dict[str, str | None]:
        return asdict(self)


def ok(name: str, say: str) -> Finding:
    return Finding(name, Level.OK, say)


def warn(name: str, say: str, mend: str | None = None) -> Finding:
    return Finding(name, Level.WARN, say, mend)


def fail(name: str, say: str, mend: str | None = None) -> Finding:
    return Finding(name, Level.FAIL, say, mend)


def install(package: str) -> str:
    return f"apt-get install -y {package}"
