"""Calls about models: fetch one, or make one of another, see them and their files, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skerry.client import parse
from skerry.client.call import Call, label_query, segment, waiting

if TYPE_CHECKING:
    from skerry.model.weights import Model, ModelFile

MODELS = "/v1/models"


def create(
    source: str,
    *,
    name: str | None = None,
    endpoint: str | None = None,
    secret: str | None = None,
    convert: str | None = None,
    template: str | None = None,
    system: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    license: str | None = None,
    adapters: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    wait_s: float = 0,
) -> Call[Model]:
    given = {
        "name": name,
        "endpoint": endpoint,
        "secret": secret,
        "convert": convert,
        "template": template,
        "system": system,
        "parameters": dict(parameters) if parameters else None,
        "license": license,
        "adapters": list(adapters) or None,
        "labels": dict(labels) if labels else None,
    }
    body = {"source": source, **{key: value for key, value in given.items() if value is not None}}
    return Call("POST", MODELS, parse.model, query={"wait_s": wait_s}, body=body, reply_s=waiting(wait_s))


def list_page(
    *,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    limit: int | None = None,
    page_token: str | None = None,
) -> Call[Any]:
    query = {"label": label_query(labels), "name": name, "limit": limit, "page_token": page_token}
    return Call("GET", MODELS, parse.anything, query=query)


def get(ref: str) -> Call[Model]:
    return Call("GET", f"{MODELS}/{segment(ref)}", parse.model)


def update(ref: str, wanted: Mapping[str, Any]) -> Call[Model]:
    return Call("PATCH", f"{MODELS}/{segment(ref)}", parse.model, body=dict(wanted))


def files(ref: str) -> Call[list[ModelFile]]:
    return Call("GET", f"{MODELS}/{segment(ref)}/files", parse.model_files)


def delete(ref: str, wait_s: float = 0) -> Call[Any]:
    path = f"{MODELS}/{segment(ref)}"
    return Call("DELETE", path, parse.anything, query={"wait_s": wait_s}, reply_s=waiting(wait_s))
