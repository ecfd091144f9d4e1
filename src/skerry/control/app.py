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
from skerry.client.shares import Shares
from skerry.clock import Clock, SystemClock
from skerry.control import openapi
from skerry.control.api.archives import ArchiveRoutes
from skerry.control.api.checkpoints import CheckpointRoutes
from skerry.control.api.cloud import CloudRoutes
from skerry.control.api.events import EventRoutes
from skerry.control.api.explain import ExplainRoutes
from skerry.control.api.guest_services import GuestServiceRoutes
from skerry.control.api.images import ImageRoutes
from skerry.control.api.job_logs import JobLogRoutes
from skerry.control.api.jobs import JobRoutes
from skerry.control.api.keys import KeyRoutes
from skerry.control.api.models import ModelRoutes
from skerry.control.api.networks import NetworkRoutes
from skerry.control.api.nodes import NodeRoutes
from skerry.control.api.operations import OperationRoutes
from skerry.control.api.ports import HeldPorts, PortRoutes
from skerry.control.api.queues import QueueRoutes
from skerry.control.api.sandboxes import SandboxRoutes
from skerry.control.api.secrets import SecretRoutes
from skerry.control.api.services import ServiceRoutes
from skerry.control.api.sleep import SleepRoutes
from skerry.control.api.tokens import TokenRoutes
from skerry.control.api.urls import UrlRoutes
from skerry.control.api.volumes import VolumeRoutes
from skerry.control.first_key import ensure_first_key
from skerry.control.importing import Importing
from skerry.control.inside import Inside
from skerry.control.keys import KeyRing
from skerry.control.links import Links
from skerry.control.passage.http import Passage
from skerry.control.passage.target import Targets
from skerry.control.reconcilers import Reconcilers
from skerry.control.route_feed import RouteFeed
from skerry.control.sleeping import Sleeping
from skerry.control.tokens import TokenRing
from skerry.control.traffic_book import TrafficBook
from skerry.control.traffic_exchange import TrafficExchange
from skerry.control.uses import Uses
from skerry.control.waiting import Waiter
from skerry.control.wakeups import Wakeups
from skerry.control.web import build_api, build_web
from skerry.control.webhooks import Webhooks
from skerry.errors import SkerryError
from skerry.model.resources import Selector
from skerry.model.sandbox import SandboxSpec
from skerry.sealing import Sealer
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
        self._held = HeldPorts(self.agent)
        self._importing = Importing(
            self.store,
            self.agent,
            self._held,
            log,
            why_never=self._why_never,
            shares=Shares(settings.data_dir, settings.share),
            sandboxes_max=settings.sandboxes_max,
        )
        self.traffic = TrafficBook(self._clock, has_others=self.store.has_other_writers)
        self.exchange = TrafficExchange(self.store, self.traffic)
        self._webhooks = Webhooks(private=settings.webhooks_private)
        self.reconcilers = Reconcilers(
            settings=settings,
            store=self.store,
            agent=self.agent,
            wakeups=self.wakeups,
            clock=self._clock,
            log=log,
            group=self._group,
            node_name=socket.gethostname(),
            importing=self._importing,
            webhooks=self._webhooks,
            traffic=self.traffic,
            exchange=self.exchange,
        )
        self._keys = KeyRing(self.store, self._clock, self._write_use)
        self._tokens = TokenRing(self.store, self._clock)
        self._links = Links(settings)
        self.api = self._build_api()
        self._feed = RouteFeed(self.store)
        self.store.changes.listen(self._feed.about)
        passage = Passage(self.api, Targets(self.store), self.agent)
        inside = Inside(self._feed, self._keys, self._tokens, self.store, self.traffic, self.exchange)
        self.web: ASGIApp = build_web(passage, self._keys, inside, settings)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.store.close)
            await self.store.open()
            await ensure_first_key(self.store, self._settings.admin_key_path)
            self._links.open()
            await stack.enter_async_context(self.agent)
            await stack.enter_async_context(self._webhooks)
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
        held = self._held
        return build_api(
            [
                CloudRoutes(store, settings, lambda: openapi.document(self.api)).router(),
                CheckpointRoutes(store, waiter).router(),
                SleepRoutes(store, sleeping).router(),
                PortRoutes(store, held).router(),
                UrlRoutes(store, self._links, self._clock).router(),
                GuestServiceRoutes(store).router(),
                SandboxRoutes(
                    store,
                    waiter,
                    sleeping,
                    held,
                    Uses(store, self.agent),
                    why_never=self._why_never,
                    shares=Shares(settings.data_dir, settings.share),
                    sandboxes_max=settings.sandboxes_max,
                ).router(),
                ArchiveRoutes(store, waiter, self.agent, self._importing).router(),
                ImageRoutes(store, waiter, self.reconcilers.create_images).router(),
                ExplainRoutes(
                    store, self.reconcilers.place_sandboxes.why_waiting, self.reconcilers.scale_services.why
                ).router(),
                OperationRoutes(store, waiter).router(),
                EventRoutes(store, waiter).router(),
                KeyRoutes(store, self._keys).router(),
                NetworkRoutes(store, own_subnet=settings.network_subnet).router(),
                VolumeRoutes(store, waiter, self.agent, volumes_max=settings.volumes_max).router(),
                ModelRoutes(store, waiter, self.agent, Shares(settings.data_dir, settings.share)).router(),
                QueueRoutes(store).router(),
                NodeRoutes(store).router(),
                JobRoutes(
                    store,
                    waiter,
                    why_never=self._why_never,
                    shares=Shares(settings.data_dir, settings.share),
                    sandboxes_max=settings.job_sandboxes_max,
                ).router(),
                JobLogRoutes(store, waiter, self.agent).router(),
                ServiceRoutes(
                    store,
                    waiter,
                    self.traffic,
                    self.reconcilers.scale_services.why,
                    settings,
                    why_never=self._why_never,
                    shares=Shares(settings.data_dir, settings.share),
                ).router(),
                TokenRoutes(store, self._tokens).router(),
                SecretRoutes(store, Sealer(settings.secrets_key_path)).router(),
            ],
            self._log,
        )

    def _why_never(self, spec: SandboxSpec, nodes: Selector) -> tuple[str, str] | None:
        return self.reconcilers.refusals.why_never(spec, nodes)

    def _write_use(self, key_id: str) -> None:
        self._group.create_task(self._used(key_id))

    async def _used(self, key_id: str) -> None:
        try:
            async with self.store.write() as tx:
                await tx.keys.used(key_id)
        except SkerryError as error:
            self._log.info("the use of a key was not written down", say=error.say, because=error.because)
