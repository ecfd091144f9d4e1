"""Jobs of a file: submitted once for each content, and never changed: what is declared otherwise is another job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from skerry.client import flows
from skerry.client.calls import jobs as calls
from skerry.client.transport import Transport
from skerry.environment.kinds.contract import Action, Json, Reason, Scene, Step, differing
from skerry.environment.kinds.queues import queue_name
from skerry.environment.kinds.sandboxes import WORKSPACE, filled, folder_mounts, mount_body, secret_name, tagged
from skerry.errors import Conflict, Failed, NotFound
from skerry.model.labels import LABEL_ENVIRONMENT, own_labels

OF_THE_FILE = frozenset({"autostart", "folder"})
"""Fields of a declared job that the API does not know."""
CANCEL_S_MAX = 3900.0
"""The longest grace that a job may have to end in, and a little."""


class Jobs:
    section, noun = "jobs", "job"
    deletes_left_over, deleted_last = True, False

    def read(self, transport: Transport, environment: str) -> dict[str, Json]:
        """Of each name the newest; who was submitted last comes first, so that what waits goes before what it waits
        for."""
        items = _listed(transport, labels={LABEL_ENVIRONMENT: environment})
        newest = {item["name"]: item for item in reversed(items)}
        return dict(sorted(newest.items(), key=lambda pair: pair[1]["created_at"], reverse=True))

    def body(self, scene: Scene, key: str) -> Json:
        job = scene.section(self.section)[key]
        body: Json = {field: value for field, value in job.items() if field not in OF_THE_FILE}
        body["image"] = scene.image_name(job["image"])
        body["name"] = scene.name_of(self.section, key)
        body["networks"] = [{**join, "name": scene.name_of("networks", join["name"])} for join in job["networks"]]
        body["mounts"] = [*(mount_body(scene, mount) for mount in job["mounts"]), *folder_mounts(scene, job)]
        body["workdir"] = job["workdir"] or (WORKSPACE if job["folder"] else None)
        body["output"] = scene.name_of("volumes", job["output"]) if job["output"] else None
        body["queue"] = queue_name(scene, job["queue"])
        body["secrets"] = [{**use, "name": secret_name(scene, use["name"])} for use in job["secrets"]]
        body["notify"] = [
            {**one, "secret": secret_name(scene, one["secret"])} if one["secret"] else one for one in job["notify"]
        ]
        body["depends_on"] = [
            {"job": scene.name_of(self.section, needed), "outcome": job["depends_on"][needed] or "succeeded"}
            for needed in needed_jobs(scene, key)
        ]
        return {**body, "labels": {**job["labels"], **scene.labels(key, body)}}

    def compare(self, scene: Scene, key: str, body: Json, actual: Json) -> Step:
        spec = actual["spec"]
        reasons = tuple(
            differing(wanted, had, drift=False, field=field)
            for field, (wanted, had) in _comparable(body, spec).items()
            if wanted != had
        )
        step = Step(self.section, key, body["name"], Action.KEEP, (), body, actual)
        return anew(step, *reasons) if reasons else step

    def make(self, transport: Transport, step: Step) -> Json:
        return transport.json(calls.submit(step.body))

    def replace(self, transport: Transport, step: Step) -> Json:
        assert step.actual is not None
        stopped(transport, step.actual["id"])
        return self.make(transport, step)

    def change(self, transport: Transport, step: Step) -> Json:
        raise NotImplementedError("nothing of a job changes in place")

    def delete(self, transport: Transport, name: str) -> None:
        """Those of this name that ended before the newest was submitted, too."""
        for item in _listed(transport, name=name):
            if item["name"] != name:
                continue
            with suppress(NotFound):
                stopped(transport, item["id"])
                transport.json(calls.delete(item["id"]))


def stopped(transport: Transport, ref: str) -> Json:
    """Cancelled, if it has not ended, and then seen to its end."""
    with suppress(Conflict):  # it has ended by itself
        transport.json(calls.cancel(ref))
    return transport.run(flows.end(lambda wait_s: calls.get(ref, wait_s), calls.FINAL, timeout_s=CANCEL_S_MAX))


def wait_for_end(transport: Transport, body: Json, need: str) -> None:
    """Until it has `succeeded`, `failed` or `finished`, however long that takes. Raises Failed where it ended
    otherwise."""
    ended = transport.run(flows.end(lambda wait_s: calls.get(body["id"], wait_s), calls.FINAL))
    if need not in ("finished", ended["state"]):
        because = f": {ended['reason']}" if ended.get("reason") else ""
        raise Failed(f"{ended['name']} {ended['state']}{because}")


def needed_jobs(scene: Scene, key: str) -> list[str]:
    """Jobs of the file that one depends on, by their keys."""
    jobs = scene.section("jobs")
    return [needed for needed in jobs[key]["depends_on"] if needed in jobs]


def needed_sandboxes(scene: Scene, key: str) -> dict[str, str]:
    """Sandboxes of the file that one depends on -> what must be so of each."""
    machines = scene.section("sandboxes")
    wanted = scene.section("jobs")[key]["depends_on"]
    return {needed: need or "started" for needed, need in wanted.items() if needed in machines}


def anew(step: Step, *reasons: Reason) -> Step:
    """Submitted again: one that still goes on is cancelled for it, and that is to be agreed to."""
    assert step.actual is not None
    action = Action.CREATE if step.actual["state"] in calls.FINAL else Action.REPLACE
    return replace(step, action=action, reasons=(*step.reasons, *reasons))


def with_dependants(scene: Scene, steps: Sequence[Step]) -> list[Step]:
    """What depends on a job that is submitted anew, or was since, is submitted anew too."""
    found = {step.key: step for step in steps if step.section == "jobs" and step.action is not Action.DELETE}
    left = True
    while left:
        left = False
        for key, step in found.items():
            if step.action is not Action.KEEP:
                continue
            newer = next((needed for needed in needed_jobs(scene, key) if _is_newer(found.get(needed), step)), None)
            if newer is not None:
                found[key] = anew(step, Reason(f"depends_on: {newer} is another one now"))
                left = True
    return [found.get(step.key, step) if step.section == "jobs" else step for step in steps]


def _is_newer(needed: Step | None, step: Step) -> bool:
    if needed is None:
        return False
    if needed.action is not Action.KEEP:
        return True
    assert needed.actual is not None
    assert step.actual is not None
    return needed.actual["id"] not in [one["job"] for one in step.actual["spec"]["depends_on"]]


def _listed(transport: Transport, **wanted: Any) -> list[Json]:
    items = transport.run(
        flows.gather(lambda token: calls.list_page(**wanted, limit=flows.PAGE_ITEMS, page_token=token))
    )
    return sorted(items, key=lambda item: item["created_at"], reverse=True)


def _comparable(body: Json, spec: Json) -> Mapping[str, tuple[Any, Any]]:
    """Field -> as wanted, as it is. The server knows the jobs of depends_on by their ids, which `with_dependants`
    looks at; a field that it does not know is as it was."""
    found: dict[str, tuple[Any, Any]] = {field: (body[field], spec[field]) for field in body if field in spec}
    found["image"] = (tagged(body["image"]), spec["image"])
    found["mounts"] = ([filled(each) for each in body["mounts"]], [filled(each) for each in spec["mounts"]])
    found["labels"] = (own_labels(body["labels"]), own_labels(spec["labels"]))
    found["depends_on"] = (
        [one["outcome"] for one in body["depends_on"]],
        [one["outcome"] for one in spec["depends_on"]],
    )
    return found
