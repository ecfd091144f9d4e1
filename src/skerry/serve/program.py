"""What `skerry serve` becomes once its settings are read: a small process, since it lives as long as the machine.

`python -m skerry.serve.program`, with what it needs as JSON in SKERRY_SUPERVISOR_JSON; the command line makes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys

from skerry.errors import Failed
from skerry.serve.listeners import bind
from skerry.serve.supervisor import CANNOT_START, Supervisor
from skerry.telemetry import Log

SUPERVISOR_VARIABLE = "SKERRY_SUPERVISOR_JSON"


def lock(path: str) -> int | None:
    """The lock's descriptor; None when another supervisor has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode()
        print(f"skerry serve: already running with this data_dir (pid {holder})", file=sys.stderr)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def main() -> int:
    told = json.loads(os.environ.pop(SUPERVISOR_VARIABLE))
    if lock(told["lock_path"]) is None:
        return CANNOT_START
    log = Log("serve", told["log_level"])
    try:
        listening = bind(told["listen"], told["gateways"]) if told["gateways"] else []
    except Failed as error:
        log.error("cannot go on", say=error.say, because=error.because)
        return CANNOT_START
    supervisor = Supervisor(
        told["programs"],
        launcher=[sys.executable, "-m", "skerry.serve.launch"],
        run_path=told["run_path"],
        environment=dict(os.environ),
        log=log,
        on_ready=told["banner"],
        listening=[each.fileno() for each in listening],
    )
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
