"""Sleep on real sandboxes: frozen, stopped, woken by whoever wants one, kept awake by what should and nothing else."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Iterator

import pytest

from skerry import Client, Sandbox
from skerry.errors import Conflict
from skerry.model.sandbox import S
from skerry.model.sleep import Tier
from tests.server import Server
from tests.system.conftest import IMAGE, connect

QUIET = "until [ -e /root/go ]; do sleep 0.1; done"
COUNT = "n=0; while true; do n=$((n+1)); echo $n > /root/n; sleep 0.02; done"


def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


@pytest.fixture
def box(client: Client) -> Iterator[Sandbox]:
    made = client.sandboxes.create(IMAGE, command=COUNT)
    yield made
    made.delete(force=True)


def counted(box: Sandbox) -> int:
    return int(box.commands.run("cat /root/n").stdout or 0)


def woken(box: Sandbox) -> list[str]:
    return [event.message for event in box.events() if event.kind == "woken"]


def test_idle_sandbox_is_frozen_and_goes_on_where_it_was(client: Client, box: Sandbox) -> None:
    until(lambda: counted(box) > 3)
    box.update(idle="1s")
    until(lambda: box.state is S.ASLEEP)
    activity = box.activity()
    assert activity.asleep is not None
    assert (activity.asleep.tier, activity.asleep.why) == (Tier.WARM, "idle for 1 s")
    cpu_s = box.stats().cpu_s
    time.sleep(0.3)
    assert box.stats().cpu_s == cpu_s, "looking at it neither wakes it nor lets it run"
    assert box.state is S.ASLEEP
    box.update(idle="never")  # wakes nobody, and it stays awake from its next wake on
    before = counted(box)
    until(lambda: counted(box) > before)
    assert woken(box) == ["exec"]


def test_cold_sandbox_keeps_its_disk_and_its_address_and_starts_its_command_again(box: Sandbox) -> None:
    box.files.write("/root/kept", b"precious")
    address = box.info().address
    used = box.stats().pids
    assert used > 0
    box.sleep(cold=True)
    assert box.stats().pids == 0
    info = box.info()
    assert (info.state, info.restarts) == (S.ASLEEP, 0)
    assert box.files.read("/root/kept") == b"precious", "reading a file wakes it"
    until(lambda: box.state is S.RUNNING)
    assert box.info().address == address
    first = counted(box)
    until(lambda: counted(box) != first)
    assert woken(box) == ["files"]


def test_warm_goes_cold_after_its_time(box: Sandbox) -> None:
    box.update(idle="1s", cold_after="1s")
    until(lambda: box.state is S.ASLEEP)
    until(lambda: (asleep := box.info().asleep) is not None and asleep.tier is Tier.COLD)
    assert box.commands.run("echo up").stdout == "up\n"


@pytest.mark.parametrize("cold", [False, True])
def test_fifty_callers_share_one_wake(server: Server, box: Sandbox, cold: bool) -> None:
    box.sleep(cold=cold)

    def call(number: int) -> str:
        with connect(server) as client:
            return client.sandboxes.connect(box.id).commands.run(["echo", str(number)]).stdout

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(call, range(50)))
    assert answers == [f"{number}\n" for number in range(50)]
    until(lambda: box.state is S.RUNNING)
    assert len(woken(box)) == 1


def test_what_keeps_it_awake(server: Server, box: Sandbox) -> None:
    box.update(idle="1s")
    lease = box.keep_awake(60, note="a build")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: box.commands.run(["sh", "-c", QUIET]))
        try:
            until(lambda: any(each.startswith("exec: sh -c until") for each in box.activity().kept_awake_by))
            box.end_lease(lease)
            with pytest.raises(Conflict, match="kept awake by exec: sh -c until"):
                box.sleep()
            time.sleep(2)
            assert box.state is S.RUNNING, "a command somebody waits for keeps it awake, however quiet"
        finally:
            box.files.write("/root/go", b"")
        assert running.result().exit_code == 0
    until(lambda: box.state is S.ASLEEP)


def test_what_does_not_keep_it_awake(box: Sandbox) -> None:
    """Being looked at, what its own programs do and print, and a command left to itself."""
    box.update(idle="1s")
    box.commands.start("sleep 1000")
    until(lambda: (box.stats(), box.logs(), box.info().state)[2] is S.ASLEEP)


def test_work_on_the_processor_keeps_it_awake_if_its_spec_says_so(client: Client) -> None:
    box = client.sandboxes.create(IMAGE, command="while true; do :; done", idle="1s", idle_cpu=0.1)
    try:
        time.sleep(3.5)
        assert box.state is S.RUNNING
        assert box.activity().last_active_by == "cpu"
        box.update(idle_cpu=200)
        until(lambda: box.state is S.ASLEEP)
    finally:
        box.delete()


def test_checkpoints_forks_stops_and_deletions_find_it_asleep(client: Client, box: Sandbox) -> None:
    box.files.write("/root/kept", b"precious")
    for cold in (False, True):
        box.sleep(cold=cold)
        kept = box.checkpoint("in its sleep")
        assert box.state is S.ASLEEP, "a checkpoint does not wake it"
        [fork] = box.fork()
        assert box.state is S.ASLEEP
        assert fork.commands.run("cat /root/kept").stdout == "precious"
        fork.delete()
        box.restore(kept)
        assert box.state is S.RUNNING
        box.sleep(cold=cold)
        box.stop(grace_s=1)
        assert box.state is S.STOPPED
        box.start()
        box.sleep(cold=cold)
        box.start()
        assert box.state is S.RUNNING, "who starts it wants it running"


def test_root_inside_may_keep_it_awake_if_its_spec_says_so(client: Client) -> None:
    ask = (
        "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new('/.skerry/run/api.sock') or die;"
        'my $b = "{\\"for_s\\": 60, \\"note\\": \\"from inside\\"}";'
        'print $s "POST /v1/%s HTTP/1.1\\r\\nHost: sandbox\\r\\nConnection: close\\r\\nContent-Length: " . length($b) .'
        ' "\\r\\n\\r\\n$b"; print while <$s>;'
    )
    box = client.sandboxes.create(IMAGE, self_lease=True)
    try:
        answer = box.commands.run(["perl", "-MIO::Socket::UNIX", "-e", ask % "leases"])
        assert "201 Created" in answer.stdout, answer
        assert box.activity().kept_awake_by[-1] == "lease: from inside"
        refused = box.commands.run(["perl", "-MIO::Socket::UNIX", "-e", ask % "checkpoints"])
        assert "404" in refused.stdout.splitlines()[0], "only what its spec names"
    finally:
        box.delete()
