"""How the API's routes answer: one record, a page of them, or lines as things happen; and the parameters they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from skerry.errors import Invalid
from skerry.model.fields import Frozen
from skerry.store.paging import PAGE_DEFAULT, PAGE_MAX, Page

M = TypeVar("M", bound=BaseModel)

WAIT_S_MAX = 600.0
CREATED, DONE, GOING_ON = 201, 200, 202

WaitS = Annotated[float, Query(ge=0, le=WAIT_S_MAX, description="Seconds to wait until it is done")]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="Items of one page")]
PageToken = Annotated[str | None, Query(max_length=100, description="next_page_token of the page before")]
LabelsAsked = Annotated[list[str] | None, Query(description="KEY=VALUE; repeat it to require several")]
LIMIT = PAGE_DEFAULT


class ListOf(Frozen, Generic[M]):
    items: list[M]
    next_page_token: Annotated[str | None, Field(description="Give it as page_token for the next page")] = None


class Items(Frozen, Generic[M]):
    items: list[M]


def labels_asked(given: Sequence[str] | None) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key or "\0" in text:  # which no database takes, and no label has
            raise Invalid(f"label: {text[:60]!r} is not allowed; give KEY=VALUE", field="label")
        wanted[key] = value
    return wanted


def one(record: BaseModel, status: int = DONE) -> Response:
    return Response(record.model_dump_json(), status, media_type="application/json")


def page(found: Page[Any]) -> Response:
    items = ",".join(record.model_dump_json() for record in found.items)
    token = "null" if found.next_page_token is None else f'"{found.next_page_token}"'
    return Response(f'{{"items":[{items}],"next_page_token":{token}}}', media_type="application/json")


def many(records: Sequence[BaseModel], status: int = DONE) -> Response:
    items = ",".join(record.model_dump_json() for record in records)
    return Response(f'{{"items":[{items}]}}', status, media_type="application/json")


def lines(request: Request, records: AsyncIterator[BaseModel]) -> Response:
    """One JSON object a line, until the stream ends or the client leaves."""

    async def text() -> AsyncIterator[str]:
        async for record in records:
            yield record.model_dump_json() + "\n"

    return StreamingResponse(text(), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


def waiting_responses(done: int, model: Any) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document."""
    return {done: {"model": model}, GOING_ON: {"model": model, "description": "Still going on; see `operation`"}}
