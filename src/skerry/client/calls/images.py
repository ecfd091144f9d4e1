"""Calls about images: read-only disks that sandboxes start from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from skerry.client import parse
from skerry.client.call import Call, Data, waiting
from skerry.errors import Invalid

if TYPE_CHECKING:
    from skerry.model.image import Image

IMAGES = "/v1/images"
STEP_S = 600.0


def path(ref: str, *rest: str) -> str:
    """An image's name may hold slashes, which stay: the server's route takes the whole rest of the path."""
    if ref.strip("/.") == "":
        raise Invalid(f"{ref!r} is not an image")
    return "/".join((IMAGES, quote(ref, safe=":/@"), *rest))


def pull(name: str, source: str, *, insecure: bool = False, wait_s: float = 0) -> Call[Image]:
    body: dict[str, Any] = {"name": name, "source": source}
    if insecure:
        body["insecure"] = True
    return Call("POST", IMAGES, parse.image, query={"wait_s": wait_s}, body=body, reply_s=waiting(wait_s))


def build(name: str, recipe: str, include: Sequence[str] = (), wait_s: float = 0) -> Call[Image]:
    body: dict[str, Any] = {"name": name, "recipe": recipe}
    if include:
        body["include"] = list(include)
    return Call("POST", IMAGES, parse.image, query={"wait_s": wait_s}, body=body, reply_s=waiting(wait_s))


def upload(name: str, data: Data, wait_s: float = 0) -> Call[Image]:
    query = {"name": name, "wait_s": wait_s}
    return Call("POST", f"{IMAGES}/upload", parse.image, query=query, data=data, reply_s=STEP_S + wait_s)


def list_page(*, name: str | None = None, limit: int | None = None, page_token: str | None = None) -> Call[Any]:
    return Call("GET", IMAGES, parse.anything, query={"name": name, "limit": limit, "page_token": page_token})


def get(ref: str) -> Call[Image]:
    return Call("GET", path(ref), parse.image)


def delete(ref: str, wait_s: float = 0) -> Call[Any]:
    return Call("DELETE", path(ref), parse.anything, query={"wait_s": wait_s}, reply_s=STEP_S + wait_s)


def prune() -> Call[list[Image]]:
    return Call("POST", f"{IMAGES}/prune", parse.images, reply_s=STEP_S)


def export(ref: str) -> Call[Any]:
    return Call("GET", path(ref, "export"), accept="application/x-tar", reply_s=STEP_S)
