"""All reconcilers of one control program, each with its wake-up and how often it looks without one."""

from __future__ import annotations

import asyncio

from skerry.client.agent import AgentClient
from skerry.clock import Clock
from skerry.control.reconcile.checkpoints import create as create_checkpoints
from skerry.control.reconcile.checkpoints import delete as delete_checkpoints
from skerry.control.reconcile.checkpoints.automatic import ScheduleCheckpoints
from skerry.control.reconcile.checkpoints.guest import AnswerGuests
from skerry.control.reconcile.checkpoints.release import ReleaseCheckpoints
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.images import create as create_images
from skerry.control.reconcile.images import delete as delete_images
from skerry.control.reconcile.loop import Reconciler, run
from skerry.control.reconcile.nodes.book import ReportBook
from skerry.control.reconcile.nodes.sweep import SweepNode
from skerry.control.reconcile.nodes.watch import WatchNode
from skerry.control.reconcile.records.prune import PruneRecords
from skerry.control.reconcile.sandboxes import apply, delete, restore, start, stop
from skerry.control.reconcile.sandboxes.observe import ObserveSandboxes
from skerry.control.reconcile.sandboxes.place import PlaceSandboxes
from skerry.control.wakeups import Wakeup, Wakeups
from skerry.scheduler.place import Limits
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
    ) -> None:
        self._store = store
        self._agent = agent
        self._wake = wakeups
        self._clock = clock
        self._log = log
        self._group = group
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
            *self._nodes(settings, node_name, book),
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
        starting = start.StartSandboxes(store, agent, hands(start.HANDS, wake.start_sandboxes))
        stopping = stop.StopSandboxes(store, agent, hands(stop.HANDS, wake.stop_sandboxes))
        restoring = restore.RestoreSandboxes(store, agent, hands(restore.HANDS, wake.restore_sandboxes))
        deleting = delete.DeleteSandboxes(store, agent, hands(delete.HANDS, wake.delete_sandboxes))
        applying = apply.ApplyChanges(store, agent, hands(apply.HANDS, wake.apply_changes))
        return [
            (PlaceSandboxes(store, self._clock, limits), wake.place_sandboxes, SOON_S),
            (starting, wake.start_sandboxes, SOON_S),
            (stopping, wake.stop_sandboxes, SOON_S),
            (restoring, wake.restore_sandboxes, SOON_S),
            (deleting, wake.delete_sandboxes, SOON_S),
            (applying, wake.apply_changes, SOON_S),
            (ObserveSandboxes(store, agent, book), wake.observe_sandboxes, SELDOM_S),
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
