"""Whatever the image or the service's own command starts: any web app, any model server that we do not know."""

from __future__ import annotations

from skerry.engines.contract import Capability, Launch, Metrics, Place, Slots
from skerry.engines.launching import launch, no_adapters, no_roles
from skerry.engines.options import EngineOptions, read
from skerry.errors import Invalid
from skerry.model.service import EngineName, ServiceSpec


class CommandOptions(EngineOptions):
    pass


class CommandEngine:
    name = EngineName.COMMAND
    options = CommandOptions
    metrics = Metrics()
    capabilities = frozenset(
        {Capability.CHAT, Capability.COMPLETIONS, Capability.EMBEDDINGS, Capability.RERANK, Capability.RESPONSES,
         Capability.AUDIO}
    )  # fmt: skip
    """It may have any of them; nobody knows before asking."""
    slots = Slots()
    events_port: int | None = None

    def launch(self, spec: ServiceSpec, place: Place, name: str) -> Launch:
        options = read(CommandOptions, spec)
        no_adapters(spec, self.name)
        no_roles(place, self.name)
        if spec.image is None:
            raise Invalid("image: engine command needs one", field="image")
        if spec.port is None:
            raise Invalid("port: engine command needs one", field="port")
        if options.extra_args is not None:
            raise Invalid("options.extra_args: write it into command", field="options.extra_args")
        return launch(spec, place, name, image=spec.image, command=None, port=spec.port, health=None)
