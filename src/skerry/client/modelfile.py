"""Read a Modelfile, ollama's way to say what a model is made of, as a request to make one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from skerry.errors import Invalid

BYTES_MAX = 1024 * 1024
QUOTES = ('"""', '"')
WORDS = ("FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "ADAPTER", "LICENSE")
REPEATED = frozenset({"stop"})
"""Parameters whose values are a list, however many there are."""


def read_modelfile(path: Path) -> dict[str, Any]:
    """`source`, and of template, system, parameters, license, adapters those that it has. Raises Invalid with the
    line."""
    try:
        text = path.read_bytes()[: BYTES_MAX + 1].decode()
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Invalid(f"{path}: expected UTF-8 text") from None
    if len(text) > BYTES_MAX:
        raise Invalid(f"{path}: a Modelfile has at most {BYTES_MAX // 1024} KiB")
    return parse(text, path.parent, str(path))


def parse(text: str, folder: Path, title: str = "Modelfile") -> dict[str, Any]:
    """`folder`: what relative paths begin in."""
    made: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    adapters: list[str] = []
    licenses: list[str] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        number, line = at + 1, lines[at].strip()
        at += 1
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        word = word.upper()
        if word not in WORDS:
            raise Invalid(f"{title}:{number}: {word[:40]!r} is not known; there are {', '.join(WORDS)}")
        if word == "PARAMETER":
            _parameter(rest.strip(), parameters, f"{title}:{number}")
            continue
        value, at = _value(rest.strip(), lines, at, f"{title}:{number}")
        match word:
            case "FROM":
                if "source" in made:
                    raise Invalid(f"{title}:{number}: FROM is given twice")
                made["source"] = _source(value, folder, f"{title}:{number}")
            case "ADAPTER":
                adapters.append(_source(value, folder, f"{title}:{number}"))
            case "LICENSE":
                licenses.append(value)
            case _:
                made[word.lower()] = value
    if "source" not in made:
        raise Invalid(f"{title}: it says of no model what it is made FROM")
    found = {"parameters": parameters, "adapters": adapters, "license": "\n".join(licenses)}
    return made | {key: value for key, value in found.items() if value}


def _value(rest: str, lines: list[str], at: int, where: str) -> tuple[str, int]:
    """The text, which in quotes may go on over lines; and the line after it."""
    for quote in QUOTES:
        if not rest.startswith(quote):
            continue
        rest = rest[len(quote) :]
        parts: list[str] = []
        while quote not in rest:
            parts.append(rest)
            if at >= len(lines):
                raise Invalid(f"{where}: {quote} is not closed")
            rest, at = lines[at], at + 1
        inside, _, after = rest.partition(quote)
        if after.strip():
            raise Invalid(f"{where}: nothing may follow the closing {quote}")
        return "\n".join([*parts, inside]), at
    if not rest:
        raise Invalid(f"{where}: a value is needed")
    return rest, at


def _parameter(rest: str, parameters: dict[str, Any], where: str) -> None:
    name, _, text = rest.partition(" ")
    text = text.strip()
    if not name or not text:
        raise Invalid(f"{where}: expected PARAMETER NAME VALUE")
    if len(text) > 1 and text[0] == text[-1] == '"':
        value: Any = text[1:-1]
    else:
        value = typed(text)
    if name in REPEATED:
        parameters.setdefault(name, []).append(str(value))
    else:
        parameters[name] = value


def typed(text: str) -> str | int | float | bool:
    """As it is written: true and false, numbers, else text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _source(value: str, folder: Path, where: str) -> str:
    """NAME is one that is here; ./FOLDER is one of the server, which has to share it."""
    if "://" in value:
        return value
    if value.startswith(("/", "./", "../", "~")):
        return os.path.normpath(folder.absolute() / os.path.expanduser(value))
    if ":" in value and not value.partition(":")[2].startswith("/"):
        raise Invalid(f"{where}: {value}: for one of ollama's registry give ollama://{value}")
    return value if ":/" in value else f"model://{value}"
