"""All reconcilers of one control program, each with its wake-up and how often it looks without one."""

from __future__ import annotations

import asyncio

from skerry.client.agent import AgentClient
from skerry.clock import Clock
from skerry.control.importing import Importing
from skerry.control.reconcile.checkpoints import create as create_checkpoints
from skerry.control.reconcile.checkpoints import delete as delete_checkpoints
from skerry.control.reconcile.checkpoints.automatic import ScheduleCheckpoints
from skerry.control.reconcile.checkpoints.guest import AnswerGuests
from skerry.control.reconcile.checkpoints.release import ReleaseCheckpoints
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.images import create as create_images
from skerry.control.reconcile.images import delete as delete_images
from skerry.control.reconcile.jobs import notify
from skerry.control.reconcile.jobs.advance import AdvanceJobs, AdvanceTasks
from skerry.control.reconcile.jobs.depend import DependJobs
from skerry.control.reconcile.jobs.fill import FillJob
from skerry.control.reconcile.jobs.forget import ForgetJobs
from skerry.control.reconcile.jobs.members import Subnets
from skerry.control.reconcile.jobs.news import JobNews
from skerry.control.reconcile.jobs.notify import NotifyJobs
from skerry.control.reconcile.ledger.mirror import Mirror
from skerry.control.reconcile.ledger.refusals import Refusals
from skerry.control.reconcile.ledger.shapes import Limits
from skerry.control.reconcile.loop import Reconciler, run
from skerry.control.reconcile.models import create as create_models
from skerry.control.reconcile.models import delete as delete_models
from skerry.control.reconcile.nodes.book import ReportBook
from skerry.control.reconcile.nodes.imports import SettleImports
from skerry.control.reconcile.nodes.sweep import SweepNode
from skerry.control.reconcile.nodes.watch import WatchNode
from skerry.control.reconcile.records.prune import PruneRecords
from skerry.control.reconcile.sandboxes import apply, delete, restore, start, stop
from skerry.control.reconcile.sandboxes.evict import EvictSandboxes
from skerry.control.reconcile.sandboxes.observe import ObserveSandboxes
from skerry.control.reconcile.sandboxes.place import PlaceSandboxes
from skerry.control.reconcile.services.busy import LookAtBusy
from skerry.control.reconcile.services.news import ServiceNews
from skerry.control.reconcile.services.replicas import MakeReplicas
from skerry.control.reconcile.services.scale import LOOK_EVERY_S, ScaleServices
from skerry.control.reconcile.services.settle import SettleServices
from skerry.control.reconcile.volumes import create as create_volumes
from skerry.control.reconcile.volumes import delete as delete_volumes
from skerry.control.reconcile.volumes import resize as resize_volumes
from skerry.control.traffic_book import TrafficBook
from skerry.control.traffic_exchange import TrafficExchange
from skerry.control.wakeups import Wakeup, Wakeups
from skerry.control.webhooks import Webhooks
from skerry.sealing import Sealer
from skerry.settings import Settings
from skerry.store.store import Store
from skerry.telemetry import Log

SOON_S = 5.0
"""For those that are woken by every write: this only mends a wake-up lost between two control programs."""
SELDOM_S = 30.0
RARELY_S = 300.0
SCHEDULE_S = 2.0
"""A fifth of the shortest interval a checkpoint policy may have."""
CALL_AGAIN_S = 0.2
"""A machine whose agent restarts is back in a second; asking its socket costs nothing."""

Loop = tuple[Reconciler, Wakeup, float]


class Reconcilers:
    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        agent: AgentClient,
        wakeups: Wakeups,
        clock: Clock,
        log: Log,
        group: asyncio.TaskGroup,
        node_name: str,
        importing: Importing,
        webhooks: Webhooks,
        traffic: TrafficBook,
        exchange: TrafficExchange,
    ) -> None:
        self._store = store
        self._agent = agent
        self._wake = wakeups
        self._clock = clock
        self._log = log
        self._group = group
        self._webhooks = webhooks
        self._traffic = traffic
        self._exchange = exchange
        self._hands: list[Hands] = []
        self._running: list[asyncio.Task[None]] = []
        making_images = self._new_hands(create_images.HANDS, wakeups.create_images)
        self.create_images = create_images.CreateImages(store, agent, making_images, clock)
        """The API gives it uploads, which have to be received where the client is connected."""
        book = ReportBook()
        self.all: list[Loop] = [
            *self._sandboxes(settings, book),
            *self._checkpoints(book),
            *self._images(making_images),
            *self._volumes(),
            *self._models(),
            *self._jobs(settings),
            *self._services(settings),
            *self._nodes(settings, node_name, book),
            (SettleImports(importing), wakeups.settle_imports, SELDOM_S),
            (PruneRecords(store), wakeups.prune_records, RARELY_S),
        ]

    def _new_hands(self, count: int, wakeup: Wakeup) -> Hands:
        hands = Hands(count, wakeup=wakeup, clock=self._clock, log=self._log, group=self._group)
        self._hands.append(hands)
        return hands

    def _sandboxes(self, settings: Settings, book: ReportBook) -> list[Loop]:
        store, agent, wake, hands = self._store, self._agent, self._wake, self._new_hands
        limits = Limits(
            cpu_overcommit=settings.cpu_overcommit,
            memory_overcommit=settings.memory_overcommit,
            sandboxes_max=settings.sandboxes_max,
            disk_reserve_bytes=settings.pool_reserve,
        )
        mirror = self.mirror = Mirror(store, self._clock, limits)
        store.changes.listen(lambda record: wake.place_sandboxes.set() if mirror.hear(record) else None)
        self.refusals = Refusals(mirror)
        placing = self.place_sandboxes = PlaceSandboxes(store, self._clock, mirror, wake.place_sandboxes, self._log)
        starting = start.StartSandboxes(store, agent, hands(start.HANDS, wake.start_sandboxes), self._clock)
        stopping = stop.StopSandboxes(store, agent, hands(stop.HANDS, wake.stop_sandboxes))
        restoring = restore.RestoreSandboxes(store, agent, hands(restore.HANDS, wake.restore_sandboxes))
        deleting = delete.DeleteSandboxes(store, agent, hands(delete.HANDS, wake.delete_sandboxes))
        # Another control program may have started one and died before it saw how it does.
        unseen_s = SOON_S if store.has_other_writers else SELDOM_S
        applying = apply.ApplyChanges(store, agent, hands(apply.HANDS, wake.apply_changes))
        return [
            (placing, wake.place_sandboxes, SOON_S),
            (EvictSandboxes(store, self._log), wake.evict_sandboxes, SOON_S),
            (starting, wake.start_sandboxes, SOON_S),
            (stopping, wake.stop_sandboxes, SOON_S),
            (restoring, wake.restore_sandboxes, SOON_S),
            (deleting, wake.delete_sandboxes, SOON_S),
            (applying, wake.apply_changes, SOON_S),
            (ObserveSandboxes(store, agent, book), wake.observe_sandboxes, unseen_s),
        ]

    def _checkpoints(self, book: ReportBook) -> list[Loop]:
        store, agent, wake = self._store, self._agent, self._wake
        making = self._new_hands(create_checkpoints.HANDS, wake.create_checkpoints)
        removing = self._new_hands(delete_checkpoints.HANDS, wake.delete_checkpoints)
        return [
            (create_checkpoints.CreateCheckpoints(store, agent, making), wake.create_checkpoints, SOON_S),
            (delete_checkpoints.DeleteCheckpoints(store, agent, removing, making), wake.delete_checkpoints, SOON_S),
            (ScheduleCheckpoints(store, self._clock, self._log), wake.schedule_checkpoints, SCHEDULE_S),
            (ReleaseCheckpoints(store), wake.release_checkpoints, SELDOM_S),
            (AnswerGuests(store, agent, book, self._log), wake.answer_guests, SELDOM_S),
        ]

    def _images(self, making: Hands) -> list[Loop]:
        wake = self._wake
        removing = self._new_hands(delete_images.HANDS, wake.delete_images)
        deleting = delete_images.DeleteImages(self._store, self._agent, removing, making)
        return [
            (self.create_images, wake.create_images, SOON_S),
            (deleting, wake.delete_images, SOON_S),
        ]

    def _volumes(self) -> list[Loop]:
        store, agent, wake = self._store, self._agent, self._wake
        making = self._new_hands(create_volumes.HANDS, wake.create_volumes)
        resizing = self._new_hands(resize_volumes.HANDS, wake.resize_volumes)
        removing = self._new_hands(delete_volumes.HANDS, wake.delete_volumes)
        return [
            (create_volumes.CreateVolumes(store, agent, making), wake.create_volumes, SOON_S),
            (resize_volumes.ResizeVolumes(store, agent, resizing), wake.resize_volumes, SOON_S),
            (delete_volumes.DeleteVolumes(store, agent, removing, making), wake.delete_volumes, SOON_S),
        ]

    def _models(self) -> list[Loop]:
        store, agent, wake = self._store, self._agent, self._wake
        making = self._new_hands(create_models.HANDS, wake.create_models)
        removing = self._new_hands(delete_models.HANDS, wake.delete_models)
        return [
            (create_models.CreateModels(store, agent, making, self._clock), wake.create_models, SOON_S),
            (delete_models.DeleteModels(store, agent, removing, making), wake.delete_models, SOON_S),
        ]

    def _jobs(self, settings: Settings) -> list[Loop]:
        store, wake = self._store, self._wake
        news = JobNews()
        store.changes.listen(news.about)
        fill = FillJob(
            store,
            waiting_max=settings.job_waiting_max,
            sandboxes_max=settings.job_sandboxes_max,
            subnets=Subnets(settings.job_subnets, settings.network_subnet),
        )
        notifying = NotifyJobs(
            store,
            self._webhooks,
            Sealer(settings.secrets_key_path),
            self._new_hands(notify.HANDS, wake.notify_jobs),
            self._clock,
        )
        tasks = AdvanceTasks(store, self._clock, news, fill, wake.advance_tasks)
        forgetting = ForgetJobs(store, self._agent)
        store.changes.listen(lambda record: wake.forget_jobs.set() if forgetting.waits_for(record) else None)
        return [
            (DependJobs(store), wake.depend_jobs, SOON_S),
            (tasks, wake.advance_tasks, SOON_S),
            (notifying, wake.notify_jobs, SOON_S),
            (forgetting, wake.forget_jobs, SELDOM_S),
            (AdvanceJobs(store, self._clock, news, fill, wake.advance_tasks), wake.advance_jobs, SOON_S),
        ]

    def _services(self, settings: Settings) -> list[Loop]:
        news = ServiceNews()
        self._store.changes.listen(news.about)
        make = MakeReplicas(sandboxes_max=settings.sandboxes_max)
        wake = self._wake.settle_services
        settling = SettleServices(self._store, self._clock, news, self._traffic, make, wake)
        scaling = self.scale_services = ScaleServices(
            self._store, self._traffic, self._exchange, self._wake.scale_services
        )
        return [
            (settling, wake, SOON_S),
            (scaling, self._wake.scale_services, LOOK_EVERY_S),
            (LookAtBusy(self._store, self._agent, self._traffic), Wakeup(), LOOK_EVERY_S),
        ]

    def _nodes(self, settings: Settings, name: str, book: ReportBook) -> list[Loop]:
        watching = WatchNode(
            store=self._store,
            agent=self._agent,
            agent_socket=settings.agent_socket,
            name=name,
            book=book,
            wakeups=self._wake,
            clock=self._clock,
            log=self._log,
        )
        return [
            (watching, self._wake.watch_node, CALL_AGAIN_S),
            (SweepNode(self._store, self._agent, book, self._log), self._wake.sweep_node, RARELY_S),
        ]

    def start(self) -> None:
        for reconciler, wakeup, every_s in self.all:
            loop = run(reconciler, wakeup, every_s=every_s, log=self._log)
            self._running.append(self._group.create_task(loop))

    async def stop(self) -> None:
        """Interrupts them anywhere: every step may be repeated."""
        for loop in self._running:
            loop.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for each in self._hands:
            await each.close()
