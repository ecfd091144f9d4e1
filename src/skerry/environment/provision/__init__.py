"""Provisioners: steps that make a new sandbox ready. What others call is here.

    run(transport, ref, member, machine, folder, *, only=(), everything=False, report) -> Outcome
    pending(transport, ref, machine, folder) -> Outlook      what `run` would do
    fresh_steps(machine, folder) -> [Step]                   what it would do on a new disk
    reset(transport, ref) -> checkpoint                      back to where the steps had ended
    read_log(folder, member, step), logged_steps(folder, member)

`ref` is a sandbox's id or name, `member` its key in the file, `folder` that of the file, `machine` what
`Machine.model_dump(mode="json", by_alias=True)` gives. Each may be called from one thread per sandbox.
"""

from skerry.environment.provision.checkpoints import COMMENT, reset
from skerry.environment.provision.events import Event, Report
from skerry.environment.provision.logs import logged_steps, read_log
from skerry.environment.provision.steps import Outlook, Step
from skerry.environment.provision.work import Outcome, StepFailed, fresh_steps, pending, run

__all__ = [
    "COMMENT",
    "Event",
    "Outcome",
    "Outlook",
    "Report",
    "Step",
    "StepFailed",
    "fresh_steps",
    "logged_steps",
    "pending",
    "read_log",
    "reset",
    "run",
]
