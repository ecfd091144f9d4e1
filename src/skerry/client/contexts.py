"""Contexts: named servers with their keys, kept in one private file of the user, as gcloud keeps configurations."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from skerry.errors import AlreadyExists, Invalid, NotFound
from skerry.model.nearness import did_you_mean

LOCAL = "local"
"""The name of no context: the installation of this machine."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class Context(NamedTuple):
    name: str
    address: str
    key: str | None = None
    project: str | None = None


def contexts_path(environ: Mapping[str, str] = os.environ) -> Path:
    if environ.get("SKERRY_CONFIG"):
        return Path(environ["SKERRY_CONFIG"])
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or "~", ".config")
    return Path(base).expanduser() / "skerry" / "config.toml"


class Contexts:
    """The file's content; every change is written at once, whole, with mode 0600."""

    def __init__(self, path: Path, current: str | None, items: dict[str, Context]) -> None:
        self.path = path
        self.current = current
        self.items = items

    @classmethod
    def load(cls, path: Path) -> Contexts:
        try:
            text = path.read_text()
        except (FileNotFoundError, NotADirectoryError):
            return cls(path, None, {})
        except OSError as error:
            raise Invalid(f"cannot read {path}: {error.strerror}") from None
        import tomllib

        try:
            document = tomllib.loads(text)
            items = {
                name: Context(name, str(fields["address"]), fields.get("key"), fields.get("project"))
                for name, fields in document.get("contexts", {}).items()
            }
        except (tomllib.TOMLDecodeError, KeyError, AttributeError, TypeError) as error:
            raise Invalid(f"{path} is not a context file: {error}") from None
        return cls(path, document.get("current"), items)

    def create(self, context: Context, *, replace: bool = False) -> None:
        if not _NAME.fullmatch(context.name) or context.name == LOCAL:
            raise Invalid(f"context {context.name!r}: 1 to 63 letters, digits, '-' and '_' are allowed, not {LOCAL!r}")
        for value in (context.address, context.key or "", context.project or ""):
            if not value.isprintable():
                raise Invalid("address, key and project are printable text")
        if context.name in self.items and not replace:
            raise AlreadyExists(f"context {context.name!r} exists; --replace overwrites it")
        self.items[context.name] = context
        if self.current is None:
            self.current = context.name
        self._save()

    def use(self, name: str) -> None:
        if name != LOCAL:
            self.get(name)
        self.current = None if name == LOCAL else name
        self._save()

    def get(self, name: str) -> Context:
        if name not in self.items:
            raise NotFound(f"there is no context {name!r}" + did_you_mean(name, self.items))
        return self.items[name]

    def delete(self, name: str) -> None:
        self.get(name)
        del self.items[name]
        if self.current == name:
            self.current = None
        self._save()

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(self._text())
            os.replace(draft, self.path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def _text(self) -> str:
        # A JSON string of printable text is a TOML string too.
        lines = [f"current = {json.dumps(self.current)}"] if self.current else []
        for context in self.items.values():
            lines += ["", f"[contexts.{context.name}]"]
            for field, value in context._asdict().items():
                if field != "name" and value is not None:
                    lines.append(f"{field} = {json.dumps(value, ensure_ascii=False)}")
        return "\n".join(lines).lstrip("\n") + "\n"
