"""creating -> ready: have the machine fetch or make a model, telling progress as it goes."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.clock import Clock
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.making import Making
from skerry.control.reconcile.orders import TRIES_S_MAX
from skerry.errors import Conflict, SkerryError, Unavailable
from skerry.model.secret import SealedSecret
from skerry.model.weights import MadeModel, Model, ModelOrder, ModelState, kind_of, over
from skerry.store.store import Store

HANDS = 4
"""Each pull keeps several connections busy already."""


class CreateModels:
    moves: ClassVar = frozenset({(ModelState.CREATING, ModelState.READY), (ModelState.CREATING, ModelState.FAILED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands, clock: Clock) -> None:
        self._store = store
        self._agent = agent
        self._making = Making(store, clock)
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.models.in_states([ModelState.CREATING], self.hands.window, self.hands.busy())
        for model in waiting:
            self.hands.take(model.id, partial(self._create, model))

    async def _create(self, model: Model) -> None:
        order = ModelOrder(
            source=model.source,
            endpoint=model.endpoint,
            secret=await self._secret(model),
            base=model.base,
            convert=model.convert,
        )
        try:
            done = await self._making.follow(model, self._agent.create_model(model.id, order))
        except Unavailable:
            raise  # the agent, which goes on where it was when it is back
        except SkerryError as error:
            if isinstance(error, Conflict) and self.hands.answered_for_s(model.id) < TRIES_S_MAX:
                raise  # the agent is still letting go of an earlier attempt
            async with self._store.write() as tx:
                await tx.models.move(
                    model, ModelState.FAILED, "failed", message=error.say, changes={"reason": error.say}
                )
            return
        if done is not None:
            await self._record(model, MadeModel.model_validate(done, extra="ignore"))

    async def _secret(self, model: Model) -> SealedSecret | None:
        """The one that it names, else that of its kind of source, if it is set."""
        async with self._store.read() as tx:
            found = await tx.secrets.sealed([model.secret or f"model-{kind_of(model.source).value}"], model.project)
        return found[0] if found else None

    async def _record(self, model: Model, made: MadeModel) -> None:
        own = made.card if model.own is None else over(made.card, model.own)
        async with self._store.write() as tx:
            nodes = await tx.nodes.all()
            changes = {
                "digest": made.digest,
                "size_bytes": made.size_bytes,
                "revision": made.revision,
                "files": len(made.files),
                "own": own,
                "card": over(own, model.said),
                "reason": None,
                "node": nodes[0].id if nodes else None,
            }
            await tx.models.move(model, ModelState.READY, "ready", message=made.digest, changes=changes)
