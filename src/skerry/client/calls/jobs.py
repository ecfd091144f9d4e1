"""Calls about jobs, and the words in which a user may declare one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from skerry.client import parse
from skerry.client.call import Call, label_query, segment, waiting
from skerry.client.calls import sandboxes
from skerry.errors import Invalid

if TYPE_CHECKING:
    from skerry.model.job import Dependency, Job, Notification, Retry, Task
    from skerry.model.network import Join
    from skerry.model.resources import PlacementRules
    from skerry.model.sandbox import Mount, Network
    from skerry.model.secret import SecretUse

JOBS = "/v1/jobs"
FINAL = frozenset({"succeeded", "failed", "cancelled", "skipped"})
"""States in which a job stays; as in `skerry.model.job`, which the command line does not import."""
OUTCOMES = ("succeeded", "failed", "finished")
LOGS_REPLY_S = 60.0


class JobOptions(TypedDict, total=False):
    """The fields of JobSpec besides its image and its command, each also in a short form."""

    name: str | None
    queue: str | None
    tier: str | None
    priority: int | None
    nodes: int | None
    nodes_min: int | None
    array: int | str | Sequence[int] | None
    """A number of tasks, or indices: "0-9", "1-9:2", "1,4,8", [1, 4, 8]."""
    sweep: Mapping[str, Sequence[str | int | float | bool]] | None
    parallel: int | None
    fail_fast: bool | None
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
    output: str | None
    """A volume."""
    secrets: Sequence[SecretUse | Mapping[str, Any] | str] | None
    network: bool | Network | Mapping[str, Any] | None
    networks: Sequence[Join | Mapping[str, Any] | str] | None
    placement: PlacementRules | Mapping[str, Any] | None
    port: int | None
    retry: int | Retry | Mapping[str, Any] | None
    """A number of tries after the first, or {"limit": 3, "on": [137], "backoff_s": 10}."""
    timeout: float | str | None
    max_duration: float | str | None
    grace_s: float | str | None
    depends_on: str | Sequence[Dependency | Mapping[str, Any] | str] | None
    """Objects, or text: a job's name, or NAME:failed, NAME:finished."""
    notify: Sequence[Notification | Mapping[str, Any]] | None
    keep_s: float | str | None
    labels: Mapping[str, str] | None


def dependency_from_text(text: str) -> dict[str, Any]:
    """JOB[:succeeded|failed|finished] -> the fields of Dependency."""
    job, colon, outcome = text.partition(":")
    if not job or (colon and outcome not in OUTCOMES):
        raise Invalid(
            f"depends_on {text[:80]!r}: expected JOB, or JOB:OUTCOME with {', '.join(OUTCOMES)}", field="depends_on"
        )
    return {"job": job, "outcome": outcome} if colon else {"job": job}


def job_body(image: str, command: str | Sequence[str], options: JobOptions) -> dict[str, Any]:
    """Only what was given, in its long form: the server knows the defaults."""
    given: dict[str, Any] = dict(options)
    retry, depends_on, notify = (given.pop(name, None) for name in ("retry", "depends_on", "notify"))
    body = {"image": image, "command": sandboxes.shell_words(command), **sandboxes.options_body(given)}
    if retry is not None:
        body["retry"] = {"limit": retry} if isinstance(retry, int) else sandboxes.plain(retry)
    if depends_on:
        named: Sequence[Any] = [depends_on] if isinstance(depends_on, str) else depends_on
        body["depends_on"] = [
            dependency_from_text(item) if isinstance(item, str) else sandboxes.plain(item) for item in named
        ]
    if notify:
        body["notify"] = [sandboxes.plain(item) for item in notify]
    return body


def path(ref: str, *rest: str) -> str:
    return "/".join((JOBS, segment(ref), *rest))


def submit(body: Mapping[str, Any]) -> Call[Job]:
    return Call("POST", JOBS, parse.job, body=dict(body))


def list_page(
    *,
    state: str | None = None,
    queue: str | None = None,
    labels: Mapping[str, str] | None = None,
    name: str | None = None,
    limit: int | None = None,
    page_token: str | None = None,
) -> Call[Any]:
    query = {
        "state": state,
        "queue": queue,
        "label": label_query(labels),
        "name": name,
        "limit": limit,
        "page_token": page_token,
    }
    return Call("GET", JOBS, parse.anything, query=query)


def get(ref: str, wait_s: float = 0) -> Call[Job]:
    """With `wait_s`: answered when it is final, or when that is over."""
    query = {"wait_s": wait_s} if wait_s else {}
    return Call("GET", path(ref), parse.job, query=query, reply_s=waiting(wait_s))


def cancel(ref: str, reason: str = "", indices: Sequence[int] = ()) -> Call[Job]:
    body = {**({"reason": reason} if reason else {}), **({"indices": list(indices)} if indices else {})}
    return Call("POST", path(ref, "cancel"), parse.job, body=body)


def delete(ref: str) -> Call[Any]:
    return Call("DELETE", path(ref), parse.anything)


def tasks_page(
    ref: str, *, state: str | None = None, limit: int | None = None, page_token: str | None = None
) -> Call[Any]:
    query = {"state": state, "limit": limit, "page_token": page_token}
    return Call("GET", path(ref, "tasks"), parse.anything, query=query)


def task(ref: str, index: int) -> Call[Task]:
    return Call("GET", path(ref, "tasks", str(index)), parse.task)


def logs(
    ref: str, index: int, *, rank: int = 0, attempt: int | None = None, follow: bool = False, tail: int | None = None
) -> Call[Any]:
    query = {"rank": rank, "attempt": attempt, "follow": follow, "tail": tail}
    reply_s = None if follow else LOGS_REPLY_S
    return Call("GET", path(ref, "tasks", str(index), "logs"), query=query, accept="text/plain", reply_s=reply_s)
