"""Calls about sandboxes themselves, and the words in which a user may declare one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from skerry.client import parse
from skerry.client.call import Call, segment, waiting
from skerry.errors import Invalid

if TYPE_CHECKING:
    from skerry.model.image import Image
    from skerry.model.network import Join
    from skerry.model.port import PublishedPort
    from skerry.model.sandbox import Bandwidth, CheckpointPolicy, Mount, Network, Sandbox
    from skerry.model.service import ServiceSpec
    from skerry.model.stats import Stats

SANDBOXES = "/v1/sandboxes"


class SpecOptions(TypedDict, total=False):
    """The fields of SandboxSpec besides its image, each also in a short form."""

    name: str | None
    cpu: float | None
    memory: int | str | None
    disk: int | str | None
    pids: int | None
    command: str | Sequence[str] | None
    env: Mapping[str, str] | None
    labels: Mapping[str, str] | None
    workdir: str | None
    user: str | None
    mounts: Sequence[Mount | Mapping[str, Any] | str] | None
    """Objects, or text such as /srv/data:/data:ro."""
    network: bool | Network | Mapping[str, Any] | None
    bandwidth: Bandwidth | Mapping[str, Any] | None
    ports: Sequence[PublishedPort | Mapping[str, Any] | str] | None
    """Objects, or text such as 8080:80, 0.0.0.0:53:53/udp, or 80 for a free port of the machine."""
    networks: Sequence[Join | Mapping[str, Any] | str] | None
    """Objects, or text: NETWORK, or NETWORK:ADDRESS."""
    protected: bool | None
    self_checkpoint: bool | None
    self_lease: bool | None
    idle: float | str | None
    """Seconds, text such as 30s, or "never"."""
    cold_after: float | str | None
    idle_cpu: float | None
    squeeze: bool | None
    public: bool | None
    services: Mapping[str, ServiceSpec | Mapping[str, Any]] | None
    checkpoints: CheckpointPolicy | Mapping[str, Any] | None


def shell_words(command: str | Sequence[str]) -> list[str]:
    """Text is for the shell; a list is the command as it stands."""
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


def mount_from_text(text: str) -> dict[str, Any]:
    """SOURCE:TARGET[:ro|rw] -> the fields of Mount. Raises Invalid with what is allowed."""
    source, colon, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not colon or not source or not target or mode not in ("", "ro", "rw"):
        raise Invalid(f"mount {text!r}: expected SOURCE:TARGET or SOURCE:TARGET:ro", field="mounts")
    return {"source": source, "target": target, "readonly": mode == "ro"}


def plain(value: Any) -> Any:
    """A model object as the JSON it stands for; anything else as it is."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def spec_body(image: str, options: SpecOptions) -> dict[str, Any]:
    return {"image": image, **options_body(options)}


def options_body(options: SpecOptions) -> dict[str, Any]:
    """Only what was given, in its long form: the server knows the defaults, and an update leaves the rest."""
    body: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name == "command":
            body[name] = shell_words(value)  # pyright: ignore[reportArgumentType]
        elif name == "mounts":
            given: Sequence[Any] = value  # pyright: ignore[reportAssignmentType]
            body[name] = [mount_from_text(item) if isinstance(item, str) else plain(item) for item in given]
        elif name == "ports":
            body[name] = ports_body(value)  # pyright: ignore[reportArgumentType]
        elif name == "services":
            services: Mapping[str, Any] = value  # pyright: ignore[reportAssignmentType]
            body[name] = {key: service_body(spec) for key, spec in services.items()}
        elif name == "networks":
            body[name] = networks_body(value)  # pyright: ignore[reportArgumentType]
        elif name == "network" and isinstance(value, bool):
            body[name] = {"enabled": value}
        elif isinstance(value, Mapping):
            body[name] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
        else:
            body[name] = plain(value)
    return body


def ports_body(given: Sequence[Any]) -> list[Any]:
    from skerry.client.calls.ports import port_from_text

    return [port_from_text(item) if isinstance(item, str) else plain(item) for item in given]


def service_body(spec: Any) -> dict[str, Any]:
    """A ServiceSpec, or its fields with text as the command."""
    body = dict(plain(spec))
    if isinstance(body.get("command"), str):
        body["command"] = shell_words(body["command"])
    return body


def networks_body(given: Sequence[Any]) -> list[Any]:
    from skerry.client.calls.networks import join_from_text

    return [join_from_text(item) if isinstance(item, str) else plain(item) for item in given]


def path(ref: str, *rest: str) -> str:
    return "/".join((SANDBOXES, segment(ref), *rest))


def create(body: Mapping[str, Any], wait_s: float = 0) -> Call[Sandbox]:
    return Call("POST", SANDBOXES, parse.sandbox, query={"wait_s": wait_s}, body=body, reply_s=waiting(wait_s))


def list_page(
    *,
    state: str | None = None,
    labels: Mapping[str, str] | None = None,
    name: str | None = None,
    image: str | None = None,
    parent: str | None = None,
    limit: int | None = None,
    page_token: str | None = None,
) -> Call[Any]:
    query = {
        "state": state,
        "label": [f"{key}={value}" for key, value in (labels or {}).items()],
        "name": name,
        "image": image,
        "parent": parent,
        "limit": limit,
        "page_token": page_token,
    }
    return Call("GET", SANDBOXES, parse.anything, query=query)


def get(ref: str) -> Call[Sandbox]:
    return Call("GET", path(ref), parse.sandbox)


def update(ref: str, change: Mapping[str, Any], wait_s: float = 0) -> Call[Sandbox]:
    query = {"wait_s": wait_s} if wait_s else {}
    return Call("PATCH", path(ref), parse.sandbox, query=query, body=dict(change), reply_s=waiting(wait_s))


def start(ref: str, wait_s: float = 0) -> Call[Sandbox]:
    return Call("POST", path(ref, "start"), parse.sandbox, query={"wait_s": wait_s}, reply_s=waiting(wait_s))


def stop(ref: str, grace_s: float | None = None, wait_s: float = 0) -> Call[Sandbox]:
    body = {} if grace_s is None else {"grace_s": grace_s}
    query = {"wait_s": wait_s}
    return Call("POST", path(ref, "stop"), parse.sandbox, query=query, body=body, reply_s=waiting(wait_s))


def delete(ref: str, force: bool = False, wait_s: float = 0) -> Call[Sandbox]:
    query = {"force": force, "wait_s": wait_s}
    return Call("DELETE", path(ref), parse.sandbox, query=query, reply_s=waiting(wait_s))


def restore(ref: str, checkpoint: str, wait_s: float = 0) -> Call[Sandbox]:
    body, query = {"checkpoint": checkpoint}, {"wait_s": wait_s}
    return Call("POST", path(ref, "restore"), parse.sandbox, query=query, body=body, reply_s=waiting(wait_s))


def fork(
    ref: str,
    count: int = 1,
    *,
    checkpoint: str | None = None,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    wait_s: float = 0,
) -> Call[Any]:
    given = {"count": count, "checkpoint": checkpoint, "name": name, "labels": dict(labels) if labels else None}
    body = {key: value for key, value in given.items() if value is not None}
    query = {"wait_s": wait_s}
    return Call("POST", path(ref, "fork"), parse.anything, query=query, body=body, reply_s=waiting(wait_s))


def commit(ref: str, image: str, wait_s: float = 0) -> Call[Image]:
    body, query = {"image": image}, {"wait_s": wait_s}
    return Call("POST", path(ref, "commit"), parse.image, query=query, body=body, reply_s=waiting(wait_s))


def logs(ref: str, *, follow: bool = False, tail: int | None = None) -> Call[Any]:
    query = {"follow": follow, "tail": tail}
    return Call("GET", path(ref, "logs"), query=query, accept="text/plain", reply_s=None if follow else 60.0)


def stats(ref: str) -> Call[Stats]:
    return Call("GET", path(ref, "stats"), parse.stats)
