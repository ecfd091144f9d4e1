"""The services of one sandbox that runs: one loop decides, a task for each follows its command to the end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from skerry.agent.logs import OutputLog
from skerry.agent.services import decide
from skerry.agent.services.kept import Kept, KeptServices
from skerry.agent.services.look import Looks
from skerry.clock import Clock
from skerry.errors import NotFound, SkerryError
from skerry.model.exec import ExecSpec
from skerry.model.guest_service import RUNS, GuestServiceSpec, GuestServiceState, GuestServiceStatus, Statuses
from skerry.model.restart import BACKOFF_FIRST_S, backoff_s
from skerry.runtime.contract import ExecPlan, Process, Runtime
from skerry.telemetry import Log

GRACE_S = 10.0
"""Between SIGTERM and SIGKILL for one that is stopped while its sandbox runs on."""
KILLED_WAIT_S = 5.0
STEP_AGAIN_S = 1.0
"""After a step that failed for a reason of this machine."""
_CODES = {126: "its command cannot be executed", 127: "its command was not found"}


@dataclass(frozen=True)
class Means:
    """What a crew works with; the same for all."""

    runtime: Runtime
    plan: Callable[[str, ExecSpec], ExecPlan]
    looks: Looks
    kept: KeptServices
    log_of: Callable[[str, str], OutputLog]
    remove_log: Callable[[str, str], Awaitable[None]]
    clock: Clock
    chance: Callable[[int], bytes]
    tell: Callable[[str], None]
    log: Log


class Unit:
    """One service, as it is now."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.process: Process | None = None
        self.ended = asyncio.Event()
        self.began_s = 0.0
        self.due_s = 0.0
        self.stopping = False
        """Its end is our doing: no policy applies to it."""
        self.missed = 0
        self.look_s: float | None = None
        self.looking: asyncio.Task[None] | None = None

    @property
    def status(self) -> GuestServiceStatus:
        return self.kept.status

    @property
    def runs(self) -> bool:
        return self.process is not None and not self.stopping


class Crew:
    def __init__(self, sandbox_id: str, specs: Mapping[str, GuestServiceSpec], means: Means) -> None:
        self._sandbox_id = sandbox_id
        self._specs = dict(specs)
        self._means = means
        self._units: dict[str, Unit] = {}
        self._news = asyncio.Event()
        self._door = asyncio.Lock()
        """Nothing is started, and no answer of a look is believed, while somebody else holds it."""
        self._resting = False
        self._over = False
        self._loop: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # Its life

    def begin(self) -> None:
        """The sandbox has just started: all of them are to."""
        for name, spec in self._specs.items():
            self._units[name] = self._fresh(name, spec)
        if self._units:
            self._save()
        self._go()

    async def adopt(self, *, resting: bool) -> None:
        """Go on where an agent that died has left off."""
        self._resting = resting
        for name, kept in self._means.kept.read(self._sandbox_id).items():
            token = kept.token or {"name": kept.exec_name or ""}
            process = await self._means.runtime.adopt_exec(self._sandbox_id, token) if kept.exec_name else None
            unit = self._units[name] = Unit(kept)
            if process is not None:
                self._follow(unit, name, process)
                unit.began_s -= max(0.0, (self._means.clock.now() - kept.status.since).total_seconds())
            self._take_up(name, unit)
        for name, spec in self._specs.items():
            if name not in self._units:
                self._units[name] = self._fresh(name, spec)
        if self._units:
            self._save()
        self._go()

    def _take_up(self, name: str, unit: Unit) -> None:
        kept, spec = unit.kept, self._specs.get(name)
        if spec is None:
            self._leave(name, unit)
            return
        state = kept.status.state
        if state is GuestServiceState.BACKING_OFF:
            unit.due_s = self._now_s() + backoff_s(max(1, kept.failures))
        if unit.process is None and state in RUNS:
            if kept.token is None:  # it was about to be started, and was not
                unit.kept = kept.model_copy(update={"exec_name": None})
                self._set(unit, GuestServiceState.WAITING)
            else:
                self._judge(unit, spec, None)
        elif unit.process is not None and (state not in RUNS or decide.must_restart(kept.spec, spec)):
            if state in RUNS:
                self._set(unit, GuestServiceState.WAITING, "it was changed")
            self._spawn(self._end(unit, GRACE_S))

    def apply(self, specs: Mapping[str, GuestServiceSpec]) -> None:
        """Others are wanted now: what is gone is stopped, what runs otherwise than it should is started again."""
        before, self._specs = self._specs, dict(specs)
        for name, unit in list(self._units.items()):
            spec = specs.get(name)
            if spec is None:
                self._leave(name, unit)
            elif name not in before:  # removed and added again while it was still on its way out
                self._set(unit, GuestServiceState.WAITING)
            elif decide.must_restart(before[name], spec):
                unit.due_s = 0.0
                if unit.status.state is not GuestServiceState.STOPPED:
                    self._set(unit, GuestServiceState.WAITING, "it was changed")
                self._spawn(self._end(unit, GRACE_S))
            else:
                unit.look_s = self._now_s() if unit.process is not None else None
        for name, spec in specs.items():
            if name not in self._units:
                self._units[name] = self._fresh(name, spec)
        self._changed()

    async def rest(self) -> None:
        """The sandbox falls asleep: from now on nothing of it is started or looked at."""
        self._resting = True
        async with self._door:
            await self._stop_looking()

    def resume(self) -> None:
        """It is awake again."""
        self._resting = False
        for unit in self._units.values():
            if unit.process is not None:
                unit.look_s = self._now_s()
        self._news.set()

    async def halt(self, grace_s: float) -> None:
        """The sandbox is about to be stopped: end them, those that need others first, within the grace."""
        await self.close(following=False)
        deadline_s = self._now_s() + grace_s
        left = [name for name, unit in self._units.items() if unit.process is not None]
        while left and (rest_s := deadline_s - self._now_s()) > 0:
            wave = decide.to_stop(self._specs, left)
            await asyncio.gather(*(self._end(self._units[name], rest_s) for name in wave))
            left = [name for name in left if name not in wave]

    async def close(self, *, following: bool = True) -> None:
        """Decide nothing any more; what runs, runs on. With `following` its output and its end are left alone too."""
        self._over = True
        await self._stop_looking()
        ending = [*([self._loop] if self._loop is not None else []), *(self._tasks if following else ())]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    # By hand

    async def start(self, name: str) -> None:
        """And what it needs, at once. Raises NotFound."""
        self._known(name)
        for each in decide.with_needs(self._specs, name):
            unit = self._units[each]
            unit.due_s = 0.0
            unit.kept = unit.kept.model_copy(update={"failures": 0})
        self._wanted(name)

    def _wanted(self, name: str) -> None:
        """One that backs off keeps its time."""
        for each in decide.with_needs(self._specs, name):
            unit = self._units[each]
            ended = (
                GuestServiceState.STOPPED,
                GuestServiceState.FAILED,
                *((GuestServiceState.DONE,) if each == name else ()),
            )
            if unit.status.state in ended:
                self._set(unit, GuestServiceState.WAITING)
        self._changed()

    async def stop(self, name: str) -> None:
        unit = self._known(name)
        async with self._door:
            self._set(unit, GuestServiceState.STOPPED, "asked")
            self._changed()
        await self._end(unit, GRACE_S)

    async def restart(self, name: str) -> None:
        unit = self._known(name)
        async with self._door:
            unit.due_s = 0.0
            self._set(unit, GuestServiceState.WAITING, "asked")
            self._changed()
        await self._end(unit, GRACE_S)
        await self.start(name)

    def want(self, port: int) -> bool:
        """Somebody connects to this port: whether it is one of a service that has yet to listen there."""
        name = next((name for name, spec in self._specs.items() if spec.port == port), None)
        if name is None or self._over:
            return False
        state = self._units[name].status.state
        if state in (GuestServiceState.HEALTHY, GuestServiceState.UNHEALTHY):
            return False
        for each in decide.with_needs(self._specs, name):
            # Who connects must not make it start more often than it would by itself.
            self._units[each].due_s = max(self._units[each].due_s, self._units[each].began_s + BACKOFF_FIRST_S)
        self._wanted(name)
        return True

    def statuses(self) -> Statuses:
        return tuple(self._units[name].status for name in self._specs if name in self._units)

    def has(self, name: str) -> bool:
        return name in self._specs

    # The loop

    def _go(self) -> None:
        self._loop = asyncio.get_running_loop().create_task(self._live())
        self._means.tell(self._sandbox_id)

    async def _live(self) -> None:
        while True:
            self._news.clear()
            wait_s: float | None
            try:
                async with self._door:
                    wait_s = await self._step()
            except (SkerryError, OSError) as error:
                self._means.log.warning("services", sandbox=self._sandbox_id, error=error)
                wait_s = STEP_AGAIN_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait_s)

    async def _step(self) -> float | None:
        """Do what is due; returns how long nothing will be, None for until something happens."""
        if self._resting:
            return None
        for name in self._startable():
            await self._start(name, self._units[name])
        now_s = self._now_s()
        for unit in self._units.values():
            if unit.runs and unit.looking is None and unit.look_s is not None and unit.look_s <= now_s:
                unit.looking = self._spawn(self._look(unit, unit.process))
        self._say_what_for()
        dues = [
            unit.due_s
            for unit in self._units.values()
            if unit.process is None and unit.status.state in (GuestServiceState.BACKING_OFF, GuestServiceState.WAITING)
        ]
        looks = [u.look_s for u in self._units.values() if u.runs and u.looking is None and u.look_s is not None]
        coming = [s for s in (*dues, *looks) if s > now_s]
        return min(coming) - now_s if coming else None

    def _startable(self) -> list[str]:
        standings = {name: decide.Standing(unit.status.state, unit.due_s) for name, unit in self._units.items()}
        found = decide.to_start(self._specs, standings, self._now_s())
        return [name for name in found if self._units[name].process is None]

    def _say_what_for(self) -> None:
        """One that is due and does not start waits for something: say for what."""
        standings = {name: decide.Standing(unit.status.state) for name, unit in self._units.items()}
        for name in self._specs:
            unit = self._units[name]
            due = unit.status.state is GuestServiceState.BACKING_OFF and unit.due_s <= self._now_s()
            if unit.process is None and (due or unit.status.state is GuestServiceState.WAITING):
                missing = decide.unmet(self._specs, standings, name)
                if missing and self._set(unit, GuestServiceState.WAITING, f"waits for {', '.join(missing)}"):
                    self._changed()

    async def _start(self, name: str, unit: Unit) -> None:
        spec = self._specs[name]
        again = unit.kept.exec_name is not None
        exec_name = f"service-{name}-{self._means.chance(6).hex()}"
        # Written before it is so: the next agent finds by this name what we may not live to write down.
        unit.kept = unit.kept.model_copy(update={"spec": spec, "exec_name": exec_name, "token": None})
        self._set(unit, GuestServiceState.STARTING, restarts=unit.status.restarts + again)
        self._changed()
        asked = ExecSpec(command=spec.command, user=spec.user, workdir=spec.workdir)
        asked = asked.model_copy(update={"env": {"SKERRY_SERVICE": name} | spec.env})
        try:
            plan = replace(self._means.plan(self._sandbox_id, asked), name=exec_name)
            process = await self._means.runtime.exec(self._sandbox_id, plan)
        except SkerryError as error:
            self._judge(unit, spec, None, error.say)
            self._changed()
            return
        self._follow(unit, name, process)
        unit.kept = unit.kept.model_copy(update={"token": process.token()})
        self._save()

    def _follow(self, unit: Unit, name: str, process: Process) -> None:
        unit.process, unit.stopping, unit.missed = process, False, 0
        unit.ended.clear()
        unit.began_s = self._now_s()
        unit.look_s = unit.began_s + (decide.look_again_s(unit.kept.spec, GuestServiceState.STARTING) or 0.0)
        self._spawn(self._until_ended(unit, name, process))

    async def _until_ended(self, unit: Unit, name: str, process: Process) -> None:
        log = self._means.log_of(self._sandbox_id, name)
        while (chunk := await process.read()) is not None:
            log.write(chunk[1])
        code = await process.wait()
        # What it left behind would still hold its port when it is started again.
        await process.kill(signal.SIGKILL)
        await process.close()
        unit.process = None
        unit.ended.set()
        if self._over:
            return
        ours, unit.stopping = unit.stopping, False
        spec = self._specs.get(name)
        if spec is None:
            await self._forget(name)
        elif ours:
            unit.kept = unit.kept.model_copy(update={"status": unit.status.model_copy(update={"exit_code": code})})
        else:
            self._judge(unit, spec, code)
        self._changed()

    def _judge(self, unit: Unit, spec: GuestServiceSpec, code: int | None, why: str | None = None) -> None:
        """It has ended by itself, or could not be started."""
        ran_s = self._now_s() - unit.began_s if why is None else 0.0
        outcome = decide.after_end(spec, code, ran_s=ran_s, failures=unit.kept.failures)
        unit.due_s = self._now_s() + outcome.wait_s
        unit.kept = unit.kept.model_copy(update={"failures": outcome.failures})
        self._set(unit, outcome.state, why or how_it_ended(code), exit_code=code)

    # Looking

    async def _look(self, unit: Unit, process: Process | None) -> None:
        spec = unit.kept.spec
        name = unit.status.name
        looks = self._specs[name].looks if name in self._specs else spec.looks
        fault = await self._means.looks.fault(self._sandbox_id, spec, looks) if looks is not None else None
        async with self._door:
            unit.looking = None
            if unit.process is process and unit.runs and not self._resting and name in self._specs:
                self._believe(unit, self._specs[name], fault)
        self._news.set()  # also where it was of one that has ended meanwhile: the next one waits to be looked at

    def _believe(self, unit: Unit, spec: GuestServiceSpec, fault: str | None) -> None:
        now_s = self._now_s()
        unit.missed = 0 if fault is None else unit.missed + 1
        before = unit.status.state
        state = decide.after_look(spec, before, well=fault is None, missed=unit.missed, ran_s=now_s - unit.began_s)
        again_s = decide.look_again_s(spec, state)
        unit.look_s = None if again_s is None else now_s + again_s
        reason = fault if state is GuestServiceState.UNHEALTHY else None
        changed = self._set(unit, state, reason)
        if state is GuestServiceState.UNHEALTHY and spec.health is not None and spec.health.restart:
            if changed:
                self._changed()  # so that it is told of as unhealthy, too
            outcome = decide.after_end(spec, None, ran_s=now_s - unit.began_s, failures=unit.kept.failures)
            unit.kept = unit.kept.model_copy(update={"failures": outcome.failures})
            unit.due_s = now_s + outcome.wait_s
            self._set(unit, outcome.state, fault)
            self._spawn(self._end(unit, GRACE_S))
            changed = True
        if changed:
            self._changed()

    async def _stop_looking(self) -> None:
        looking = [unit.looking for unit in self._units.values() if unit.looking is not None]
        for unit in self._units.values():
            unit.looking = None
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)

    # Ending

    async def _end(self, unit: Unit, grace_s: float) -> None:
        """SIGTERM to all of its session, SIGKILL after the grace."""
        process = unit.process
        if process is None:
            return
        unit.stopping = True
        await process.kill(signal.SIGTERM)
        try:
            await asyncio.wait_for(unit.ended.wait(), grace_s)
        except TimeoutError:
            if unit.process is process:
                await process.kill(signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(unit.ended.wait(), KILLED_WAIT_S)

    def _leave(self, name: str, unit: Unit) -> None:
        if unit.process is None:
            self._spawn(self._forget(name))
        else:
            self._spawn(self._end(unit, GRACE_S))

    async def _forget(self, name: str) -> None:
        if name not in self._specs and self._units.pop(name, None) is not None:
            self._save()
            await self._means.remove_log(self._sandbox_id, name)

    # Inside

    def _fresh(self, name: str, spec: GuestServiceSpec) -> Unit:
        status = GuestServiceStatus(name=name, state=GuestServiceState.WAITING, since=self._means.clock.now())
        return Unit(Kept(status=status, spec=spec))

    def _known(self, name: str) -> Unit:
        if name not in self._specs:
            raise NotFound(f"this sandbox has no service {name[:60]}")
        return self._units[name]

    def _set(self, unit: Unit, state: GuestServiceState, reason: str | None = None, **more: int | None) -> bool:
        """Whether that is news."""
        was = unit.status
        since = was.since if state is was.state else self._means.clock.now()
        status = was.model_copy(update={"state": state, "reason": reason, "since": since, **more})
        unit.kept = unit.kept.model_copy(update={"status": status})
        return status != was

    def _changed(self) -> None:
        if not self._over:
            self._save()
            self._means.tell(self._sandbox_id)
            self._news.set()

    def _save(self) -> None:
        if not self._over:
            self._means.kept.write(self._sandbox_id, {name: unit.kept for name, unit in self._units.items()})

    def _now_s(self) -> float:
        return self._means.clock.monotonic_s()

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def how_it_ended(code: int | None) -> str:
    if code is None:
        return "it ended while nobody watched"
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"it was killed by {signal.Signals(code - 128).name}"
    return _CODES.get(code, f"it ended with code {code}")
