"""Calls about sandboxes themselves, and the words in which a user may declare one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from skerry.client import parse
from skerry.client.call import Call, label_query, segment, waiting
from skerry.errors import Invalid

if TYPE_CHECKING:
    from skerry.model.guest_service import GuestServiceSpec, MainHealth
    from skerry.model.image import Image
    from skerry.model.network import Join
    from skerry.model.port import PublishedPort
    from skerry.model.resources import PlacementRules
    from skerry.model.sandbox import Bandwidth, CheckpointPolicy, Mount, Network, Sandbox
    from skerry.model.secret import SecretUse
    from skerry.model.stats import Stats

SANDBOXES = "/v1/sandboxes"


class SpecOptions(TypedDict, total=False):
    """The fields of SandboxSpec besides its image, each also in a short form."""

    name: str | None
    hostname: str | None
    cpu: float | None
    memory: int | str | None
    disk: int | str | None
    pids: int | None
    command: str | Sequence[str] | None
    restart: str | None
    """always, on-failure or never: whether it starts again when its main process has ended."""
    health: MainHealth | Mapping[str, Any] | None
    """Such as {"http": "/health", "port": 80}."""
    env: Mapping[str, str] | None
    labels: Mapping[str, str] | None
    workdir: str | None
    user: str | None
    mounts: Sequence[Mount | Mapping[str, Any] | str] | None
    """Objects, or text: data:/srv/data for a volume, /srv/data:/data:ro or /home/ann/code:/srv:owner for a folder."""
    network: bool | Network | Mapping[str, Any] | None
    bandwidth: Bandwidth | Mapping[str, Any] | None
    ports: Sequence[PublishedPort | Mapping[str, Any] | str] | None
    """Objects, or text such as 8080:80, 8080:80,auto, 0.0.0.0:53:53/udp, or 80 for a free port of the machine."""
    networks: Sequence[Join | Mapping[str, Any] | str] | None
    """Objects, or text: NETWORK, or NETWORK:ADDRESS."""
    secrets: Sequence[SecretUse | Mapping[str, Any] | str] | None
    """Objects, or text: NAME, NAME=VARIABLE, or NAME:/PATH."""
    protected: bool | None
    self_checkpoint: bool | None
    self_lease: bool | None
    idle: float | str | None
    """Seconds, text such as 30s, or "never"."""
    cold_after: float | str | None
    idle_cpu: float | None
    squeeze: bool | None
    public: bool | None
    services: Mapping[str, GuestServiceSpec | Mapping[str, Any]] | None
    checkpoints: CheckpointPolicy | Mapping[str, Any] | None
    gpu: float | None
    """Accelerators: whole ones, or a share of one such as 0.5."""
    gpu_kind: str | Sequence[str] | None
    gpu_memory: int | str | None
    extras: Mapping[str, int] | None
    queue: str | None
    tier: str | None
    """free, best-effort, mid, production or monitoring."""
    priority: int | None
    placement: PlacementRules | Mapping[str, Any] | None
    """Such as {"nodes": {"rack": ["a"]}, "tolerations": ["team=vision"]}."""


def shell_words(command: str | Sequence[str]) -> list[str]:
    """Text is for the shell; a list is the command as it stands."""
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


def mount_from_text(text: str) -> dict[str, Any]:
    """SOURCE:TARGET[:ro,owner] -> the fields of Mount; a source without a slash is a volume, as in docker, unless it
    is ., .. or ~; and model://NAME[:TARGET]. Raises Invalid with what is allowed."""
    if text.startswith("model://"):
        name, _, target = text.removeprefix("model://").partition(":")
        return {"model": name, "target": target} if target else {"model": name}
    source, colon, rest = text.partition(":")
    target, _, told = rest.partition(":")
    words = set(told.split(",")) if told else set[str]()
    if not colon or not source or not target or not words <= {"ro", "rw", "owner"} or {"ro", "rw"} <= words:
        raise Invalid(
            f"mount {text!r}: expected SOURCE:TARGET, and after a further : ro, owner or ro,owner", field="mounts"
        )
    kind = "source" if "/" in source or source[0] in ".~" else "volume"
    fields = {kind: source, "target": target, "readonly": "ro" in words}
    return fields | ({"owner": True} if "owner" in words else {})


def mount_text(mount: Any) -> str:
    """The JSON of a Mount as people write it."""
    if mount.get("model"):
        return f"model://{mount['model']}:{mount['target']}"
    words = [word for word, field in (("ro", "readonly"), ("owner", "owner")) if mount.get(field)]
    source = mount.get("volume") or mount["source"]
    return ":".join([source, mount["target"], *([",".join(words)] if words else [])])


def plain(value: Any) -> Any:
    """A model object as the JSON it stands for; anything else as it is."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def spec_body(image: str, options: SpecOptions) -> dict[str, Any]:
    return {"image": image, **options_body(options)}


def options_body(options: Mapping[str, Any]) -> dict[str, Any]:
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
        elif name == "secrets":
            body[name] = secrets_body(value)  # pyright: ignore[reportArgumentType]
        elif name == "network" and isinstance(value, bool):
            body[name] = {"enabled": value}
        elif isinstance(value, Mapping):
            body[name] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
        else:
            body[name] = plain(value)
    return body


def update_body(change: SpecOptions) -> dict[str, Any]:
    """None that was given is told: in some fields it means the default again."""
    return {**dict.fromkeys(change), **options_body(change)}


def ports_body(given: Sequence[Any]) -> list[Any]:
    from skerry.client.calls.ports import port_from_text

    return [port_from_text(item) if isinstance(item, str) else plain(item) for item in given]


def service_body(spec: Any) -> dict[str, Any]:
    """A GuestServiceSpec, or its fields with text as the command."""
    body = dict(plain(spec))
    if isinstance(body.get("command"), str):
        body["command"] = shell_words(body["command"])
    return body


def networks_body(given: Sequence[Any]) -> list[Any]:
    from skerry.client.calls.networks import join_from_text

    return [join_from_text(item) if isinstance(item, str) else plain(item) for item in given]


def secrets_body(given: Sequence[Any]) -> list[Any]:
    from skerry.client.calls.secrets import use_from_text

    return [use_from_text(item) if isinstance(item, str) else plain(item) for item in given]


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
    queue: str | None = None,
    limit: int | None = None,
    page_token: str | None = None,
) -> Call[Any]:
    query = {
        "state": state,
        "label": label_query(labels),
        "name": name,
        "image": image,
        "parent": parent,
        "queue": queue,
        "jobs": True if queue is not None else None,  # whoever looks at a queue means all that is in it
        "limit": limit,
        "page_token": page_token,
    }
    return Call("GET", SANDBOXES, parse.anything, query=query)


def get(ref: str) -> Call[Sandbox]:
    return Call("GET", path(ref), parse.sandbox)


def wait(ref: str, until: str, wait_s: float) -> Call[Sandbox]:
    query = {"until": until, "wait_s": wait_s}
    return Call("GET", path(ref), parse.sandbox, query=query, reply_s=waiting(wait_s))


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
