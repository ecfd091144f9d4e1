"""`skerry job submit`: put a job into its queue, and if that is wanted stay until it has ended."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli import exit_codes
from skerry.cli.invocation import Invocation
from skerry.cli.job_options import job_from, job_options
from skerry.cli.job_watch import end_of, watch_job
from skerry.cli.options import command
from skerry.cli.output import part
from skerry.client.calls import jobs as calls


@command("submit", context_settings={"allow_interspersed_args": False})
@click.option("--watch", is_flag=True, help="Show how it goes until it has ended; Ctrl-C leaves it running.")
@click.option("--wait", is_flag=True, help="Return when it has ended.")
@job_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def submit(invocation: Invocation, command: tuple[str, ...], watch: bool, wait: bool, **options: Any) -> int | None:
    """Put a job into its queue: COMMAND in sandboxes that are made for it and go when it has ended.

    \b
      skerry job submit --cpu 2 --gpu 0.5 -- python3 train.py
      skerry job submit --nodes 4 -- torchrun --nnodes 4 --node-rank {rank} … train.py
      skerry job submit --array 0-9 --output results -- ./simulate --seed {index}
      skerry job submit --sweep lr=0.1,0.01 --sweep layers=2,4 --watch -c 'train --lr {lr} --layers {layers}'

    {index}, {rank}, {attempt}, {job} and the names of a sweep stand for their values. With --wait and --watch it ends
    as `skerry job wait` does.
    """
    if watch or wait:
        invocation.failure_code = exit_codes.SKERRY_FAILED
    body = job_from(command, options)
    invocation.sought.append(("image", body["image"]))
    job = invocation.ask(calls.submit(body))
    if not watch and not wait:
        invocation.output.one(job, _told(job))
        return None
    if not invocation.output.json:
        invocation.output.note(_told(job))
    return watch_job(invocation, job["id"]) if watch else end_of(invocation, job["id"], job["name"])


def _told(job: Any) -> str:
    total = part(job, "progress").get("total", 1)
    tasks = f", {total} tasks" if total > 1 else ""
    return f"{job['name']} ({job['id']}) is {job['state']} in queue {job['spec']['queue']}{tasks}"
