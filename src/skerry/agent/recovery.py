"""What an agent that begins does about the sandboxes of the one before it: what runs is taken over as it is."""

from __future__ import annotations

from skerry.agent.execs import Execs
from skerry.agent.journal import Entry, Journal, Wanted
from skerry.agent.networks.reach import Reach
from skerry.agent.plans import Plans
from skerry.agent.reports import Reports
from skerry.agent.sandboxes import Sandboxes
from skerry.agent.services.services import Services
from skerry.agent.slots import SlotPool
from skerry.errors import SkerryError
from skerry.model.order import Order, Presence, Report
from skerry.model.sandbox import ExitReason
from skerry.model.sleep import Tier
from skerry.runtime.contract import Ended, Found, Runtime
from skerry.telemetry import Log


class Recovery:
    def __init__(
        self,
        *,
        sandboxes: Sandboxes,
        execs: Execs,
        services: Services,
        runtime: Runtime,
        slots: SlotPool,
        journal: Journal,
        reports: Reports,
        plans: Plans,
        reach: Reach,
        log: Log,
    ) -> None:
        self._sandboxes = sandboxes
        self._execs = execs
        self._services = services
        self._runtime = runtime
        self._slots = slots
        self._journal = journal
        self._reports = reports
        self._plans = plans
        self._reach = reach
        self._log = log

    async def recover(self) -> None:
        """Before anything is served: adopt what runs, finish deletions, call LOST what should run and does not."""
        found = {item.sandbox_id: item for item in await self._runtime.look()}
        for entry in self._journal.all():
            truth = found.pop(entry.sandbox_id, None)
            try:
                await self._recover_one(entry, truth)
                report = self._reports.get(entry.sandbox_id)
                if report is not None and report.presence not in (Presence.RUNNING, Presence.ASLEEP):
                    await self._reach.leave(entry.sandbox_id)
            except (SkerryError, OSError) as error:
                # One that cannot be taken over must not keep the others waiting; control will order it again.
                because = error.because if isinstance(error, SkerryError) else None
                self._log.error("cannot recover a sandbox", sandbox=entry.sandbox_id, error=error, because=because)
                self._sandboxes.report(entry, Presence.LOST if entry.wanted is Wanted.RUNNING else Presence.STOPPED)
        for sandbox_id, truth in found.items():
            # Not in our journal: someone else's, or the journal was lost. Never deleted on a guess.
            self._log.warning("unknown sandbox on this machine", sandbox=sandbox_id, runs=truth.pid is not None)
            presence = Presence.RUNNING if truth.pid is not None else Presence.STOPPED
            self._reports.put(Report(sandbox_id=sandbox_id, generation=0, presence=presence))

    async def _recover_one(self, entry: Entry, truth: Found | None) -> None:
        pid = truth.pid if truth else None
        if entry.wanted is Wanted.ABSENT:
            if truth is not None or entry.slot is not None:
                await self._sandboxes.finish_deletion(entry)
        elif pid is not None and entry.order is not None and entry.wanted is Wanted.RUNNING:
            await self._adopt(entry, entry.order, pid)
        elif pid is None and entry.asleep is not None:
            # It was stopped to be started by the next who wants it; or it was frozen, and the machine rebooted.
            await self._runtime.stop(entry.sandbox_id, 0)
            if entry.asleep.tier is Tier.WARM:
                cold = self._sandboxes.asleep(Tier.COLD, "a reboot")
                entry = self._journal.put(entry.model_copy(update={"asleep": cold}))
            if entry.order is not None:
                self._reach.know(entry.order)
            self._sandboxes.report(entry, Presence.ASLEEP)
        elif pid is not None:
            await self._runtime.stop(entry.sandbox_id, 0)  # a stop was under way when we died
            entry = self._sandboxes.record_exit(entry, Ended(None, ExitReason.STOPPED))
            self._sandboxes.report(entry, Presence.STOPPED)
        elif entry.wanted is Wanted.RUNNING:
            await self._runtime.stop(entry.sandbox_id, 0)  # what is left of it: cgroup, pipes, half a start
            if entry.exit is not None and entry.has_ended:  # and we died while we took away what was left
                self._sandboxes.fell(entry.sandbox_id, Ended(entry.exit.code, entry.exit.reason))
            else:
                self._sandboxes.report(entry, Presence.LOST)
        else:
            self._sandboxes.report(entry, Presence.STOPPED)

    async def _adopt(self, entry: Entry, order: Order, pid: int) -> None:
        slot = await self._slots.ensure(entry.sandbox_id, pid, network=order.has_cable)
        await self._reach.hold(order, slot)
        if await self._runtime.adopt(entry.sandbox_id, self._sandboxes.log_of(entry.sandbox_id).write) is None:
            await self._runtime.stop(entry.sandbox_id, 0)
            self._sandboxes.report(entry, Presence.LOST)
            return
        await self._plans.serve_guest(order, uid=slot.uid_base)
        self._sandboxes.watch(entry.sandbox_id)
        await self._execs.adopt(entry.sandbox_id)
        warm = entry.asleep is not None and entry.asleep.tier is Tier.WARM
        await self._services.adopt(order, resting=warm)
        if warm:
            await self._runtime.freeze(entry.sandbox_id)
            self._sandboxes.report(entry, Presence.ASLEEP)
        else:  # one that was just going cold, or just coming back, is there and runs
            awake = self._journal.put(entry.model_copy(update={"asleep": None, "exit": None}))
            self._sandboxes.report(awake, Presence.RUNNING)
