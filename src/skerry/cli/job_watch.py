"""`skerry job watch` and `wait`: stay until a job has ended, see how it goes, and end as it did."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.job_view import JobView, Seen
from skerry.cli.options import DURATION, command, completing, sought
from skerry.cli.output import part, parts
from skerry.cli.tail_command import PassThrough
from skerry.client import flows
from skerry.client.call import Call, segment
from skerry.client.calls import jobs as calls
from skerry.client.calls.nodes import list_page as list_nodes
from skerry.errors import Failed, SkerryError

LOOK_EVERY_S = 1.0
RUNNING_SHOWN_MAX = 12
"""Tasks that are asked for at each look."""
LOG_TAIL = 20


def job_argument(function: Any) -> Any:
    return click.argument("job", callback=sought("job"), shell_complete=completing("job"))(function)


@command("watch", cls=PassThrough)
@job_argument
def watch(invocation: Invocation, job: str) -> int:
    """Show how JOB goes until it has ended, and end as `skerry job wait` does. Ctrl-C leaves it running."""
    return watch_job(invocation, job)


@command("wait", cls=PassThrough)
@click.option("--timeout", type=DURATION, metavar="TIME", help="Give up after so long; the job goes on.")
@click.option("--then", metavar="LINE", help="When it has ended, run this by /bin/sh, with SKERRY_JOB_STATE and more.")
@job_argument
def wait(invocation: Invocation, job: str, timeout: float | None, then: str | None) -> int:
    """Wait until JOB has ended: 0 if it succeeded; else of a job of one task that task's exit code, of others 1.

    125: skerry itself failed, or --timeout is over. 130: interrupted; the job goes on. It waits on while the server is
    away for some minutes, as when that is updated.

    \b
      skerry job wait train --then 'notify-send "$SKERRY_JOB is $SKERRY_JOB_STATE"'
    """
    return end_of(invocation, job, job, timeout_s=timeout, then=then)


def end_of(
    invocation: Invocation, ref: str, name: str, *, timeout_s: float | None = None, then: str | None = None
) -> int:
    """The code to end with, once it has ended."""
    try:
        body = invocation.run(flows.end(lambda wait_s: calls.get(ref, wait_s), calls.FINAL, timeout_s=timeout_s))
    except KeyboardInterrupt:
        _goes_on(invocation, name)
        raise
    code, reason = _how(invocation, body)
    _tell_end(invocation, body, reason)
    if then is not None:
        _run(then, body, code, reason)
    return code


def watch_job(invocation: Invocation, ref: str) -> int:
    view = JobView(invocation.output, invocation.environ)
    try:
        with view:
            body = _look_until_it_ends(invocation, ref, view)
    except KeyboardInterrupt:
        _goes_on(invocation, view.name or ref)
        raise
    code, reason = _how(invocation, body)
    if not invocation.output.json:  # which has been told all along
        _tell_end(invocation, body, reason)
    return code


def _how(invocation: Invocation, body: Any) -> tuple[int, str]:
    """The code to end with, and why it ended so: of a job of one task that task's."""
    alone: Any = {}
    if body["state"] == "failed" and part(body, "progress").get("total") == 1:
        tasks = invocation.run(flows.patiently(calls.tasks_page(body["id"], limit=1)))["items"]
        alone = tasks[0] if tasks else alone
    code = 0 if body["state"] == "succeeded" else alone.get("exit_code") or 1
    return code, alone.get("reason") or body.get("reason") or ""


def _tell_end(invocation: Invocation, body: Any, reason: str) -> None:
    total = part(body, "progress").get("total", 1)
    count = f" ({total} tasks)" if total > 1 and not reason else ""
    invocation.output.one(body, f"{body['name']} {body['state']}{count}" + (f": {reason}" if reason else ""))


def _goes_on(invocation: Invocation, name: str) -> None:
    invocation.output.note(
        f"{name} goes on: `skerry job watch {name}` looks at it again, `skerry job cancel {name}` stops it"
    )


def _run(line: str, body: Any, code: int, reason: str) -> None:
    told = {
        "SKERRY_JOB": body["name"],
        "SKERRY_JOB_ID": body["id"],
        "SKERRY_JOB_STATE": body["state"],
        "SKERRY_JOB_REASON": reason,
        "SKERRY_JOB_EXIT_CODE": str(code),
    }
    ran = subprocess.run(["/bin/sh", "-c", line], env={**os.environ, **told})
    if ran.returncode:
        raise Failed(f"the command of --then ended with {ran.returncode}; {body['name']} is {body['state']}")


def _look_until_it_ends(invocation: Invocation, ref: str, view: JobView) -> Any:
    log = _Log(invocation, view)
    body = invocation.ask(calls.get(ref))
    names: dict[str, str] = {}
    while True:
        running: list[Any] = []
        if part(body, "progress").get("running"):
            page = calls.tasks_page(body["id"], state="running", limit=RUNNING_SHOWN_MAX)
            running = invocation.run(flows.patiently(page))["items"]
            names = names or node_names(invocation, running)
        view.see(Seen(body, running, _why(invocation, body), names))
        if running:
            log.follow(body, running[0])
        if body["state"] in calls.FINAL:
            log.finish()
            return body
        body = invocation.run(flows.patiently(calls.get(body["id"], LOOK_EVERY_S)))


def node_names(invocation: Invocation, tasks: list[Any]) -> dict[str, str]:
    """Id -> name, if any of these is on a node."""
    if not any(one.get("node") for task in tasks for one in parts(task, "members")):
        return {}
    found = invocation.run(flows.gather(lambda token: list_nodes(page_token=token)))
    return {node["id"]: node["name"] for node in found}


def _why(invocation: Invocation, body: Any) -> Any:
    """What the scheduler says of one of which something waits and nothing runs; None where it says nothing."""
    progress = part(body, "progress")
    if body["state"] not in ("pending", "running") or progress.get("running") or not progress.get("pending"):
        return None
    try:
        return invocation.ask(Call("GET", f"/v1/explain/{segment(body['id'])}")).get("waiting")
    except SkerryError:
        return None


class _Log:
    """What the first task that runs prints, by a connection of its own."""

    FINISH_S = 2.0

    def __init__(self, invocation: Invocation, view: JobView) -> None:
        self._invocation = invocation
        self._view = view
        self._of: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    def follow(self, body: Any, task: Any) -> None:
        which = (task["index"], task["attempt"])
        if self._of == which or (self._thread is not None and self._thread.is_alive()):
            return
        self._of = which
        call = calls.logs(body["id"], task["index"], attempt=task["attempt"], follow=True, tail=LOG_TAIL)
        self._thread = threading.Thread(target=self._read, args=(call, task["index"]), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """The end of its output is on its way when the job has ended."""
        if self._thread is not None:
            self._thread.join(self.FINISH_S)

    def _read(self, call: Call[Any], index: int) -> None:
        try:
            for line in lines_of(self._invocation, call):
                self._view.printed(index, line)
        except SkerryError:
            return  # there is a next look, and a next task


def lines_of(invocation: Invocation, call: Call[Any]) -> Iterator[str]:
    """Lines of a log as they come."""
    rest = b""
    with invocation.transport.stream(call) as stream:
        for chunk in stream:
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
    if rest:
        yield rest.decode(errors="replace")
