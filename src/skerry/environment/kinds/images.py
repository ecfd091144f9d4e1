"""Images of a file: made where they are not there yet, and left where they are: other sandboxes may start from them."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from skerry.client import archive, flows
from skerry.client.call import Call
from skerry.client.calls import images as calls
from skerry.client.transport import Transport
from skerry.environment.kinds.asking import gone, settled
from skerry.environment.kinds.contract import Action, Json, Reason, Scene, Step
from skerry.errors import Invalid

MAKE_S_MAX = 1800.0
"""A recipe fetches hundreds of packages."""


class Images:
    section, noun = "images", "image"
    deletes_left_over, deleted_last = False, False

    def read(self, transport: Transport, environment: str) -> dict[str, Json]:
        items = transport.run(
            flows.gather(
                lambda token: calls.list_page(name=f"{environment}/", limit=flows.PAGE_ITEMS, page_token=token)
            )
        )
        return {item["name"]: item for item in items if item["state"] in ("ready", "creating")}

    def body(self, scene: Scene, key: str) -> Json:
        declared = scene.section(self.section)[key]
        place = str(scene.folder / declared["archive"]) if declared["archive"] else None
        return {"name": scene.image_name(key), **declared, "archive": place}

    def compare(self, scene: Scene, key: str, body: Json, actual: Json) -> Step:
        action, reasons = Action.KEEP, list[Reason]()
        if actual["state"] == "creating":
            action, reasons = Action.START, [Reason("it is being made")]
        return Step(self.section, key, body["name"], action, tuple(reasons), body, actual)

    def make(self, transport: Transport, step: Step) -> Json:
        body = step.body
        if body["archive"]:
            return self._upload(transport, step)

        def ask(wait_s: float) -> Call[Any]:
            if body["recipe"]:
                return calls.build(body["name"], body["recipe"], body["include"], wait_s)
            return calls.pull(body["name"], body["source"], insecure=body["insecure"], wait_s=wait_s)

        return settled(transport, ask, calls.get, MAKE_S_MAX)

    def _upload(self, transport: Transport, step: Step) -> Json:
        path = Path(step.body["archive"])
        if step.body["digest"] and (found := _digest_of(path)) != step.body["digest"]:
            raise Invalid(f"{path} is not the archive that the file means: it is {found}", field="digest")
        chunks = archive.file_chunks(path)
        return settled(transport, lambda wait_s: calls.upload(step.name, chunks, wait_s), calls.get, MAKE_S_MAX)

    def replace(self, transport: Transport, step: Step) -> Json:
        self.delete(transport, step.name)
        return self.make(transport, step)

    def change(self, transport: Transport, step: Step) -> Json:
        """Somebody makes it already: wait for that."""
        assert step.actual is not None
        deadline_s = time.monotonic() + MAKE_S_MAX
        transport.run(flows.finish(step.actual["operation"], deadline_s=deadline_s))
        return transport.json(calls.get(step.actual["id"]))

    def delete(self, transport: Transport, name: str) -> None:
        gone(transport, lambda wait_s: calls.delete(name, wait_s))


def _digest_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", field="archive") from None
