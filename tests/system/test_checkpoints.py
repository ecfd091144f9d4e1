"""Checkpoint, wreck, roll back, fork: the state of real disks, through the SDK."""

from __future__ import annotations

import concurrent.futures
import os

import pytest

from skerry import Client
from skerry.errors import Conflict, Invalid, NotFound
from skerry.model.checkpoint import Change
from skerry.model.sandbox import S
from tests.server import Server

IMAGE = "debian:12"


def test_a_wrecked_sandbox_is_rolled_back_in_place(client: Client) -> None:
    with client.sandboxes.create(IMAGE, labels={"v": "1"}) as sandbox:
        sandbox.files.write("/root/work", b"good")
        checkpoint = sandbox.checkpoint("before the experiment")
        assert checkpoint.number == 1
        assert "memory" in checkpoint.not_contained
        assert checkpoint.spec.labels == {"v": "1"}
        sandbox.commands.run("rm -rf /usr /root/work")
        assert sandbox.commands.run(["/bin/echo", "x"]).exit_code == 127
        before = sandbox.info()
        sandbox.restore(checkpoint)
        after = sandbox.info()
        assert (after.id, after.address, after.state) == (before.id, before.address, S.RUNNING)
        assert sandbox.commands.run("cat /root/work").stdout == "good"
        assert [c.comment for c in sandbox.checkpoints()] == ["before the experiment"]


def test_restore_again_and_again_from_either_of_two(client: Client) -> None:
    with client.sandboxes.create(IMAGE) as sandbox:
        sandbox.files.write("/root/n", b"1")
        sandbox.checkpoint()
        sandbox.files.write("/root/n", b"2")
        sandbox.checkpoint()
        for ref, expected in (("v1", b"1"), ("v2", b"2"), (1, b"1"), ("v2", b"2")):
            sandbox.restore(ref)
            assert sandbox.files.read("/root/n") == expected


def test_a_checkpoint_can_be_read_and_compared_without_restoring(client: Client) -> None:
    with client.sandboxes.create(IMAGE) as sandbox:
        sandbox.files.write("/srv/a", b"old")
        first = sandbox.checkpoint()
        sandbox.files.write("/srv/a", b"new")
        sandbox.files.write("/srv/b", b"b")
        sandbox.commands.run("rm /etc/issue")
        second = sandbox.checkpoint()
        sandbox.files.write("/srv/c", b"c")
        changes = {(item.path, item.change) for item in sandbox.diff(first, second).items}
        assert {("/srv/a", Change.MODIFIED), ("/srv/b", Change.ADDED), ("/etc/issue", Change.REMOVED)} <= changes
        assert ("/srv/c", Change.ADDED) not in changes
        assert ("/srv/c", Change.ADDED) in {(item.path, item.change) for item in sandbox.diff(second).items}
        assert sandbox.checkpoint_files(first).read("/srv/a") == b"old"
        assert [info.name for info in sandbox.checkpoint_files(second).list("/srv")] == ["a", "b"]
        sandbox.delete_checkpoint(first)
        with pytest.raises(NotFound):
            sandbox.checkpoint_files(first).read("/srv/a")


def test_forks_are_other_computers_with_the_same_disk(client: Client) -> None:
    with client.sandboxes.create(IMAGE, name="parent") as sandbox:
        sandbox.commands.run("echo 0123456789abcdef0123456789abcdef > /etc/machine-id; echo shared > /root/work")
        forks = sandbox.fork(3)
        try:
            assert [fork.name for fork in forks] == ["parent-1", "parent-2", "parent-3"]
            facts = [
                fork.commands.run("hostname; cat /etc/machine-id; cat /root/work").stdout.split() for fork in forks
            ]
            assert [fact[0] for fact in facts] == ["parent-1", "parent-2", "parent-3"]
            assert len({fact[1] for fact in facts} | {"0123456789abcdef0123456789abcdef"}) == 4
            assert {fact[2] for fact in facts} == {"shared"}
            infos = [fork.info() for fork in forks]
            assert {info.parent for info in infos} == {sandbox.id}
            assert len({info.address for info in infos} | {sandbox.info().address}) == 4
            forks[2].stop(grace_s=0)
            forks[2].start()  # the checkpoint it came from is gone by now; its own disk is not
            assert forks[2].commands.run("cat /root/work").stdout == "shared\n"
            forks[0].files.write("/root/work", b"mine")
            assert sandbox.files.read("/root/work") == b"shared\n"
            assert forks[1].files.read("/root/work") == b"shared\n"
        finally:
            for fork in forks:
                fork.delete()
        assert sandbox.checkpoints() == [], "the checkpoint that the forks came from is gone with the last of them"


def test_fork_from_an_old_checkpoint(client: Client) -> None:
    with client.sandboxes.create(IMAGE) as sandbox:
        sandbox.files.write("/root/n", b"old")
        sandbox.checkpoint()
        sandbox.files.write("/root/n", b"new")
        [fork] = sandbox.fork(1, checkpoint="v1", name="time-traveller")
        with fork:
            assert fork.name == "time-traveller-1"
            assert fork.files.read("/root/n") == b"old"


@pytest.mark.parametrize("count", [0, -1, 10_000])
def test_fork_counts_that_make_no_sense_are_refused(client: Client, count: int) -> None:
    with client.sandboxes.create(IMAGE) as sandbox, pytest.raises(Invalid, match="count"):
        sandbox.fork(count)


def test_two_restores_at_once_one_is_told_to_wait(client: Client, server) -> None:
    from tests.system.conftest import connect

    with client.sandboxes.create(IMAGE) as sandbox:
        sandbox.files.write("/root/n", b"1")
        sandbox.checkpoint()
        name = sandbox.name

        def restore(_: int) -> str:
            with connect(server) as own:
                try:
                    own.sandboxes.connect(name).restore("v1")
                except Conflict:
                    return "conflict"
                return "done"

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            outcomes = sorted(pool.map(restore, range(2)))
        assert outcomes in (["conflict", "done"], ["done", "done"])
        assert sandbox.info().state is S.RUNNING
        assert sandbox.files.read("/root/n") == b"1"


def test_restore_ends_a_command_under_way(client: Client, server) -> None:
    from tests.system.conftest import connect

    with client.sandboxes.create(IMAGE) as sandbox:
        sandbox.checkpoint()
        with concurrent.futures.ThreadPoolExecutor(1) as pool, connect(server) as own:
            running = pool.submit(own.sandboxes.connect(sandbox.name).commands.run, ["sleep", "60"])
            while not sandbox.commands.list():
                pass
            sandbox.restore("v1")
            assert running.result(60).exit_code == 137
        assert sandbox.commands.run("echo alive").stdout == "alive\n"


ASK = (
    "perl -MIO::Socket::UNIX -e '"
    '$s=IO::Socket::UNIX->new("/.skerry/run/api.sock") or die $!; $b="{\\"comment\\":\\"from within\\"}";'
    'print $s "POST /v1/checkpoints HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: ".length($b).'
    '"\\r\\n\\r\\n$b"; print while <$s>' + "'"
)


def test_a_sandbox_may_checkpoint_itself_when_its_spec_allows(client: Client) -> None:
    with client.sandboxes.create(IMAGE, self_checkpoint=True) as sandbox:
        answer = sandbox.commands.run(ASK)
        assert "201" in answer.stdout.splitlines()[0], answer
        [checkpoint] = sandbox.checkpoints()
        assert (checkpoint.origin, checkpoint.comment) == ("guest", "from within")
    with client.sandboxes.create(IMAGE) as sandbox:
        assert sandbox.commands.run("test -e /.skerry/run/api.sock").exit_code == 1


def test_a_sandbox_cannot_fill_the_agent_with_connections(client: Client, server: Server) -> None:
    flood = (
        "perl -MIO::Socket::UNIX -e '"
        '$|=1; for(1..500){push @s,IO::Socket::UNIX->new(Peer=>"/.skerry/run/api.sock",Blocking=>0)} print "done";'
        "sleep 60'"
    )
    descriptors = f"/proc/{server.pid('agent')}/fd"
    with client.sandboxes.create(IMAGE, self_checkpoint=True) as sandbox:
        before = len(os.listdir(descriptors))
        flooding = sandbox.commands.start(flood)
        assert next(flooding.output()) == ("stdout", "done")
        assert len(os.listdir(descriptors)) < before + 50
        flooding.kill()
        assert "201" in sandbox.commands.run(ASK).stdout.splitlines()[0], "its door is open again"


def test_commit_makes_an_image_of_it(client: Client) -> None:
    with client.sandboxes.create(IMAGE) as sandbox:
        sandbox.files.write("/opt/tool", b"#!/bin/sh\necho tool\n", mode="0755")
        image = sandbox.commit("with-tool:1")
    with client.sandboxes.create("with-tool:1") as other:
        assert other.commands.run("/opt/tool").stdout == "tool\n"
        assert other.info().image_digest == image.digest
    client.images.delete("with-tool:1")
