"""Which services there are: as control last told, kept on disk, so that a gateway that starts while control is down
serves at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import BaseModel, ValidationError

from skerry.errors import NotFound, Unavailable
from skerry.gateway.routing.contract import Policy
from skerry.gateway.services.answer import AnswerHeads
from skerry.gateway.services.service import Service
from skerry.model.service import PolicyName, ServiceState
from skerry.model.traffic import Access, ServiceRoute
from skerry.model.url import RouteNews

MakePolicy = Callable[[PolicyName], Policy]
Share = Callable[[int], int]
"""Of a limit that is for all gateways on this machine."""


class _Kept(BaseModel):
    services: list[ServiceRoute]


class Registry:
    def __init__(self, path: Path, streams_socket: str, make_policy: MakePolicy, share: Share) -> None:
        self._path = path
        self._share = share
        self._streams_socket = streams_socket
        self._make_policy = make_policy
        self.on_wanted: Callable[[Service], None] = lambda _: None
        """Told when somebody waits for a service that is at zero."""
        self._heads = AnswerHeads()
        self._by_id: dict[str, Service] = {}
        self._by_name: dict[str, list[Service]] = {}
        self._by_model: dict[str, list[Service]] = {}
        self.is_public = False
        """Whether any of them is for everybody."""
        self.known = False
        """Whether anybody has told them since we started, be it ourselves before."""
        self._changed = False

    def all(self) -> list[Service]:
        return list(self._by_id.values())

    # Found by

    def has(self, name: str) -> bool:
        """Whether there is a service of that name in any project."""
        return name in self._by_name

    def named(self, name: str, access: Access | None) -> Service | None:
        """By its name, as a host gives it: two projects may have one of the same."""
        return _of_project(self._by_name.get(name), access)

    def modelled(self, model: str, access: Access | None) -> Service:
        """By what clients give as `model`. Raises NotFound, Unavailable."""
        found = _of_project(self._by_model.get(model), access)
        if found is None:
            if not self.known:
                raise Unavailable("the gateway has just started and knows no service yet; try again", retry_after_s=1)
            say = (
                f"there is no model {model[:128]}; GET /v1/models lists those there are" if model else "model: missing"
            )
            raise NotFound(say, field="model")
        return found

    # What control says

    def learn(self, news: RouteNews) -> None:
        if news.services is not None:
            for gone in set(self._by_id) - {each.id for each in news.services}:
                self._forget(gone)
            for each in news.services:
                self._put(each)
            self.known = True
            self._index()
        if news.service_gone is not None:
            self._forget(news.service_gone)
            self._index()
        if news.service is not None:
            self._put(news.service)
            self._index()

    def _put(self, route: ServiceRoute) -> None:
        found = self._by_id.get(route.id)
        if route.state is ServiceState.DELETED:
            return self._forget(route.id)
        if found is not None and found.route.routing.policy is route.routing.policy:
            found.learn(route)
        else:
            made = Service(
                route, self._make_policy(route.routing.policy), self._heads, self._streams_socket, self._share
            )
            made.on_wanted = self.on_wanted
            if found is not None:
                made.adopt(found)
            self._by_id[route.id] = made
        return None

    def _forget(self, service_id: str) -> None:
        gone = self._by_id.pop(service_id, None)
        if gone is not None:
            gone.close()

    def _index(self) -> None:
        self._by_name = _listed((each.route.name, each) for each in self._by_id.values())
        self.is_public = any(each.route.public for each in self._by_id.values())
        self._by_model = _listed((model, each) for each in self._by_id.values() for model in each.names)
        self._changed = True

    # On disk

    def save(self) -> None:
        """Called every now and then; writes what has changed since."""
        if not self._changed:
            return
        self._changed = False
        kept = _Kept(services=[each.route for each in self._by_id.values()])
        beside = self._path.with_suffix(f".{os.getpid()}")  # others on this machine keep the same
        try:
            beside.write_bytes(kept.model_dump_json().encode())
            os.replace(beside, self._path)
        except OSError:
            self._changed = True  # a full disk must not stop traffic; tried again

    def load(self) -> None:
        """What was saved, where control has said nothing yet."""
        try:
            kept = _Kept.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return
        self.learn(RouteNews(services=kept.services))


def _listed(pairs: Iterable[tuple[str, Service]]) -> dict[str, list[Service]]:
    found: dict[str, list[Service]] = {}
    for name, each in pairs:
        found.setdefault(name, []).append(each)
    return found


def _of_project(found: list[Service] | None, access: Access | None) -> Service | None:
    """Whoever shows a key means its own project's; a stranger, one that is for everybody."""
    if not found:
        return None
    if access is not None:
        own = [each for each in found if each.route.project == access.project]
        allowed = [each for each in own if not access.services or each.route.name in access.services]
        if allowed or own:
            return (allowed or own)[0]
    return next((each for each in found if each.route.public), None if access is not None else found[0])
