"""Where a passed request goes on the agent, after the references in its path were found in the database."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, urlencode

from skerry.control.passage.routes import CHECKPOINT, Needs, Passed
from skerry.errors import Conflict, Invalid, NotFound
from skerry.model.checkpoint import Checkpoint, CheckpointState
from skerry.model.sandbox import S, Sandbox
from skerry.store.store import Store
from skerry.store.transaction import PROJECT, Transaction

SANDBOX_PARTS = 4
"""/v1/sandboxes/{ref} in parts: what follows them is the agent's own path."""
CHECKPOINT_PARTS = 6


class Targets:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def find(self, passed: Passed, names: dict[str, str], path: str, query: str) -> str:
        """The agent's path and query. Raises NotFound, or Conflict when the sandbox is not as the route needs it."""
        async with self._store.read() as tx:
            if image_ref := names.get("image_ref"):
                return await self._image(tx, image_ref)
            sandbox = await tx.sandboxes.find(names["ref"], PROJECT)
            require(sandbox, passed.needs)
            if checkpoint_ref := names.get("checkpoint_ref"):
                return await self._checkpoint(tx, sandbox, checkpoint_ref, passed, path, query)
        rest = path.split("/", SANDBOX_PARTS)[SANDBOX_PARTS]
        return _join(f"/sandboxes/{sandbox.id}/{quote(rest)}", query)

    async def _checkpoint(
        self, tx: Transaction, sandbox: Sandbox, ref: str, passed: Passed, path: str, query: str
    ) -> str:
        checkpoint = await self._ready(tx, sandbox, ref)
        if passed.path == CHECKPOINT + "/diff":
            given = parse_qs(query)
            if unknown := given.keys() - {"to"}:
                raise Invalid(
                    f"{min(unknown)[:60]}: there is no such parameter; there is `to`", field=min(unknown)[:60]
                )
            if "to" in given:
                other = await self._ready(tx, sandbox, given["to"][0])
                return f"/checkpoints/{checkpoint.id}/diff?checkpoint={other.id}"
            require(sandbox, Needs.DISK)
            return f"/checkpoints/{checkpoint.id}/diff?sandbox={sandbox.id}"
        rest = path.split("/", CHECKPOINT_PARTS)[CHECKPOINT_PARTS]
        return _join(f"/checkpoints/{checkpoint.id}/{quote(rest)}", query)

    async def _ready(self, tx: Transaction, sandbox: Sandbox, ref: str) -> Checkpoint:
        checkpoint = await tx.checkpoints.find_of(sandbox.id, ref)
        if checkpoint.state is not CheckpointState.READY:
            raise Conflict(f"checkpoint v{checkpoint.number} is {checkpoint.state.value}, not ready")
        return checkpoint

    async def _image(self, tx: Transaction, ref: str) -> str:
        image = await tx.images.find(ref, PROJECT)
        if image.digest is None:
            raise Conflict(f"image {image.name} is {image.state.value}, not ready")
        return f"/images/{image.digest}/export?{urlencode({'name': image.name})}"


def require(sandbox: Sandbox, needs: Needs) -> None:
    state, name = sandbox.state, sandbox.name
    if state is S.DELETING:
        raise NotFound(f"sandbox {name} is being deleted")
    if sandbox.node is None:
        raise Conflict(f"sandbox {name} is {state.value} and has no machine yet")
    # One that is asleep is woken by its machine.
    if needs is Needs.RUNNING and state not in (S.RUNNING, S.ASLEEP):
        hint = "; start it first" if state in (S.STOPPED, S.FAILED) else "; try again when it runs"
        raise Conflict(f"sandbox {name} is {state.value}{hint}")
    if needs is Needs.DISK and sandbox.started_at is None:
        raise Conflict(f"sandbox {name} is {state.value} and has no disk yet")


def _join(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path
