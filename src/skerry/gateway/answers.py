"""Answers of the gateway itself: one sentence, as a page for who looks at it in a browser, else as the API's JSON."""

from __future__ import annotations

import json
from html import escape
from http import HTTPStatus

from skerry.errors import SkerryError
from skerry.gateway.request import Headers, value
from skerry.model.wire import STATUS

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:20vh auto;padding:0 1rem;color:#222}}
h1{{font-size:1.1rem}}@media(prefers-color-scheme:dark){{body{{background:#111;color:#ddd}}}}</style>
<h1>{title}</h1><p>{say}</p></html>
"""


def status_of(error: SkerryError) -> int:
    """As the API's; but here a conflict is a sandbox that cannot answer now, which is the server's side of things."""
    return 503 if STATUS.get(error.code, 500) == 409 else STATUS.get(error.code, 500)


def refusal(error: SkerryError, headers: Headers, *, status: int | None = None) -> tuple[int, list[bytes], bytes]:
    """Status, header lines, body. `headers`: of the request."""
    status = status or status_of(error)
    accept = value(headers, b"accept") or b""
    if b"text/html" in accept:
        title = f"{status} {HTTPStatus(status).phrase}"
        kind, body = b"text/html; charset=utf-8", _PAGE.format(title=title, say=escape(_sentence(error.say))).encode()
    else:
        kind, body = b"application/json", json.dumps(error.wire()).encode()
    lines = [b"Content-Type: " + kind, b"Cache-Control: no-store", b"X-Content-Type-Options: nosniff"]
    if error.retry_after_s is not None:
        lines.append(b"Retry-After: %d" % max(1, round(error.retry_after_s)))
    if status == 401:
        lines.append(b"WWW-Authenticate: Bearer")
    return status, lines, body


def reason_of(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"


def _sentence(say: str) -> str:
    return say[:1].upper() + say[1:] + "."
