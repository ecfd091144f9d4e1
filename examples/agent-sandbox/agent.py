"""An agent's loop without the model: run code nobody has read, roll back what breaks the box, try two ways at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from skerry import Sandbox, SkerryError

IMAGE = os.environ.get("AGENT_IMAGE", "debian:12")
HEALTHY_S_MAX = 10.0
HEALTHY = "test -x /bin/sh && ls /srv/work >/dev/null && df / >/dev/null"


class Snippet(NamedTuple):
    """What a model would have answered with."""

    say: str
    shell: str
    seconds_max: float = 20.0


PLAN = (
    Snippet("make a place to work", "mkdir -p /srv/work && cd /srv/work && seq 1 1000 > numbers"),
    Snippet(
        "free some space (it was never told what not to delete)", "rm -rf /srv/work /bin /usr/bin /lib/x86_64-linux-gnu"
    ),
    Snippet("wait for something that never comes", "sleep 1000", seconds_max=2),
    Snippet("count what is there", "wc -l < /srv/work/numbers"),
)

WAYS = {
    "with awk": "awk '{ total += $1 } END { print total }' /srv/work/numbers",
    "with the shell": "total=0; while read n; do total=$((total + n)); done < /srv/work/numbers; echo $total",
}


def run_plan(sandbox: Sandbox, plan: Sequence[Snippet]) -> None:
    """Checkpoint before each step; a step that breaks the sandbox is undone, and the agent goes on."""
    for snippet in plan:
        before = sandbox.checkpoint(snippet.say)
        result = sandbox.commands.run(snippet.shell, timeout_s=snippet.seconds_max)
        if healthy(sandbox):
            print(f"kept       {snippet.say}: exit {result.exit_code} {result.stdout.strip()[:60]}")
        else:
            sandbox.restore(before)
            print(f"undone     {snippet.say}: it broke the sandbox")


def healthy(sandbox: Sandbox) -> bool:
    """Ours to define: here, that the tools and the work are still there."""
    try:
        return sandbox.commands.run(HEALTHY, timeout_s=HEALTHY_S_MAX).ok
    except SkerryError:
        return False


def try_ways(sandbox: Sandbox, ways: dict[str, str]) -> dict[str, str]:
    """Each way in a fork of its own, all at the same time; none sees what another does."""
    forks = sandbox.fork(len(ways))
    try:
        with ThreadPoolExecutor(len(ways)) as pool:
            outputs = pool.map(
                lambda pair: pair[0].commands.run(pair[1], check=True).stdout, zip(forks, ways.values(), strict=True)
            )
            return {way: output.strip() for way, output in zip(ways, outputs, strict=True)}
    finally:
        for fork in forks:
            fork.delete()


def main() -> int:
    with Sandbox.create(IMAGE, memory="256MiB", network={"enabled": False}, labels={"example": "agent"}) as sandbox:
        print(f"sandbox    {sandbox.name}")
        run_plan(sandbox, PLAN)
        answers = try_ways(sandbox, WAYS)
        for way, answer in answers.items():
            print(f"fork       {way}: {answer}")
        agreed = set(answers.values()) == {"500500"}
        print("result     " + ("both ways agree" if agreed else "the ways differ"))
        return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
