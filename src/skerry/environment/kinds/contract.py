"""What a noun must say of itself so that a file can declare it: how it is read, compared, made, changed and taken away.

Jobs, pipelines and services join by a file here and a line in `catalog.py`; plan and `up` know no noun by name. Objects
travel as the JSON of the API: a run in which nothing has changed must not pay for importing the models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from skerry.client.transport import Transport
from skerry.model.amounts import format_size
from skerry.model.labels import LABEL_APPLIED, LABEL_ENVIRONMENT, LABEL_FILE, LABEL_MEMBER

Json = dict[str, Any]

LABEL_CHARACTERS_MAX = 256


class Action(StrEnum):
    KEEP = "keep"
    CREATE = "create"
    UPDATE = "update"  # in place, while it runs
    RESTART = "restart"  # in place; its processes start anew, its disk stays
    REPLACE = "replace"  # deleted and made anew: what is on its disk is lost
    START = "start"
    DELETE = "delete"


SIZES = frozenset({"memory", "disk", "size", "gpu_memory"})
DESTRUCTIVE = frozenset({Action.REPLACE, Action.DELETE})


@dataclass(frozen=True)
class Reason:
    """Why: a field that differs, or a sentence."""

    say: str
    drift: bool = False
    """It was changed by somebody else since this file was last applied."""


@dataclass(frozen=True)
class Step:
    """One change of one object."""

    section: str
    """As in the file: networks, volumes, queues, sandboxes, …"""
    key: str
    """As in the file."""
    name: str
    """On the server."""
    action: Action
    reasons: tuple[Reason, ...] = ()
    body: Json = field(default_factory=dict[str, Any])
    """What it is to be."""
    actual: Json | None = None
    """What it is."""

    @property
    def ref(self) -> tuple[str, str]:
        return self.section, self.key


@dataclass(frozen=True)
class Scene:
    """The environment as declared, and where it stands."""

    declared: Json
    """The JSON of model.environment.Environment."""
    file: Path
    """The first file, absolute: whose the objects are."""

    @property
    def name(self) -> str:
        return self.declared["name"]

    @property
    def folder(self) -> Path:
        return self.file.parent

    def section(self, name: str) -> dict[str, Json]:
        return self.declared.get(name) or {}

    def name_of(self, section: str, key: str) -> str:
        """What an object of the file is called on the server."""
        declared = self.section(section).get(key) or {}
        return declared.get("name") or (key if declared.get("external") else f"{self.name}-{key}")

    def image_name(self, image: str) -> str:
        """Of an image of the file, by its key; any other stays as it is."""
        declared = self.section("images").get(image)
        return image if declared is None else f"{self.name}/{image}:{digest(declared)}"

    def labels(self, key: str, body: Mapping[str, Any]) -> dict[str, str]:
        """By which an object remembers this environment. `body`: all else that it is to be."""
        return {
            LABEL_ENVIRONMENT: self.name,
            LABEL_MEMBER: key,
            LABEL_FILE: str(self.file)[-LABEL_CHARACTERS_MAX:],
            LABEL_APPLIED: digest(body),
        }


def digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def drifted(labels: Mapping[str, str], body: Mapping[str, Any]) -> bool:
    """What differs although the declaration has not changed since it was applied was changed by somebody else."""
    return labels.get(LABEL_APPLIED) == digest(body)


def differing(wanted: Any, actual: Any, *, drift: bool, field: str) -> Reason:
    def shown(value: Any) -> str:
        if field in SIZES and isinstance(value, int):
            return format_size(value)
        if value is None:
            return "none"
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
        return text if len(text) <= 60 else f"{text[:59]}…"

    if isinstance(wanted, dict) and isinstance(actual, dict):
        keys = [key for key in {**actual, **wanted} if wanted.get(key) != actual.get(key)]  # pyright: ignore
        if len(keys) == 1 and isinstance(keys[0], str):  # pyright: ignore
            key: str = keys[0]  # pyright: ignore
            return differing(wanted.get(key), actual.get(key), drift=drift, field=f"{field}.{key}")  # pyright: ignore
        return Reason(f"{field}: {', '.join(map(str, keys))} differ", drift)  # pyright: ignore
    return Reason(f"{field}: {shown(actual)} -> {shown(wanted)}", drift)


class Kind(Protocol):
    """One section of the file."""

    section: str
    noun: str
    deletes_left_over: bool
    """Whether `up` deletes what has left the file; where not, it is told and left."""
    deleted_last: bool
    """Whether it does so after all else is done: what is used and stays may leave it only then. Otherwise before, since
    names, addresses and ports may be wanted."""

    def read(self, transport: Transport, environment: str) -> dict[str, Json]:
        """The objects that are this environment's, by name."""
        ...

    def body(self, scene: Scene, key: str) -> Json:
        """What an object is to be, as the API takes it."""
        ...

    def compare(self, scene: Scene, key: str, body: Json, actual: Json) -> Step: ...

    def make(self, transport: Transport, step: Step) -> Json: ...

    def replace(self, transport: Transport, step: Step) -> Json:
        """One that is there by one that is as wanted."""
        ...

    def change(self, transport: Transport, step: Step) -> Json:
        """UPDATE, RESTART or START."""
        ...

    def delete(self, transport: Transport, name: str) -> None:
        """What is gone already is no failure."""
        ...
