"""Plans out of what a command line or a file says, by the limits that stand in `plan.py`.

In a process of its own, `reader.py`, where pydantic is not here yet: it is 12 MiB, of which who
sends and measures has no use afterwards.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from skerry.errors import Failed, Invalid

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Refused:
    say: str
    field: str | None


def read(kind: type[Kind], bodies: Sequence[Mapping[str, Any]]) -> list[Kind]:
    """Raises Invalid, of the first that is none."""
    if "pydantic" in sys.modules:
        return [read_here(kind, body) for body in bodies]
    command = [sys.executable, "-m", "skerry.bench.reader"]
    ended = subprocess.run(command, input=pickle.dumps((kind, list(bodies))), capture_output=True)
    if ended.returncode:
        because = ended.stderr.decode(errors="replace")[-2000:]
        raise Failed("plan: it could not be read", because=because)
    told = pickle.loads(ended.stdout)  # of our own program
    if isinstance(told, Refused):
        raise Invalid(told.say, field=told.field)
    return told


def read_here(kind: type[Kind], body: Mapping[str, Any]) -> Kind:
    """Raises Invalid."""
    from pydantic import TypeAdapter, ValidationError

    from skerry.model.explain import explain

    try:
        return TypeAdapter(kind).validate_python(dict(body))
    except ValidationError as error:
        raise explain(error, kind) from None


def schema(kind: type[object]) -> dict[str, Any]:
    """For editors."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).json_schema()


def answer() -> None:
    """What `read` asks of `skerry.bench.reader`."""
    kind, bodies = pickle.load(sys.stdin.buffer)
    told: Any
    try:
        told = [read_here(kind, body) for body in bodies]
    except Invalid as error:
        told = Refused(error.say, error.field)
    sys.stdout.buffer.write(pickle.dumps(told))
