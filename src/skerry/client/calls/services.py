"""Calls about services and their tokens, and the words in which a user may declare a service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from skerry.client import parse
from skerry.client.call import Call, label_query, segment, waiting
from skerry.client.calls import sandboxes

if TYPE_CHECKING:
    from datetime import datetime

    from skerry.model.network import Join
    from skerry.model.resources import PlacementRules
    from skerry.model.sandbox import Mount, Network
    from skerry.model.scaling import Scaling
    from skerry.model.secret import SecretUse
    from skerry.model.service import HealthCheck, Replica, Revision, Routing, Service, Strategy
    from skerry.model.token import Limits, MadeToken, Metered, Token

SERVICES, TOKENS = "/v1/services", "/v1/tokens"
ENGINES = ("command", "vllm", "sglang", "nim", "transformers", "llamacpp", "simulator")
STRATEGIES = ("rolling", "canary", "blue-green", "recreate")
POLICIES = (
    "auto",
    "round-robin",
    "random",
    "least-load",
    "power-of-two",
    "prefix",
    "hybrid",
    "session",
    "lora",
    "slo",
    "disaggregated",
)
ACTIONS = ("promote", "pause", "resume", "abort", "rollback")
SCOPES = ("infer", "http", "metrics")


class ServiceOptions(TypedDict, total=False):
    """The fields of ServiceSpec, each also in a short form."""

    name: str | None
    engine: str | None
    image: str | None
    command: str | Sequence[str] | None
    """Text goes through /bin/sh; a list is run as it is."""
    prepare: Sequence[str | Sequence[str]] | None
    model: str | None
    models: Sequence[str] | None
    adapters: Mapping[str, str] | None
    options: Mapping[str, str | int | float | bool] | None
    addresses: Sequence[str] | None
    roles: Mapping[str, int] | None
    port: int | None
    replicas: int | None
    scaling: Scaling | Mapping[str, Any] | None
    health: HealthCheck | Mapping[str, Any] | None
    routing: Routing | Mapping[str, Any] | None
    strategy: Strategy | Mapping[str, Any] | None
    drain: float | str | None
    public: bool | None
    fork: bool | None
    cpu: float | None
    memory: int | str | None
    disk: int | str | None
    pids: int | None
    gpu: float | None
    gpu_kind: str | Sequence[str] | None
    gpu_memory: int | str | None
    extras: Mapping[str, int] | None
    env: Mapping[str, str] | None
    workdir: str | None
    user: str | None
    mounts: Sequence[Mount | Mapping[str, Any] | str] | None
    """Objects, or text: data:/srv/data for a volume, /srv/data:/data:ro for a folder of the server."""
    secrets: Sequence[SecretUse | Mapping[str, Any] | str] | None
    network: bool | Network | Mapping[str, Any] | None
    networks: Sequence[Join | Mapping[str, Any] | str] | None
    queue: str | None
    tier: str | None
    priority: int | None
    placement: PlacementRules | Mapping[str, Any] | None
    labels: Mapping[str, str] | None


class TokenOptions(TypedDict, total=False):
    """The fields of TokenSpec."""

    name: str | None
    services: Sequence[str] | None
    scopes: Sequence[str] | None
    expires: float | str | None
    limits: Limits | Mapping[str, int | None] | None
    weight: float | None
    priority: int | None


def service_body(options: Mapping[str, Any]) -> dict[str, Any]:
    """Only what was given, in its long form: the server knows the defaults."""
    body = sandboxes.options_body(options)
    if "prepare" in body:
        body["prepare"] = [sandboxes.shell_words(step) for step in body["prepare"]]
    return body


def update_body(change: Mapping[str, Any]) -> dict[str, Any]:
    """None that was given is told: the field's default again."""
    return {**dict.fromkeys(change), **service_body(change)}


def path(ref: str, *rest: str) -> str:
    return "/".join((SERVICES, segment(ref), *rest))


def create(body: Mapping[str, Any], wait_s: float = 0) -> Call[Service]:
    query = {"wait_s": wait_s}
    return Call("POST", SERVICES, parse.service, query=query, body=dict(body), reply_s=waiting(wait_s))


def list_page(
    *,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    limit: int | None = None,
    page_token: str | None = None,
) -> Call[Any]:
    query = {"label": label_query(labels), "name": name, "limit": limit, "page_token": page_token}
    return Call("GET", SERVICES, parse.anything, query=query)


def get(ref: str) -> Call[Service]:
    return Call("GET", path(ref), parse.service)


def update(ref: str, body: Mapping[str, Any], wait_s: float = 0) -> Call[Service]:
    return Call("PATCH", path(ref), parse.service, query={"wait_s": wait_s}, body=dict(body), reply_s=waiting(wait_s))


def delete(ref: str, *, now: bool = False, wait_s: float = 0) -> Call[Any]:
    query = {"now": now, "wait_s": wait_s}
    return Call("DELETE", path(ref), parse.anything, query=query, reply_s=waiting(wait_s))


def scale(
    ref: str,
    replicas: int | None = None,
    *,
    role: str | None = None,
    minimum: int | None = None,
    maximum: int | None = None,
    wait_s: float = 0,
) -> Call[Service]:
    given = {"replicas": replicas, "role": role, "minimum": minimum, "maximum": maximum}
    body = {name: value for name, value in given.items() if value is not None}
    return Call("POST", path(ref, "scale"), parse.service, query={"wait_s": wait_s}, body=body, reply_s=waiting(wait_s))


def roll(ref: str, action: str, revision: int | None = None, wait_s: float = 0) -> Call[Service]:
    body = {"action": action, **({"revision": revision} if revision is not None else {})}
    query = {"wait_s": wait_s}
    return Call("POST", path(ref, "rollout"), parse.service, query=query, body=body, reply_s=waiting(wait_s))


def replicas(ref: str) -> Call[list[Replica]]:
    return Call("GET", path(ref, "replicas"), parse.replicas)


def revisions(ref: str) -> Call[list[Revision]]:
    return Call("GET", path(ref, "revisions"), parse.revisions)


def usage(ref: str, since: datetime | None = None) -> Call[list[Metered]]:
    query = {"since": since.isoformat()} if since is not None else {}
    return Call("GET", path(ref, "usage"), parse.metered, query=query)


# Tokens


def token_body(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: sandboxes.plain(value) for name, value in options.items() if value is not None}


def create_token(body: Mapping[str, Any]) -> Call[MadeToken]:
    return Call("POST", TOKENS, parse.made_token, body=dict(body))


def tokens_page(*, revoked: bool = False, limit: int | None = None, page_token: str | None = None) -> Call[Any]:
    query = {"revoked": revoked or None, "limit": limit, "page_token": page_token}
    return Call("GET", TOKENS, parse.anything, query=query)


def revoke_token(ref: str) -> Call[Token]:
    return Call("DELETE", f"{TOKENS}/{segment(ref)}", parse.token)
