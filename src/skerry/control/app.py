"""Build control: store, agent client, reconcilers and API, each given what it needs, here and nowhere else."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from fastapi import FastAPI
from starlette.types import ASGIApp

from skerry.client.agent import AgentClient
from skerry.clock import Clock, SystemClock
from skerry.control import openapi
from skerry.control.api.checkpoints import CheckpointRoutes
from skerry.control.api.cloud import CloudRoutes
from skerry.control.api.events import EventRoutes
from skerry.control.api.images import ImageRoutes
from skerry.control.api.keys import KeyRoutes
from skerry.control.api.networks import NetworkRoutes
from skerry.control.api.operations import OperationRoutes
from skerry.control.api.ports import HeldPorts, PortRoutes
from skerry.control.api.sandboxes import SandboxRoutes
from skerry.control.api.services import ServiceRoutes
from skerry.control.api.sleep import SleepRoutes
from skerry.control.api.urls import UrlRoutes
from skerry.control.first_key import ensure_first_key
from skerry.control.keys import KeyRing
from skerry.control.links import Links
from skerry.control.passage.http import Passage
from skerry.control.passage.target import Targets
from skerry.control.reconcilers import Reconcilers
from skerry.control.route_feed import RouteFeed
from skerry.control.sleeping import Sleeping
from skerry.control.waiting import Waiter
from skerry.control.wakeups import Wakeups
from skerry.control.web import build_api, build_web
from skerry.errors import SkerryError
from skerry.settings import Settings
from skerry.store.store import Store
from skerry.telemetry import Log


class Control:
    """`async with Control(settings, log) as control:` reconciles; `control.web` is the ASGI application."""

    def __init__(self, settings: Settings, log: Log, clock: Clock | None = None) -> None:
        self._settings = settings
        self._log = log
        self._clock = clock or SystemClock()
        self.store = Store(settings.database, self._clock)
        self.agent = AgentClient(settings.agent_socket)
        self.wakeups = Wakeups()
        self.store.changes.listen(self.wakeups.about)
        self._group = asyncio.TaskGroup()
        self.reconcilers = Reconcilers(
            settings=settings,
            store=self.store,
            agent=self.agent,
            wakeups=self.wakeups,
            clock=self._clock,
            log=log,
            group=self._group,
            node_name=socket.gethostname(),
        )
        self._keys = KeyRing(self.store, self._clock, self._write_use)
        self._links = Links(settings)
        self.api = self._build_api()
        self._feed = RouteFeed(self.store)
        self.store.changes.listen(self._feed.about)
        passage = Passage(self.api, Targets(self.store), self.agent)
        self.web: ASGIApp = build_web(passage, self._keys, self._feed, settings)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.store.close)
            await self.store.open()
            await ensure_first_key(self.store, self._settings.admin_key_path)
            self._links.open()
            await stack.enter_async_context(self.agent)
            await stack.enter_async_context(self._group)
            self.reconcilers.start()
            stack.push_async_callback(self.reconcilers.stop)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def _build_api(self) -> FastAPI:
        store, settings = self.store, self._settings
        waiter = Waiter(store, self._clock)
        sleeping = Sleeping(store, waiter, self.agent)
        held = HeldPorts(self.agent)
        return build_api(
            [
                CloudRoutes(store, settings, lambda: openapi.document(self.api)).router(),
                CheckpointRoutes(store, waiter).router(),
                SleepRoutes(store, sleeping).router(),
                PortRoutes(store, held).router(),
                UrlRoutes(store, self._links, self._clock).router(),
                ServiceRoutes(store).router(),
                SandboxRoutes(
                    store, waiter, sleeping, held, share=settings.share, sandboxes_max=settings.sandboxes_max
                ).router(),
                ImageRoutes(store, waiter, self.reconcilers.create_images).router(),
                OperationRoutes(store, waiter).router(),
                EventRoutes(store, waiter).router(),
                KeyRoutes(store, self._keys).router(),
                NetworkRoutes(store, own_subnet=settings.network_subnet).router(),
            ],
            self._log,
        )

    def _write_use(self, key_id: str) -> None:
        self._group.create_task(self._used(key_id))

    async def _used(self, key_id: str) -> None:
        try:
            async with self.store.write() as tx:
                await tx.keys.used(key_id)
        except SkerryError as error:
            self._log.info("the use of a key was not written down", say=error.say, because=error.because)
