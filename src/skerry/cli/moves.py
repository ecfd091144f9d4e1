"""`skerry restore`, `fork` and `commit`: what is done with a sandbox's disk as a whole."""

from __future__ import annotations

import time

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import checkpoint_argument, command, label_pairs, sandbox_argument, yes_option
from skerry.client import flows
from skerry.client.calls import images
from skerry.client.calls import sandboxes as calls


@command("restore")
@yes_option
@click.option("--force", "-f", is_flag=True, hidden=True)
@sandbox_argument
@checkpoint_argument("checkpoint")
def restore(invocation: Invocation, sandbox: str, checkpoint: str, yes: bool, force: bool) -> None:
    """Put SANDBOX back to CHECKPOINT (v3, or its id): same id and address, the disk of then, processes anew."""
    invocation.confirm(f"Put {sandbox} back to {checkpoint}? What was written since is lost", yes or force)
    began = time.monotonic()
    body = invocation.run(
        flows.settle(lambda wait_s: calls.restore(sandbox, checkpoint, wait_s), lambda had: calls.get(had["id"]))
    )
    passed_ms = (time.monotonic() - began) * 1000
    invocation.output.one(body, f"{body['name']} is back at {checkpoint} and {body['state']} ({passed_ms:.0f} ms)")


@command("fork")
@click.option("--count", "-n", type=int, default=1, metavar="N", help="How many [1].")
@click.option("--checkpoint", metavar="VERSION", help="Begin with this checkpoint of it [as it is now].")
@click.option("--name", metavar="PREFIX", help="Forks are called PREFIX-1, PREFIX-2, … [its own name].")
@click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Added to its labels. Repeat.")
@sandbox_argument
def fork(
    invocation: Invocation, sandbox: str, count: int, checkpoint: str | None, name: str | None, label: tuple[str, ...]
) -> None:
    """Make new sandboxes that begin with the disk of SANDBOX."""
    labels = label_pairs(label)
    items = invocation.run(
        flows.settle_all(
            lambda wait_s: calls.fork(sandbox, count, checkpoint=checkpoint, name=name, labels=labels, wait_s=wait_s),
            calls.get,
        )
    )
    output = invocation.output
    if output.json:
        output.emit(items)
        return
    for item in items:
        output.line(item["id"] if output.quiet else f"{item['name']} ({item['id']}) is {item['state']}")


@command("commit")
@sandbox_argument
@click.argument("image")
def commit(invocation: Invocation, sandbox: str, image: str) -> None:
    """Make the image IMAGE of SANDBOX's disk as it is now."""
    body = invocation.run(
        flows.settle(lambda wait_s: calls.commit(sandbox, image, wait_s), lambda had: images.get(had["id"]))
    )
    invocation.output.one(body, f"{body['name']} is {body['state']}")
