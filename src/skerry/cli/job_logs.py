"""`skerry job logs`: what the tasks of a job printed, one alone or several at once, each line under who printed it."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.job_watch import job_argument
from skerry.cli.logs import FOLLOWED_MAX, job_sources, together
from skerry.cli.options import command
from skerry.cli.watching import print_log
from skerry.client import flows
from skerry.client.calls import jobs as calls


@command("logs")
@click.option("--rank", type=int, metavar="R", help="Of a gang, only this member [all].")
@click.option("--attempt", type=int, metavar="A", help="Of this try, from 0 [the newest].")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is printed from now on.")
@click.option("--tail", "-n", type=int, metavar="N", help="Only the last N lines of each.")
@job_argument
@click.argument("index", type=int, required=False)
def logs(
    invocation: Invocation,
    job: str,
    index: int | None,
    rank: int | None,
    attempt: int | None,
    follow: bool,
    tail: int | None,
) -> None:
    """What task INDEX of JOB printed; without INDEX all of its tasks. Of several tasks, and of a gang, each line is
    under the task's index and the member's rank, as `3.0`."""
    how: dict[str, Any] = {"attempt": attempt, "follow": follow, "tail": tail}
    body = invocation.ask(calls.get(job))
    if index is not None:
        indices = [index]
    else:
        tasks = invocation.run(
            flows.gather(
                lambda token: calls.tasks_page(body["id"], limit=flows.PAGE_ITEMS, page_token=token),
                items_max=FOLLOWED_MAX,
            )
        )
        indices = [task["index"] for task in tasks if task["started_at"] or task["attempt"]]
    found = [source for one in indices for source in job_sources(body, one, how, rank)][:FOLLOWED_MAX]
    if len(found) == 1 and (index is not None or (body["spec"]["array"] is None and not body["spec"]["sweep"])):
        print_log(invocation, found[0].call)
    else:
        together(invocation, found, "task")
