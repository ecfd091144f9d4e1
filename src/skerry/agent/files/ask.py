"""What a request to the files API asks for, checked: its query, and its small JSON bodies."""

from __future__ import annotations

import os
import re
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel
from starlette.requests import Request

from skerry.agent.files.views import Parts, parse_path, readable
from skerry.errors import Invalid, TooLarge

BODY_BYTES_MAX = 64 * 1024
_MODE = re.compile(r"0?[0-7]{3,4}")
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")

Body = TypeVar("Body", bound=BaseModel)


class Query:
    """The query string, byte for byte: a file name need not be UTF-8, and %FF must find it."""

    def __init__(self, request: Request, *known: str) -> None:
        self._values: dict[str, str] = {}
        raw: bytes = request.scope.get("query_string", b"")
        for item in raw.split(b"&"):
            if not item:
                continue
            key, _, value = (os.fsdecode(unquote_to_bytes(part.replace(b"+", b" "))) for part in item.partition(b"="))
            if key not in known:
                allowed = f"there are {', '.join(known)}" if known else "there are none"
                raise Invalid(f"there is no query parameter {readable(key[:60])!r} here; {allowed}")
            if key in self._values:
                raise Invalid("this query parameter is given twice", field=key)
            self._values[key] = value

    def path(self) -> Parts:
        if "path" not in self._values:
            raise Invalid("the query parameter path is needed, such as path=/srv/data", field="path")
        return parse_path(self._values["path"])

    def text(self, key: str) -> str | None:
        return self._values.get(key)

    def switch(self, key: str, default: bool) -> bool:
        value = self._values.get(key)
        if value is None:
            return default
        if value not in ("true", "false", "1", "0"):
            raise Invalid(f"{readable(value[:60])!r} is not allowed; it should be true or false", field=key)
        return value in ("true", "1")

    def number(self, key: str, default: int, least: int, most: int) -> int:
        value = self._values.get(key)
        if value is None:
            return default
        if not value.isascii() or not value.isdecimal() or len(value) > 9 or not least <= int(value) <= most:
            raise Invalid(f"{readable(value[:60])!r} is not allowed; it should be {least} to {most}", field=key)
        return int(value)

    def mode(self) -> int | None:
        value = self._values.get("mode")
        if value is None:
            return None
        if not _MODE.fullmatch(value):
            raise Invalid(f"{readable(value[:60])!r} is not allowed; it should be octal, such as 0644", field="mode")
        return int(value, 8)


async def body_of(request: Request, kind: type[Body]) -> Body:
    """Raises pydantic's ValidationError, which the edge explains."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise TooLarge(f"this request's body is at most {BODY_BYTES_MAX} bytes")
    return kind.model_validate_json(bytes(body))


def refuse_long(request: Request, bytes_max: int) -> None:
    """Say no before the bytes are sent, where the client tells how many there are."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > bytes_max:
        raise TooLarge(f"an upload is at most {bytes_max} bytes")


def range_of(request: Request, size_bytes: int) -> tuple[int, int] | None:
    """(first byte, count) of a Range header with one range; None for all of it. Other units are ignored, as HTTP
    wants it."""
    found = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if found is None or found.group() == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        count = min(int(last), size_bytes)
        return size_bytes - count, count
    start = int(first)
    end = min(int(last), size_bytes - 1) if last else size_bytes - 1
    if start > end:
        return size_bytes, 0
    return start, end - start + 1
