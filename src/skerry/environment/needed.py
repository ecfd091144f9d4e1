"""What a file needs and does not make: looked for before anything is done, and not when half of it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from skerry.client import flows
from skerry.client.call import Call
from skerry.client.calls import queues, secrets
from skerry.client.transport import Transport
from skerry.environment.kinds.contract import Action, Json
from skerry.environment.plan import CHOSEN_FROM, Plan
from skerry.errors import NotFound
from skerry.model.identity import QUEUE_DEFAULT
from skerry.model.nearness import did_you_mean

Named = Callable[[Json], Iterator[tuple[str, str]]]
"""Path and name of what a sandbox or a job needs."""


def check_needed(transport: Transport, plan: Plan) -> None:
    """Raises NotFound with every secret, or every queue, that is not there."""
    if not plan.changes:
        return
    _check_secrets(transport, plan)
    _check_queues(transport, plan)


def _check_secrets(transport: Transport, plan: Plan) -> None:
    wanted = _wanted(plan, _secrets)
    missing = _missing(transport, wanted, secrets.list_page)[0] if wanted else []
    if missing:
        first = missing[0]
        what = f"no secret {first}" if len(missing) == 1 else f"none of the secrets {', '.join(missing)}"
        raise NotFound(
            f"{wanted[first]}: there is {what}; make it with: skerry secret set {first}", field=wanted[first]
        )


def _check_queues(transport: Transport, plan: Plan) -> None:
    """Those of the file are there, or made before who names them."""
    wanted = _wanted(plan, _queue)
    for step in plan.steps:
        if step.section == "queues" and step.action is not Action.DELETE:
            wanted.pop(step.name, None)
    missing, known = _missing(transport, wanted, queues.list_page) if wanted else ([], [])
    if missing:
        first = missing[0]
        what = f"no queue {first}" if len(missing) == 1 else f"none of the queues {', '.join(missing)}"
        declared = [name for step in plan.steps if step.section == "queues" for name in (step.key, step.name)]
        hint = did_you_mean(first, [*declared, *known])
        hint = hint or f"; declare it in queues, or make it with: skerry queue create {first}"
        raise NotFound(f"{wanted[first]}: there is {what}{hint}", field=wanted[first])


def _wanted(plan: Plan, named: Named) -> dict[str, str]:
    """Name -> the first place in the file that names it."""
    steps = [step for step in reversed(plan.steps) if step.action is not Action.DELETE and step.section in CHOSEN_FROM]
    return {name: f"{step.section}.{step.key}.{path}" for step in steps for path, name in named(step.body)}


def _missing(
    transport: Transport, wanted: dict[str, str], list_page: Callable[..., Call[Any]]
) -> tuple[list[str], list[str]]:
    """Of those that are wanted; and all that there are."""
    items = transport.run(flows.gather(lambda token: list_page(limit=flows.PAGE_ITEMS, page_token=token)))
    known = [item["name"] for item in items]
    return [name for name in wanted if name not in known], known


def _secrets(body: Json) -> Iterator[tuple[str, str]]:
    for number, use in enumerate(body["secrets"]):
        yield f"secrets[{number}]", use["name"]
    for number, notification in enumerate(body.get("notify", ())):
        if notification["secret"]:
            yield f"notify[{number}].secret", notification["secret"]


def _queue(body: Json) -> Iterator[tuple[str, str]]:
    if body["queue"] != QUEUE_DEFAULT:
        yield "queue", body["queue"]
