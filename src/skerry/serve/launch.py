"""The first thing a program runs: tie its life to the supervisor's, take its lock, read its settings, call its main.

`python -m skerry.serve.launch agent|control|gateway PARENT_PID`, with the settings as JSON in SKERRY_SETTINGS_JSON. A
gateway may be one of several, by name (gateway, gateway-1, …), and inherit its listening socket as a third argument.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

from skerry.errors import SkerryError
from skerry.serve.listeners import bind
from skerry.settings import Settings
from skerry.telemetry import Log, route_standard_logging

PROGRAMS = {
    "agent": "skerry.agent.program",
    "control": "skerry.control.program",
    "gateway": "skerry.gateway.program",
}
SETTINGS_VARIABLE = "SKERRY_SETTINGS_JSON"
CANNOT_START = 2
CRASHED = 1
PREDECESSOR_GRACE_S = 15.0

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """SIGTERM when the supervisor dies, however it dies: a program without one would never be replaced."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call above
        raise SystemExit(0)


def take_lock(path: Path, log: Log, grace_s: float = PREDECESSOR_GRACE_S) -> int:
    """Be the only one of this program on this data_dir. A predecessor whose supervisor was killed is still stopping:
    give it time, then kill it, since nobody else will."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline_s = time.monotonic() + grace_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                _kill_holder(descriptor, log)
                deadline_s += grace_s
            time.sleep(0.05)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _kill_holder(descriptor: int, log: Log) -> None:
    holder = os.pread(descriptor, 32, 0).decode()
    if holder.isdigit():
        log.warning("killing a predecessor that does not stop", pid=holder)
        try:
            os.kill(int(holder), signal.SIGKILL)
        except ProcessLookupError:
            pass


def main(arguments: list[str]) -> int:
    kind, _, slot = arguments[0].partition("-") if arguments else ("", "", "")
    if not 2 <= len(arguments) <= 3 or kind not in PROGRAMS or SETTINGS_VARIABLE not in os.environ:
        print(f"{SETTINGS_VARIABLE}=… python -m skerry.serve.launch {'|'.join(PROGRAMS)} PARENT_PID", file=sys.stderr)
        return CANNOT_START
    name = arguments[0]
    die_with_parent(int(arguments[1]))
    # Out of the environment at once: what we start must not inherit a database password.
    settings = Settings(**json.loads(os.environ.pop(SETTINGS_VARIABLE)))
    log = Log(name, settings.log_level)
    route_standard_logging(name, settings.log_level)
    # Gateways may be many: the next one serves while the last one ends what it has begun.
    lock = None if kind == "gateway" else take_lock(settings.data_dir / f"{name}.lock", log)
    try:
        program = importlib.import_module(PROGRAMS[kind])
        if kind != "gateway":
            program.main(settings)
        elif len(arguments) == 3:
            program.main(settings, socket.socket(fileno=int(arguments[2])), int(slot or 0), settings.gateway_workers)
        else:
            program.main(settings, bind(settings.url_listen)[0])
    except SkerryError as error:
        log.error("cannot go on", say=error.say, because=error.because)
        return CANNOT_START
    except Exception:  # the supervisor starts it again; the log keeps why, on one line
        log.error("crashed", trace=traceback.format_exc())
        return CRASHED
    finally:
        if lock is not None:
            os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
