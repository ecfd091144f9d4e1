"""Keep the programs running, reap what they leave behind, stop them in order. Sleeps in one system call."""

from __future__ import annotations

import os
import signal
import time

from skerry.serve.exits import ExitFiles, start_time_ticks, wait_status
from skerry.serve.programs import Program
from skerry.serve.ready import answers_health, holds_lock
from skerry.telemetry import Log

STOP_ORDER = ("gateway", "control", "agent")
"""The gateway first, while what it passes on can still be answered; control before its agent: it must not see that go
and call it a failure. Sandboxes go on."""
STOP_S_MAX = 15.0
STREAMS_S_MAX = 65.0
"""For the gateway, which lets the answers of models that have begun come to their end."""
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
        lock_folder: str,
        environment: dict[str, str],
        log: Log,
        on_ready: str | None,
    ) -> None:
        self._launcher = launcher
        """Command that becomes a program, given its name and our pid."""
        self._programs = [Program(name) for name in reversed(STOP_ORDER) if name in names]
        self._run_path = run_path
        self._lock_folder = lock_folder
        self._environment = environment
        self._log = log
        self._exits = ExitFiles(f"{run_path}/exits")
        self._was_ready = False
        self._on_ready = on_ready
        """Text for the terminal when everything serves for the first time."""

    def run(self) -> int:
        """Until told to stop; the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
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
            self._look_for_ready()

    def _sleep(self, seconds: float | None) -> int | None:
        told = signal.sigwaitinfo(_HANDLED) if seconds is None else signal.sigtimedwait(_HANDLED, max(0.0, seconds))
        return told.si_signo if told else None

    def _next_wake_s(self) -> float | None:
        """None: nothing is due, so sleep until something happens."""
        now_s = time.monotonic()
        due = [program.start_at_s - now_s for program in self._programs if program.start_at_s is not None]
        for program in self._programs:
            if program.pid and not program.ready:
                # The longer it takes the less often it is asked: an agent may have thousands to adopt.
                due.append(min(READY_POLL_MAX_S, max(READY_POLL_FIRST_S, program.up_s(now_s) / 10)))
        return min(due, default=None)

    def _start(self, program: Program) -> None:
        command = [*self._launcher, program.name, str(os.getpid())]
        pid = os.posix_spawn(command[0], command, self._environment, setsigmask=[], setsigdef=_HANDLED)
        program.started(pid, time.monotonic())
        self._log.info("started", name=program.name, pid=pid)

    def _look_for_ready(self) -> None:
        for program in self._programs:
            if program.pid and not program.ready and self._serves(program.name, program.pid):
                program.ready = True
                self._log.info("ready", name=program.name)
        if not self._was_ready and all(program.ready for program in self._programs):
            self._was_ready = True
            if self._on_ready:
                print(self._on_ready, flush=True)

    def _serves(self, name: str, pid: int) -> bool:
        lock_path = f"{self._lock_folder}/{name}.lock"
        return holds_lock(lock_path, pid) and answers_health(f"{self._run_path}/{name}.sock")

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
            program = next((each for each in self._programs if each.pid == child.si_pid), None)
            if program is None:
                self._keep_exit(child.si_pid, status)
            os.waitpid(child.si_pid, 0)
            if program is not None:
                code = os.waitstatus_to_exitcode(status)
                program.ended(time.monotonic(), again=again)
                tell = self._log.warning if again else self._log.info
                tell("ended", name=program.name, pid=child.si_pid, code=code)

    def _keep_exit(self, pid: int, status: int) -> None:
        try:
            self._exits.write(pid, start_time_ticks(pid), status)
        except OSError as error:  # a full /run costs an exit code, never the supervisor
            self._log.error("exit code lost", pid=pid, because=error)

    def _stop(self, code: int) -> int:
        """One after the other, gently; whoever asks twice wants it now."""
        hurry = False
        for program in reversed(self._programs):
            hurry = self._end(program, hurry=hurry)
        self._log.info("stopped; sandboxes go on")
        return INTERRUPTED if hurry and code == 0 else code

    def _end(self, program: Program, *, hurry: bool) -> bool:
        """Until it is gone; whether we were told again meanwhile."""
        deadline_s = time.monotonic() + (STREAMS_S_MAX if program.name == "gateway" else STOP_S_MAX)
        self._send(program, signal.SIGKILL if hurry else signal.SIGTERM)
        while program.running:
            told = self._sleep(deadline_s - time.monotonic())
            self._reap(again=False)
            again = told in (signal.SIGTERM, signal.SIGINT)
            if again or time.monotonic() >= deadline_s:
                self._send(program, signal.SIGKILL)
                deadline_s = time.monotonic() + STOP_S_MAX
            hurry = hurry or again
        return hurry

    def _send(self, program: Program, number: signal.Signals) -> None:
        if program.pid is None:
            return
        if number == signal.SIGKILL:
            self._log.warning("killing", name=program.name, pid=program.pid)
        # Not reaped yet, so the pid cannot be another process's.
        os.kill(program.pid, number)
