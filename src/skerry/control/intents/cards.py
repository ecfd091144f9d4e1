"""Say something else of a model than was said: its files stay as they are, and services that serve it take it up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skerry.control.intents import services
from skerry.errors import Conflict
from skerry.model.service import ServiceState
from skerry.model.weights import Model, ModelState, ModelUpdate, over
from skerry.store.transaction import Transaction


async def update(tx: Transaction, model: Model, wanted: ModelUpdate, *, share: Sequence[Path] = ()) -> Model:
    """Of services that serve it a new revision is rolled out. `share`: as of services."""
    if model.state is not ModelState.READY:
        raise Conflict(f"model {model.name} is {model.state.value}; what is said of it changes when it is ready")
    said = wanted.said_after(model.said)
    if said == model.said:
        return model
    if model.own is None:
        raise Conflict(
            f"what its files say of model {model.name} was not kept when it was fetched; delete it, and pull it again"
        )
    written = await tx.models.change(model, {"said": said, "card": over(model.own, said)})
    if written is None:
        raise Conflict(f"model {model.name} has just changed; look, then try again")
    fields = ", ".join(name for name in ModelUpdate.model_fields if getattr(said, name) != getattr(model.said, name))
    await tx.events.add([("model", model.id, model.name, "updated", fields)])
    sources = {model.source, f"model://{model.name}"}
    for service in await tx.services.all():
        if service.state is ServiceState.ACTIVE and service.spec.model in sources and not service.spec.addresses:
            await services.renew(tx, service, f"{fields} of model {model.name}", share=share)
    return written
