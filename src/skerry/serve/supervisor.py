"""Keep the programs running, reap what they leave behind, stop them in order. Sleeps in one system call."""

from __future__ import annotations

import os
import signal
import time

from skerry.serve.exits import ExitFiles, start_time_ticks, wait_status
from skerry.serve.programs import Program
from skerry.serve.ready import serving_pid
from skerry.serve.succession import LEAVING_MAX, Succession
from skerry.telemetry import Log

STOP_ORDER = ("gateway", "control", "agent")
"""The gateway first, while what it passes on can still be answered; control before its agent: it must not see that go
and call it a failure. Sandboxes go on."""
STOP_S_MAX = {"gateway": 65.0, "control": 15.0, "agent": 15.0}
"""The gateway lets the answers of models that have begun come to their end."""
INHERITED = 3
"""Number of the listening socket in a gateway."""
READY_POLL_FIRST_S = 0.05
READY_POLL_MAX_S = 1.0
CANNOT_START = 2
INTERRUPTED = 130

_HANDLED = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class Supervisor:
    def __init__(
        self,
        names: list[str],
        *,
        launcher: list[str],
        run_path: str,
        environment: dict[str, str],
        log: Log,
        on_ready: str | None,
        listening: list[int],
    ) -> None:
        """`listening`: descriptors of sockets, a gateway for each."""
        self._launcher = launcher
        """Command that becomes a program, given its name and our pid, and the number of the socket it inherits."""
        self._programs = [Program(name) for name in ("agent", "control") if name in names]
        self._programs += [
            Program("gateway" if slot == 0 else f"gateway-{slot}", descriptor)
            for slot, descriptor in enumerate(listening)
        ]
        self._succession = Succession()
        self._run_path = run_path
        self._environment = environment
        self._log = log
        self._exits = ExitFiles(f"{run_path}/exits")
        self._was_ready = False
        self._on_ready = on_ready
        """Text for the terminal when everything serves for the first time."""

    def run(self) -> int:
        """Until told to stop; the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would never be seen
        while True:
            now_s = time.monotonic()
            for program in self._programs:
                if program.start_at_s is not None and program.start_at_s <= now_s:
                    self._start(program)
            told = self._sleep(self._next_wake_s())
            if self._reap(again=True) == CANNOT_START and not self._was_ready:
                return self._stop(CANNOT_START)
            if told in (signal.SIGTERM, signal.SIGINT):
                return self._stop(0)
            if told == signal.SIGHUP:
                self._succession.wanted += 1
            self._look_for_ready()
            self._look_for_successors()
            for program in self._programs:
                if self._succession.is_due(program):
                    self._start(self._succession.begin(program))

    def _sleep(self, seconds: float | None) -> int | None:
        told = signal.sigwaitinfo(_HANDLED) if seconds is None else signal.sigtimedwait(_HANDLED, max(0.0, seconds))
        return told.si_signo if told else None

    def _next_wake_s(self) -> float | None:
        """None: nothing is due, so sleep until something happens."""
        now_s = time.monotonic()
        due = [program.start_at_s - now_s for program in self._programs if program.start_at_s is not None]
        due += self._succession.due_s(now_s)
        for program in self._all():
            if program.pid and not program.ready:
                # The longer it takes the less often it is asked: an agent may have thousands to adopt.
                due.append(min(READY_POLL_MAX_S, max(READY_POLL_FIRST_S, program.up_s(now_s) / 10)))
        return min(due, default=None)

    def _start(self, program: Program) -> None:
        command = [*self._launcher, program.name, str(os.getpid())]
        inherited: list[tuple[int, int, int]] = []
        if program.listening is not None:
            command.append(str(INHERITED))
            inherited.append((os.POSIX_SPAWN_DUP2, program.listening, INHERITED))
        pid = os.posix_spawn(
            command[0], command, self._environment, file_actions=inherited, setsigmask=[], setsigdef=_HANDLED
        )
        program.started(pid, time.monotonic(), self._succession.wanted)
        self._log.info("started", name=program.name, pid=pid)

    def _look_for_ready(self) -> None:
        for program in self._programs:
            if program.pid and not program.ready and self._serves(program):
                program.ready = True
                self._log.info("ready", name=program.name)
        if not self._was_ready and all(program.ready for program in self._programs):
            self._was_ready = True
            if self._on_ready:
                print(self._on_ready, flush=True)

    def _serves(self, program: Program) -> bool:
        return serving_pid(f"{self._run_path}/{program.name}.sock") == program.pid

    # Gateways are replaced while they serve

    def _look_for_successors(self) -> None:
        now_s = time.monotonic()
        for predecessor, successor in list(self._succession.by_predecessor.items()):
            if successor.pid and self._serves(successor):
                successor.ready = True
                self._programs[self._programs.index(predecessor)] = successor
                self._succession.left_behind(predecessor, now_s)
                self._send(predecessor, signal.SIGUSR1)
                self._log.info("succeeded", name=successor.name, pid=successor.pid, predecessor=predecessor.pid)
        for program, _ in self._succession.leaving[:-LEAVING_MAX]:
            self._send(program, signal.SIGTERM)
        for program in self._succession.overdue(now_s):
            self._send(program, signal.SIGKILL)

    def _all(self) -> list[Program]:
        return [*self._programs, *self._succession.all()]

    def _reap(self, *, again: bool) -> int | None:
        """Collect every child that has ended; the exit code of the last program among them."""
        code: int | None = None
        while True:
            try:
                # WNOWAIT: it stays a zombie, with its start time, until its exit file is there for the agent.
                child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return code
            if child is None:
                return code
            status = wait_status(child.si_code, child.si_status)
            program = next((each for each in self._all() if each.pid == child.si_pid), None)
            if program is None:
                self._keep_exit(child.si_pid, status)
            os.waitpid(child.si_pid, 0)
            if program is not None:
                code = os.waitstatus_to_exitcode(status)
                self._note_end(program, child.si_pid, code, again=again)

    def _note_end(self, program: Program, pid: int, code: int, *, again: bool) -> None:
        heir = self._succession.inherits(program)
        if heir is not None:
            self._programs[self._programs.index(program)] = heir
        was_leaving = self._succession.ended(program)
        program.ended(time.monotonic(), again=again and program in self._programs)
        tell = self._log.warning if again and not was_leaving else self._log.info
        tell("ended", name=program.name, pid=pid, code=code)
        if again and not was_leaving and heir is None and program not in self._programs:
            self._log.error("cannot be replaced; the one that was there goes on", name=program.name)

    def _keep_exit(self, pid: int, status: int) -> None:
        try:
            self._exits.write(pid, start_time_ticks(pid), status)
        except OSError as error:  # a full /run costs an exit code, never the supervisor
            self._log.error("exit code lost", pid=pid, because=error)

    def _stop(self, code: int) -> int:
        """One after the other, gently; whoever asks twice wants it now."""
        hurry = False
        for kind in STOP_ORDER:
            hurry = self._end([each for each in self._all() if each.kind == kind], hurry=hurry)
        self._log.info("stopped; sandboxes go on")
        return INTERRUPTED if hurry and code == 0 else code

    def _end(self, programs: list[Program], *, hurry: bool) -> bool:
        """Until they are gone; whether we were told again meanwhile."""
        self._send_all(programs, signal.SIGKILL if hurry else signal.SIGTERM)
        deadline_s = time.monotonic() + max((STOP_S_MAX[each.kind] for each in programs), default=0.0)
        while any(each.running for each in programs):
            told = self._sleep(deadline_s - time.monotonic())
            self._reap(again=False)
            again = told in (signal.SIGTERM, signal.SIGINT)
            if again or time.monotonic() >= deadline_s:
                self._send_all(programs, signal.SIGKILL)
                deadline_s = time.monotonic() + STOP_S_MAX["agent"]
            hurry = hurry or again
        return hurry

    def _send_all(self, programs: list[Program], number: signal.Signals) -> None:
        for program in programs:
            self._send(program, number)

    def _send(self, program: Program, number: signal.Signals) -> None:
        if program.pid is None:
            return
        if number == signal.SIGKILL:
            self._log.warning("killing", name=program.name, pid=program.pid)
        # Not reaped yet, so the pid cannot be another process's.
        os.kill(program.pid, number)
