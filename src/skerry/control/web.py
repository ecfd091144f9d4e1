"""The API as one ASGI app: FastAPI for intents, the passage for what streams to the agent, the door before both."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Scope

from skerry import __version__
from skerry.control.door import Authentication, BodyLimit, HostCheck, QuietEnd
from skerry.control.http_errors import error_response
from skerry.control.inside import Inside
from skerry.control.keys import KeyRing
from skerry.control.validation import explain_body, explain_parameter
from skerry.errors import Failed, Invalid, NotFound, SkerryError
from skerry.settings import Settings
from skerry.telemetry import Log

DESCRIPTION = (
    "Sandboxes that keep their disk, checkpoint in milliseconds, roll back and fork. "
    "Every request but /health carries `Authorization: Bearer KEY`."
)


def build_api(routers: Sequence[APIRouter], log: Log) -> FastAPI:
    api = FastAPI(
        title="Skerry",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        strict_content_type=False,
        redirect_slashes=False,
        dependencies=[Depends(refuse_unknown_parameters)],
    )
    for router in routers:
        api.include_router(router)

    async def on_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, SkerryError)
        if error.because is not None:
            log.info("refused", say=error.say, because=error.because)
        return error_response(error)

    async def on_defect(request: Request, error: Exception) -> Response:
        log.error("defect", path=request.url.path, because=repr(error))
        return error_response(Failed("something went wrong in the server; its log says what"))

    api.add_exception_handler(SkerryError, on_error)
    api.add_exception_handler(RequestValidationError, _on_invalid)
    api.add_exception_handler(HTTPException, _on_http)
    api.add_exception_handler(ClientDisconnect, _on_gone)
    api.add_exception_handler(Exception, on_defect)
    return api


def build_web(inner: ASGIApp, keys: KeyRing, inside: Inside, settings: Settings) -> ASGIApp:
    """Outermost first: host, our own programs, key, size of the body."""
    limited = BodyLimit(
        inner,
        body_bytes_max=settings.body_bytes_max,
        upload_bytes_max=settings.upload_bytes_max,
        is_streamed=is_streamed,
    )
    return QuietEnd(
        HostCheck(inside.before(Authentication(limited, keys)), settings.listen.rpartition(":")[0].strip("[]"))
    )


def is_streamed(scope: Scope) -> bool:
    """Whether the body goes on as it comes: file contents, archives and images."""
    path: str = scope["path"]
    if scope["method"] == "PUT":
        return path.endswith(("/files", "/files/archive"))
    return path in ("/v1/images/upload", "/v1/sandboxes/import")


async def refuse_unknown_parameters(request: Request) -> None:
    """A misspelt parameter would be ignored in silence otherwise: `?wait=5` would not wait."""
    if not request.query_params:
        return
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if dependant is None:
        return
    known = [parameter.alias for parameter in dependant.query_params]
    for name in request.query_params:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"
            raise Invalid(f"{name[:60]}: there is no such parameter; {hint}", field=name[:60])


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found: Sequence[Any] = error.errors()
    if found[0]["loc"][0] != "body":
        return error_response(explain_parameter(found))
    field = getattr(request.scope.get("route"), "body_field", None)
    model = field.field_info.annotation if field is not None else None
    return error_response(explain_body(model, error.body, found))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:200]}"
    if error.status_code == 404:
        return error_response(NotFound(f"there is no {where} in this API; see /openapi.json"))
    if error.status_code == 405:
        response = error_response(Invalid(f"there is no {where} in this API; see /openapi.json"))
        response.status_code = 405
        return response
    # FastAPI raises this for a body that its parser gave up on, such as 100,000 brackets.
    return error_response(Invalid(f"{where}: the body could not be read as JSON"))


async def _on_gone(_: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it
