"""What to say after an error besides the error: close names that do exist, and the command that helps."""

from __future__ import annotations

import difflib
from typing import Any

from skerry.cli.invocation import Invocation
from skerry.client.call import Call
from skerry.client.calls import (
    checkpoints,
    cloud,
    images,
    jobs,
    models,
    networks,
    nodes,
    queues,
    sandboxes,
    secrets,
    services,
    volumes,
)
from skerry.errors import NotFound, SkerryError, Unauthenticated

NAMES_MAX = 500
ANSWER_S = 2.0


def names(invocation: Invocation, noun: str, sandbox: str = "") -> list[str]:
    """Names in use, of checkpoints those of `sandbox`; none when the server cannot be asked."""
    if noun == "context":
        return _contexts(invocation)
    if noun == "checkpoint":
        return [f"v{item['number']}" for item in _items(invocation, checkpoints.list_page(sandbox, limit=NAMES_MAX))]
    return [str(item["name"]) for item in _items(invocation, _page(noun))]


def _contexts(invocation: Invocation) -> list[str]:
    from skerry.client.contexts import LOCAL, Contexts, contexts_path

    try:
        return [LOCAL, *Contexts.load(contexts_path(invocation.environ)).items]
    except SkerryError:
        return []


def _page(noun: str) -> Call[Any]:
    pages: dict[str, Call[Any]] = {
        "sandbox": sandboxes.list_page(limit=NAMES_MAX),
        "image": images.list_page(limit=NAMES_MAX),
        "job": jobs.list_page(limit=NAMES_MAX),
        "key": cloud.keys(),
        "model": models.list_page(limit=NAMES_MAX),
        "service": services.list_page(limit=NAMES_MAX),
        "network": networks.list_page(limit=NAMES_MAX),
        "volume": volumes.list_page(limit=NAMES_MAX),
        "secret": secrets.list_page(limit=NAMES_MAX),
        "queue": queues.list_page(limit=NAMES_MAX),
        "node": nodes.list_page(limit=NAMES_MAX),
    }
    return pages[noun]


def _items(invocation: Invocation, call: Call[Any]) -> list[Any]:
    call.reply_s = ANSWER_S
    try:
        return invocation.ask(call)["items"]
    except SkerryError:
        return []


def hint_for(invocation: Invocation, error: SkerryError) -> str:
    """Text to put behind the error's own, or ""."""
    if isinstance(error, Unauthenticated):
        return "; set SKERRY_KEY, or see `skerry context create --help`"
    if not isinstance(error, NotFound):
        return ""
    if invocation.meant:
        return invocation.meant
    for noun, name in invocation.sought:
        items = _items(invocation, _page(noun))
        known = [str(item["name"]) for item in items]
        if _exists(noun, name, items):
            continue
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        if close:
            return f"; did you mean {' or '.join(repr(match) for match in close)}?"
        if f"{noun} list" in error.say or f"{noun} pull" in error.say:
            return ""
        if noun == "image":
            return "; `skerry image list` shows those here, `skerry image pull` and `build` bring more"
        if noun in ("job", "model", "network", "node", "queue", "secret", "service", "volume"):
            return f"; `skerry {noun} list` shows those that exist"
        return "; `skerry ps` shows those that exist" if known else "; there is none: `skerry create IMAGE` makes one"
    return ""


def _exists(noun: str, name: str, items: list[Any]) -> bool:
    tagged = {name, f"{name}:latest"} if noun == "image" else {name}
    return any(item["name"] in tagged or str(item["id"]).startswith(name) for item in items)
