"""Which steps of a machine are due, by what its disk says of those that ran. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from skerry.errors import NotFound, SkerryError

USER_DATA = "user-data"
"""The step that a machine's `user_data` is, before all others."""

Kind = Literal["user-data", "run", "script", "copy", "ansible"]
KINDS: tuple[Kind, ...] = ("run", "script", "copy", "ansible")
_NOT_WHAT_IT_DOES = frozenset({"name", "when", "timeout"})
"""Fields whose change does not make a step another step."""

Reader = Callable[[str], bytes]


class Step(NamedTuple):
    name: str
    kind: Kind
    when: str
    """once, always or never."""
    body: Mapping[str, Any]
    """The provisioner as the file has it; of `user-data` {"text": …}."""
    digest: str


class Outlook(NamedTuple):
    due: list[Step]
    """In the order in which they would run."""
    changed: list[str]
    """Names of steps that ran on this disk as something else, and do not run again by themselves."""
    resumes: str | None
    """The step that failed last time, where it is due now."""
    fresh: bool
    """Nothing was ever provisioned on this disk."""


def steps_of(machine: Mapping[str, Any], read: Reader) -> list[Step]:
    """`read` gives what a file beside `skerry.yaml` holds; a script or playbook that changed is another step."""
    steps: list[Step] = []
    if machine.get("user_data"):
        body = {"text": machine["user_data"]}
        steps.append(Step(USER_DATA, "user-data", "once", body, digest(body, b"")))
    for number, body in enumerate(machine.get("provision") or (), 1):
        kind: Kind = next(kind for kind in KINDS if body.get(kind) is not None)
        content = b""
        try:
            if kind == "script":
                content = read(body["script"])
            elif kind == "ansible":
                content = read(body["ansible"]["playbook"])
        except SkerryError as error:
            error.field = f"provision[{number - 1}].{kind}"
            raise
        steps.append(Step(body.get("name") or f"step-{number}", kind, body["when"], body, digest(body, content)))
    return steps


def digest(body: Mapping[str, Any], content: bytes) -> str:
    meant = {key: value for key, value in body.items() if key not in _NOT_WHAT_IT_DOES}
    text = json.dumps(meant, sort_keys=True, ensure_ascii=True).encode()
    return hashlib.sha256(text + b"\0" + content).hexdigest()[:32]


def due(
    steps: Sequence[Step], done: Collection[str], only: Collection[str] = (), everything: bool = False
) -> list[Step]:
    """`done` are names of `once` steps that ran well on this disk. `only`: these and no others, whether they ran or
    not. `everything`: those of `once` too that ran. Raises NotFound for a name in `only` that no step has."""
    names = {step.name for step in steps}
    for name in only:
        if name not in names:
            raise NotFound(f"there is no step {name!r}; there are {', '.join(step.name for step in steps) or 'none'}")
    if only:
        return [step for step in steps if step.name in only]
    return [
        step
        for step in steps
        if step.when == "always" or (step.when == "once" and (everything or step.name not in done))
    ]


def changed(steps: Sequence[Step], done: Mapping[str, str]) -> list[str]:
    """`done`: name -> digest of what ran."""
    return [step.name for step in steps if step.when == "once" and done.get(step.name, step.digest) != step.digest]
