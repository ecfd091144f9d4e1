"""The life of every sandbox on this machine: orders in, reports out, one verb at a time for each sandbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from weakref import WeakValueDictionary

from skerry.agent.execs import Execs
from skerry.agent.identity import GuestIdentity
from skerry.agent.journal import Entry, Journal, Wanted
from skerry.agent.logs import OutputLog, OutputLogs
from skerry.agent.networks.reach import Reach
from skerry.agent.plans import Plans
from skerry.agent.ports.publishing import Publishing
from skerry.agent.reports import Reports
from skerry.agent.services.services import Services
from skerry.agent.slots import SlotPool
from skerry.clock import Clock
from skerry.errors import Conflict, LimitReached, NotFound, SkerryError
from skerry.model.exec import ExecSpec
from skerry.model.order import Order, Presence, Report
from skerry.model.sandbox import Exit, ExitReason
from skerry.model.sleep import Asleep, Lease, Tier
from skerry.runtime.contract import Ended, ExecPlan, Runtime
from skerry.telemetry import Log

SERVICES_GRACE_SHARE = 0.5
"""Of the grace of a stop: services end before the main process, which must have time left to end itself."""
COLD_GRACE_S = 10.0
"""For the main process of one that goes from warm to cold, as for one that is stopped."""


class Sandboxes:
    services: Services
    """Set by `app`: services are commands in sandboxes, and begin and end with them."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        slots: SlotPool,
        journal: Journal,
        reports: Reports,
        plans: Plans,
        identity: GuestIdentity,
        reach: Reach,
        clock: Clock,
        log: Log,
        outputs: OutputLogs,
        sandboxes_max: int,
    ) -> None:
        self._runtime = runtime
        self._slots = slots
        self._journal = journal
        self._reports = reports
        self._plans = plans
        self._identity = identity
        self._reach = reach
        self._clock = clock
        self._log = log
        self._outputs = outputs
        self._sandboxes_max = sandboxes_max
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[str] = set()
        self._begun_s: dict[str, float] = {}
        self.execs: Execs | None = None
        """Set by `app`: sessions need sandboxes, and sandboxes end sessions."""
        self.ports: Publishing | None = None
        """Set by `app` likewise."""
        self.on_destroy: Callable[[str], None] = lambda _: None
        """Set by `app`, for what hangs on a sandbox's being there: called as often as its deletion is tried."""

    # Verbs

    async def ensure(self, order: Order, *, start: bool = True) -> Report:
        """Running as ordered; a repeated order changes nothing. Without `start` only what runs or sleeps changes."""
        async with self._turn(order.sandbox_id, order.generation) as entry:
            if entry is not None and (entry.asleep is not None or order.sandbox_id in self._watches):
                return await self._apply(entry, order)
            if entry is not None and entry.has_ended and entry.generation == order.generation:
                return self.report(entry, Presence.STOPPED)  # it has run by this order; the answer was lost
            if not start:
                return self.report_of(order.sandbox_id)
            if entry is None and len(self._reports.all()) >= self._sandboxes_max:
                raise LimitReached(f"this machine already has {self._sandboxes_max} sandboxes")
            order = self._plans.settle(order)
            if entry is not None:
                await self._halt(order.sandbox_id, 0)  # what is left of a run that ended or was cut short
            entry = self._journal.begin(order)
            await self._start_published(order, entry)
            return self.report(self._entry(order.sandbox_id), Presence.RUNNING)

    async def _start_published(self, order: Order, entry: Entry) -> None:
        """Its ports first: one that cannot have them does not start, and one that does not start gives them back."""
        assert self.ports is not None
        self.ports.claim(order.sandbox_id, order.spec.ports)
        try:
            await self._start(order, entry)
        except BaseException:
            self.ports.withdraw(order.sandbox_id)
            raise

    async def _apply(self, entry: Entry, order: Order) -> Report:
        """It runs, or sleeps, on; what the order changes of that takes effect at once, but for secrets: every command
        has the same ones as the main process, until that is started anew."""
        if entry.order is not None:
            order = order.model_copy(update={"secrets": entry.order.secrets})
        if order != entry.order:
            order = self._plans.settle(order)
            if entry.slot is not None:
                slot = await self._slots.lease(order.sandbox_id, network=order.has_cable)
                await self._reach.hold(order, slot)
            entry = self._journal.put(entry.model_copy(update={"generation": order.generation, "order": order}))
            await self.services.apply(order, resting=entry.asleep is not None)
        # Last, and with every repetition: a refusal must not keep the rest from being so, nor a crash this.
        await self._runtime.limit(order.sandbox_id, order.spec)
        return self.report(entry, Presence.RUNNING if entry.asleep is None else Presence.ASLEEP)

    async def _start(self, order: Order, entry: Entry) -> None:
        sandbox_id = order.sandbox_id
        leasing = asyncio.ensure_future(self._slots.lease(sandbox_id, network=order.has_cable))
        try:
            await self._have_disk(order)
            slot = await leasing
        except BaseException:
            # The disk may exist by now; it belongs to the journal's entry and goes when the sandbox is deleted.
            with contextlib.suppress(SkerryError):
                await leasing
            raise
        entry = self._journal.put(entry.model_copy(update={"slot": slot.number, "address": slot.address}))
        fork = order.fork and not entry.identity_made
        if fork:
            await self._identity.renew(self._runtime.disk_path(sandbox_id), order.hostname)
            entry = self._journal.put(entry.model_copy(update={"identity_made": True}))
        await self._reach.hold(order, slot)
        await self._plans.serve_guest(order, uid=slot.uid_base)
        self.services.prepare(sandbox_id)
        plan = self._plans.start_plan(order, slot)
        await self._runtime.start(plan, self.log_of(sandbox_id).write)
        self._begun_s[sandbox_id] = self._clock.monotonic_s()
        self.watch(sandbox_id)
        self.services.begin(order)

    async def _have_disk(self, order: Order) -> None:
        if order.has_run:
            self._runtime.disk_path(order.sandbox_id)  # raises NotFound: it is lost, and a new one would hide that
            return
        source_image = None if order.source_checkpoint else order.image_digest
        await self._runtime.create_disk(order.sandbox_id, source_image, order.source_checkpoint)

    async def stop(self, sandbox_id: str, generation: int, grace_s: float) -> Report:
        async with self._turn(sandbox_id, generation) as entry:
            if entry is None or entry.wanted is Wanted.ABSENT:
                raise NotFound(f"this machine has no sandbox {sandbox_id}")
            ran = sandbox_id in self._watches
            change = {"wanted": Wanted.STOPPED, "generation": generation, "asleep": None}
            entry = self._journal.put(entry.model_copy(update=change))
            await self._halt(sandbox_id, grace_s)
            await self._reach.leave(sandbox_id)
            entry = self._entry(sandbox_id)
            if ran or entry.exit is None:
                entry = self.record_exit(entry, Ended(entry.exit.code if entry.exit else None, ExitReason.STOPPED))
            return self.report(entry, Presence.STOPPED)

    async def restore(self, order: Order, checkpoint_id: str) -> Report:
        """Its disk back to the checkpoint, then running. After a crash anywhere the same call finishes it."""
        async with self._turn(order.sandbox_id, order.generation) as entry:
            sandbox_id = order.sandbox_id
            if entry is None or entry.wanted is Wanted.ABSENT:
                raise NotFound(f"this machine has no sandbox {sandbox_id}")
            swapped = entry.restored_generation == order.generation
            if swapped and sandbox_id in self._watches:
                return self.report(entry, Presence.RUNNING)
            if swapped and entry.has_ended:
                return self.report(entry, Presence.STOPPED)
            order = self._plans.settle(order)
            entry = self._journal.begin(order)
            await self._halt(sandbox_id, 0)
            if not swapped:
                await self._runtime.restore(sandbox_id, checkpoint_id)
                entry = self._journal.put(
                    self._entry(sandbox_id).model_copy(
                        update={"restored_generation": order.generation, "exit": None, "wanted": Wanted.RUNNING}
                    )
                )
            await self._start_published(order, entry)
            return self.report(self._entry(sandbox_id), Presence.RUNNING)

    async def delete(self, sandbox_id: str, generation: int, keep_log: str | None = None) -> Report:
        async with self._turn(sandbox_id, generation) as entry:
            if entry is None:
                entry = Entry(sandbox_id=sandbox_id, generation=generation, wanted=Wanted.ABSENT)
            change = {"wanted": Wanted.ABSENT, "generation": generation, "asleep": None, "keep_log": keep_log}
            entry = self._journal.put(entry.model_copy(update=change))
            return await self.finish_deletion(entry)

    async def finish_deletion(self, entry: Entry) -> Report:
        """Nothing of it is left but what the journal says of its deletion."""
        sandbox_id = entry.sandbox_id
        if self.ports is not None:
            self.ports.withdraw(sandbox_id)
        self._begun_s.pop(sandbox_id, None)
        await self._halt(sandbox_id, 0)
        await self._runtime.destroy(sandbox_id)
        self.on_destroy(sandbox_id)
        await self._plans.forget(sandbox_id)
        await self._reach.forget(sandbox_id)
        await self._slots.release(sandbox_id)
        await self._outputs.remove(sandbox_id, entry.keep_log)
        await self.services.remove(sandbox_id)
        self._journal.put(entry.model_copy(update={"order": None, "slot": None}))  # only the tombstone stays
        return self._reports.drop(Report(sandbox_id=sandbox_id, generation=entry.generation, presence=Presence.ABSENT))

    async def checkpoint(self, sandbox_id: str, checkpoint_id: str) -> float:
        """Milliseconds it stood still. Waits for a verb under way, so that no half-made disk is kept."""
        async with self.lock(sandbox_id):
            self._entry(sandbox_id)
            return await self._runtime.checkpoint(sandbox_id, checkpoint_id)

    # Sleep

    def entry(self, sandbox_id: str) -> Entry:
        """Raises NotFound."""
        return self._entry(sandbox_id)

    def entries(self) -> list[Entry]:
        """Of every sandbox that was not deleted."""
        return [entry for entry in self._journal.all() if entry.order is not None]

    def runs(self, sandbox_id: str) -> bool:
        """Whether it has processes; those of one that sleeps warm stand still."""
        return sandbox_id in self._watches

    def ran_for_s(self, sandbox_id: str) -> float | None:
        """Seconds since its processes were last started; None if that was before this agent began."""
        begun_s = self._begun_s.get(sandbox_id)
        return None if begun_s is None else self._clock.monotonic_s() - begun_s

    def sleeps(self, sandbox_id: str) -> bool:
        entry = self._journal.get(sandbox_id)
        return entry is not None and entry.asleep is not None

    def keep_leases(self, sandbox_id: str, leases: list[Lease]) -> None:
        self._journal.put(self._entry(sandbox_id).model_copy(update={"leases": tuple(leases)}))

    async def sleep(self, sandbox_id: str, tier: Tier, why: str, *, still: Callable[[], bool] = lambda: True) -> Report:
        """Freeze it, or stop it until it is wanted; one that sleeps as deeply already sleeps on. `still` is asked when
        nobody else is at work on it: if it says no, nothing happens. Raises Conflict when it does not run."""
        async with self.lock(sandbox_id):
            entry = self._entry(sandbox_id)
            if not still() or (entry.asleep is not None and entry.asleep.tier in (tier, Tier.COLD)):
                return self.report_of(sandbox_id)
            if sandbox_id not in self._watches:
                raise Conflict("the sandbox does not run; start it first")
            # Written before it is so: who wants it from now on waits for us, and then wakes it.
            self._journal.put(entry.model_copy(update={"asleep": self.asleep(tier, why)}))
            try:
                if tier is Tier.WARM:
                    squeeze = self.order_of(sandbox_id).spec.squeeze
                    await self.services.rest(sandbox_id)
                    await self._runtime.freeze(sandbox_id, squeeze=squeeze)
                else:
                    await self._halt(sandbox_id, COLD_GRACE_S)
            except BaseException:
                if entry.asleep is None:
                    self.services.resume(sandbox_id)
                self._journal.put(self._entry(sandbox_id).model_copy(update={"asleep": entry.asleep}))
                raise
            return self.report(self._entry(sandbox_id), Presence.ASLEEP)

    async def wake(self, sandbox_id: str, by: str) -> Report:
        """Let it go on, or start it again. Quiet about one that does not sleep."""
        async with self.lock(sandbox_id):
            entry = self._entry(sandbox_id)
            if entry.asleep is None:
                return self.report_of(sandbox_id)
            if sandbox_id in self._watches:
                await self._runtime.thaw(sandbox_id)
                self.services.resume(sandbox_id)
            else:
                order = self._plans.settle(self.order_of(sandbox_id))  # what was shared then may not be any more
                await self._start(order.model_copy(update={"has_run": True}), entry)
            entry = self._entry(sandbox_id).model_copy(update={"asleep": None, "exit": None, "woken_by": by})
            return self.report(self._journal.put(entry), Presence.RUNNING)

    def asleep(self, tier: Tier, why: str) -> Asleep:
        return Asleep(tier=tier, since=self._clock.now(), why=why)

    # While it runs

    def exec_plan(self, sandbox_id: str, spec: ExecSpec, *, stdin: bool) -> ExecPlan:
        entry = self._entry(sandbox_id)
        if sandbox_id not in self._watches or entry.order is None:
            raise Conflict("the sandbox does not run; start it first")
        return self._plans.exec_plan(entry.order, spec, stdin=stdin)

    async def oom_rose(self, sandbox_id: str) -> bool:
        """Whether the memory limit has killed something since we were last asked."""
        entry = self._journal.get(sandbox_id)
        if entry is None or sandbox_id not in self._watches:
            return False
        kills = (await self._runtime.usage(sandbox_id)).oom_kills
        if kills > entry.oom_kills:
            self._journal.put(entry.model_copy(update={"oom_kills": kills}))
            return True
        return False

    def order_of(self, sandbox_id: str) -> Order:
        order = self._entry(sandbox_id).order
        if order is None:
            raise NotFound(f"this machine has no sandbox {sandbox_id}")
        return order

    def log_of(self, sandbox_id: str) -> OutputLog:
        return self._outputs.of(sandbox_id)

    def report_of(self, sandbox_id: str) -> Report:
        report = self._reports.get(sandbox_id)
        if report is None:
            raise NotFound(f"this machine has no sandbox {sandbox_id}")
        return report

    async def close(self) -> None:
        for task in self._watches.values():
            task.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)
        await self._outputs.close()

    # Inside

    def _entry(self, sandbox_id: str) -> Entry:
        entry = self._journal.get(sandbox_id)
        if entry is None or entry.wanted is Wanted.ABSENT:
            raise NotFound(f"this machine has no sandbox {sandbox_id}")
        return entry

    def lock(self, sandbox_id: str) -> asyncio.Lock:
        return self._locks.setdefault(sandbox_id, asyncio.Lock())

    @contextlib.asynccontextmanager
    async def _turn(self, sandbox_id: str, generation: int) -> AsyncGenerator[Entry | None]:
        """Alone with this sandbox, with its journal entry. Raises Conflict for an order that was overtaken."""
        async with self.lock(sandbox_id):
            entry = self._journal.get(sandbox_id)
            if entry is not None and generation < entry.generation:
                raise Conflict(
                    "a newer order for this sandbox was already taken",
                    because=f"{sandbox_id}: order {generation}, journal {entry.generation}",
                )
            yield entry

    async def _halt(self, sandbox_id: str, grace_s: float) -> None:
        """No process of it is left. The watch sees the end and records how it ended."""
        watch = self._watches.get(sandbox_id)
        self._stopping.add(sandbox_id)
        if self.execs is not None:
            self.execs.cut_off(sandbox_id)
        try:
            if watch is not None and grace_s > 0:
                await self._runtime.thaw(sandbox_id)  # what stands still cannot end in good order
            await self.services.halt(sandbox_id, grace_s * SERVICES_GRACE_SHARE)
            await self._runtime.stop(sandbox_id, grace_s)
            if watch is not None:
                await watch
        finally:
            self._stopping.discard(sandbox_id)
        if self.execs is not None:
            self.execs.forget(sandbox_id)

    def watch(self, sandbox_id: str) -> None:
        """Its main process runs: be there when it ends."""
        self._watches[sandbox_id] = asyncio.ensure_future(self._until_ended(sandbox_id))

    async def _until_ended(self, sandbox_id: str) -> None:
        ended = await self._runtime.wait(sandbox_id)
        self.log_of(sandbox_id).end()
        self._watches.pop(sandbox_id, None)
        entry = self._journal.get(sandbox_id)
        if entry is None:
            return
        if sandbox_id in self._stopping:
            self.record_exit(entry, replace(ended, reason=ExitReason.STOPPED))
            return  # whoever stopped it reports
        self.record_exit(entry, ended)  # at once: an order that is repeated now must not start it again
        asyncio.ensure_future(self._clear_away(sandbox_id, ended))  # noqa: RUF006  # ends by itself, under the lock

    async def _clear_away(self, sandbox_id: str, ended: Ended) -> None:
        """Its main process ended by itself: remove what is left of it and say so."""
        async with self.lock(sandbox_id):
            entry = self._journal.get(sandbox_id)
            if entry is None or entry.wanted is Wanted.ABSENT or sandbox_id in self._watches:
                return  # deleted or started again meanwhile
            try:
                await self._runtime.stop(sandbox_id, 0)
                await self._reach.leave(sandbox_id)
            except SkerryError as error:  # its next start or its deletion tries again
                self._log.warning("remains of a sandbox", sandbox=sandbox_id, error=error, because=error.because)
            if self.execs is not None:
                self.execs.forget(sandbox_id)
            await self.services.forget(sandbox_id)
            self.fell(sandbox_id, ended)

    async def give_up(self, sandbox_id: str) -> None:
        """Its health is bad, and it is to be started again for that: it ends as if by itself, and control goes on."""
        async with self.lock(sandbox_id):
            if sandbox_id in self._watches and self._entry(sandbox_id).asleep is None:
                await self._halt(sandbox_id, COLD_GRACE_S)
                await self._reach.leave(sandbox_id)
                self.fell(sandbox_id, Ended(None, ExitReason.UNHEALTHY))

    def fell(self, sandbox_id: str, ended: Ended) -> None:
        """It ended by itself, and nothing is left of that run."""
        change = {"wanted": Wanted.STOPPED, "asleep": None}
        entry = self._journal.put(self._entry(sandbox_id).model_copy(update=change))
        self.report(self.record_exit(entry, ended), Presence.STOPPED)

    def record_exit(self, entry: Entry, ended: Ended) -> Entry:
        exit = Exit(reason=ended.reason, code=ended.code, at=self._clock.now())
        return self._journal.put(entry.model_copy(update={"exit": exit}))

    def report(self, entry: Entry, presence: Presence) -> Report:
        """So it is from now on, for control and for who calls its ports."""
        if self.ports is not None:
            if presence in (Presence.RUNNING, Presence.ASLEEP) and entry.order is not None:
                self.ports.serve(entry.sandbox_id, entry.order.spec.ports)
            else:
                self.ports.withdraw(entry.sandbox_id)
        return self._reports.put(entry.report(presence).model_copy(update=self.services.told(entry.sandbox_id)))
