"""Errors as HTTP answers of the agent: the one place where its exceptions become statuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, cast

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from skerry.errors import Invalid, NotFound, SkerryError
from skerry.model.explain import explain
from skerry.model.wire import STATUS

Handler = Callable[[Request, Exception], Awaitable[Response]]


def error_handlers() -> Mapping[Any, Handler]:
    """For Starlette's `exception_handlers`. What is not listed answers 500 and is raised on, for the server to log."""
    return {
        SkerryError: _skerry,
        ValidationError: _validation,
        HTTPException: _http,
        ClientDisconnect: _gone,
        Exception: _unforeseen,
    }


def error_response(error: SkerryError) -> Response:
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(round(error.retry_after_s), 1))
    return JSONResponse(error.wire(), status_code=STATUS.get(error.code, 500), headers=headers)


async def _skerry(_: Request, error: Exception) -> Response:
    return error_response(cast(SkerryError, error))


async def _validation(_: Request, error: Exception) -> Response:
    return error_response(explain(cast(ValidationError, error)))


async def _http(request: Request, error: Exception) -> Response:
    """No such route, or not with this method."""
    found = cast(HTTPException, error)
    if found.status_code == HTTPStatus.NOT_FOUND:
        answer = error_response(NotFound(f"there is no {request.url.path} here"))
    else:
        what = Invalid(f"{request.method} {request.url.path}: {found.detail}")
        answer = JSONResponse(what.wire(), status_code=found.status_code)
    answer.headers.update(found.headers or {})
    return answer


async def _gone(_: Request, error: Exception) -> Response:
    """Nobody reads this; it only keeps a client that hung up from looking like a defect of ours."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _unforeseen(_: Request, error: Exception) -> Response:
    words = SkerryError("something went wrong on this machine; its log says what", because=repr(error))
    return error_response(words)
