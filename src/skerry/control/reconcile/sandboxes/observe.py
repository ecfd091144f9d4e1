"""running -> asleep, stopped or starting: notice what a sandbox or its machine did by itself (sleep, wake, end, loss).

The report stream only raises a suspicion. What is decided on is asked of the agent *after* the database was read: the
record said running at generation g before the agent said otherwise of g, so the answer cannot be older than the record.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.nodes.book import ReportBook
from skerry.model.order import Presence, Report
from skerry.model.sandbox import Exit, ExitReason, S, Sandbox
from skerry.model.service import Statuses, news
from skerry.model.sleep import Asleep
from skerry.store.store import Store
from skerry.store.transaction import Transaction

ADOPTABLE = (S.RUNNING, S.ASLEEP, S.STOPPED, S.FAILED)


class ObserveSandboxes:
    moves: ClassVar = frozenset(
        {
            (S.RUNNING, S.ASLEEP),
            (S.ASLEEP, S.RUNNING),
            *((was, to) for was in (S.RUNNING, S.ASLEEP) for to in (S.STOPPED, S.STARTING)),
        }
    )

    def __init__(self, store: Store, agent: AgentClient, book: ReportBook) -> None:
        self._store = store
        self._agent = agent
        self._book = book
        self._tiers: dict[str, Asleep] = {}
        """How each sleeper was last written down: the database is not asked for what most often has not changed."""
        self._services: dict[str, Statuses] = {}
        """Likewise what is said of services."""

    async def step(self) -> None:
        if not self._book.heard or self._book.node is None:
            return
        async with self._store.read() as tx:
            known = await tx.sandboxes.generations(self._book.node)
            suspects = await tx.sandboxes.with_ids(
                [key for key, (state, generation) in known.items() if self._suspect(key, state, generation)]
            )
        if not suspects:
            return
        truth = {report.sandbox_id: report for report in await self._agent.reports()}
        async with self._store.write() as tx:
            for sandbox in suspects:
                report = truth.get(sandbox.id)
                agreed = await _settle(tx, sandbox, decide(sandbox, report, tx.now))
                if agreed and report is not None:
                    await self._remember(tx, sandbox, report)
        self._services = {key: services for key, services in self._services.items() if key in known}
        self._tiers = {key: asleep for key, asleep in self._tiers.items() if key in known}

    async def _remember(self, tx: Transaction, sandbox: Sandbox, report: Report) -> None:
        """The record now says what this report did."""
        if report.asleep is not None:
            self._tiers[sandbox.id] = report.asleep
        if sandbox.state in (S.RUNNING, S.ASLEEP):
            self._services[sandbox.id] = report.services
            told = news(sandbox.services, report.services)
            await tx.events.add([("sandbox", sandbox.id, sandbox.name, kind, say) for kind, say in told])

    def _suspect(self, sandbox_id: str, state: S, generation: int) -> bool:
        report = self._book.get(sandbox_id)
        if report is not None and report.generation > generation and state in ADOPTABLE:
            return True
        if state not in (S.RUNNING, S.ASLEEP):
            return False
        if report is not None and report.services != self._services.get(sandbox_id, ()):
            return True
        if state is S.RUNNING:
            return report is None or report.presence is not Presence.RUNNING
        if report is None or report.presence is not Presence.ASLEEP:
            return True
        return report.asleep != self._tiers.get(sandbox_id)


Decision = tuple[S | None, str, str, dict[str, Any]]
"""(new state or None for only the changes, event, message, changes)"""


async def _settle(tx: Transaction, sandbox: Sandbox, decided: Decision | None) -> bool:
    """Whether the record now says what was decided."""
    if decided is None:
        return True
    to, event, message, changes = decided
    if to is None:
        return await tx.sandboxes.change(sandbox, changes) is not None
    return await tx.sandboxes.move(sandbox, to, event, message=message, changes=changes) is not None


def decide(sandbox: Sandbox, report: Report | None, now: datetime) -> Decision | None:
    """None: all is well, or not ours to say."""
    if report is not None and report.generation > sandbox.generation and sandbox.state in ADOPTABLE:
        # The database is older than the machine (restored from a backup). Without this every order would be refused
        # as outdated for ever; what runs is left as it is.
        return None, "", "", {"generation": report.generation}
    if sandbox.state not in (S.RUNNING, S.ASLEEP):
        return None
    if report is not None and report.presence in (Presence.RUNNING, Presence.ASLEEP):
        return _awake_or_asleep(sandbox, report)
    if report is not None and report.presence is Presence.STOPPED and report.generation == sandbox.generation:
        exit = report.exit or Exit(reason=ExitReason.LOST, at=now)
        event = "oom" if exit.reason is ExitReason.OOM else "stopped"
        code = "with a code nobody saw" if exit.code is None else f"with code {exit.code}"
        return S.STOPPED, event, f"its main process ended {code}", {"exit": exit, "asleep": None, "services": ()}
    lost = {"generation": sandbox.generation + 1, "restarts": sandbox.restarts + 1}
    lost |= {"asleep": None, "services": ()}
    return S.STARTING, "lost", "its machine lost it; it is started again on its disk", lost


def _awake_or_asleep(sandbox: Sandbox, report: Report) -> Decision | None:
    asleep, services = report.asleep, report.services
    if asleep is None:
        if sandbox.state is S.RUNNING:
            return (None, "", "", {"services": services}) if sandbox.services != services else None
        changes = {"asleep": None, "address": report.address, "services": services}
        return S.RUNNING, "woken", report.woken_by or "", changes
    changes = {"asleep": asleep, "services": services}
    if sandbox.state is S.RUNNING:
        return S.ASLEEP, "asleep", f"{asleep.tier.value}: {asleep.why}", changes
    return (None, "", "", changes) if (sandbox.asleep, sandbox.services) != (asleep, services) else None
