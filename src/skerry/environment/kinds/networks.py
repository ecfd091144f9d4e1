"""Private networks of a file."""

from __future__ import annotations

import ipaddress
from typing import Any

from skerry.client import flows
from skerry.client.calls import networks as calls
from skerry.client.calls import sandboxes
from skerry.client.transport import Transport
from skerry.environment.kinds.asking import gone_at_once, labelled
from skerry.environment.kinds.contract import Action, Json, Reason, Scene, Step
from skerry.errors import Conflict, Invalid

CHOSEN_FROM = "10.96.0.0/12"
"""Subnets that nobody named are chosen here, /24 each: away from what home routers and Docker use."""
TRIES_MAX = 16


class Networks:
    section, noun = "networks", "network"
    deletes_left_over, deleted_last = True, False

    def read(self, transport: Transport, environment: str) -> dict[str, Json]:
        return labelled(transport, calls.list_page, environment)

    def body(self, scene: Scene, key: str) -> Json:
        declared = scene.section(self.section)[key]
        name = scene.name_of(self.section, key)
        body: Json = {"name": name, "subnet": declared["subnet"], "internal": declared["internal"]}
        return {**body, "labels": scene.labels(key, body)}

    def compare(self, scene: Scene, key: str, body: Json, actual: Json) -> Step:
        reasons = [
            Reason(f"{field}: {actual[field]} -> {body[field]}")
            for field in ("subnet", "internal")
            if body[field] is not None and body[field] != actual[field]
        ]
        action = Action.REPLACE if reasons else Action.KEEP
        return Step(self.section, key, body["name"], action, tuple(reasons), body, actual)

    def make(self, transport: Transport, step: Step) -> Json:
        if step.body["subnet"] is not None:
            return transport.json(calls.create(**step.body))
        known = transport.run(flows.gather(lambda token: calls.list_page(limit=flows.PAGE_ITEMS, page_token=token)))
        return self._with_free_subnet(transport, step.body, [item["subnet"] for item in known])

    def _with_free_subnet(self, transport: Transport, body: Json, taken: list[str]) -> Json:
        ranges = [ipaddress.IPv4Network(each) for each in taken]
        refused: Exception | None = None
        for tries, subnet in enumerate(ipaddress.IPv4Network(CHOSEN_FROM).subnets(new_prefix=24)):
            if tries > len(ranges) + TRIES_MAX:
                break
            if any(subnet.overlaps(each) for each in ranges):
                continue
            try:
                given: Any = {**body, "subnet": str(subnet)}
                return transport.json(calls.create(**given))
            except (Conflict, Invalid) as error:  # the machine has a route to it, or somebody was quicker
                if error.field == "name":
                    raise
                refused = error
        raise Conflict(f"no subnet of {CHOSEN_FROM} is free for {body['name']}; name one") from refused

    def replace(self, transport: Transport, step: Step) -> Json:
        """Its members leave it for the moment; each is in the new one at another address, unless it names one."""
        left: dict[str, list[Json]] = {}
        for member in transport.json(calls.get(step.name))["members"]:
            joins: list[Json] = transport.json(sandboxes.get(member["sandbox"]))["spec"]["networks"]
            left[member["sandbox"]] = [join for join in joins if join["name"] != step.name]
            transport.json(sandboxes.update(member["sandbox"], {"networks": left[member["sandbox"]]}))
        self.delete(transport, step.name)
        made = self.make(transport, step)
        for sandbox, joins in left.items():
            transport.json(sandboxes.update(sandbox, {"networks": [*joins, {"name": step.name}]}))
        return made

    def change(self, transport: Transport, step: Step) -> Json:
        raise NotImplementedError("nothing of a network changes in place")

    def delete(self, transport: Transport, name: str) -> None:
        gone_at_once(transport, calls.delete(name))
