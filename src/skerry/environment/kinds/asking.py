"""What every section asks of the server in the same way: what is there of an environment, make one, take one away."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from skerry.client import flows
from skerry.client.call import Call
from skerry.client.transport import Transport
from skerry.environment.kinds.contract import Json
from skerry.errors import NotFound
from skerry.model.labels import LABEL_ENVIRONMENT


def labelled(transport: Transport, list_page: Callable[..., Call[Any]], environment: str) -> dict[str, Json]:
    """The objects of an environment, by name."""
    labels = {LABEL_ENVIRONMENT: environment}
    items = transport.run(
        flows.gather(lambda token: list_page(labels=labels, limit=flows.PAGE_ITEMS, page_token=token))
    )
    return {item["name"]: item for item in items}


def settled(
    transport: Transport,
    make: Callable[[float], Call[Any]],
    get: Callable[[str], Call[Any]],
    timeout_s: float = flows.TIMEOUT_S,
) -> Json:
    """The object as it is when the work that `make` begins has ended."""
    return transport.run(flows.settle(make, lambda had: get(had["id"]), timeout_s=timeout_s))


def gone(transport: Transport, delete: Callable[[float], Call[Any]]) -> None:
    """What is gone already is no failure."""
    with suppress(NotFound):
        transport.run(flows.settle(delete))


def gone_at_once(transport: Transport, delete: Call[Any]) -> None:
    """The same of what takes no time to delete."""
    with suppress(NotFound):
        transport.json(delete)
