"""The proof that a runtime keeps the contract: checks that every runtime in the catalog, and the fake, must pass.

`pytest tests/runtime/test_conformance.py` runs each check with a fresh sandbox id. Commands in them are chosen so that
a minimal Debian has them; what only a real kernel can show (limits, isolation) is tested beside the runtime itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from skerry.errors import Conflict, Invalid, NotFound
from skerry.model.exec import STDOUT, WindowSize
from skerry.model.sandbox import ExitReason
from skerry.runtime.conformance_kit import (
    PATH,
    PATIENCE_S,
    Kit,
    content,
    finish,
    launch,
    refuses,
    run,
    start,
    until,
    write,
)

BULK_LINES = 40_000
WAIT_FOR_GO = "until test -e /root/go; do sleep 0.05; done; cat /root/go"
VOLUME_BYTES = 32 * 1024**2


# Disks


async def disk_is_made_once_from_a_known_source(kit: Kit) -> None:
    box = kit.new_id()
    assert await kit.runtime.create_disk(box, kit.image, None) is True
    assert await kit.runtime.create_disk(box, kit.image, None) is False
    assert kit.runtime.disk_path(box).is_dir()
    await refuses(NotFound, kit.runtime.create_disk(kit.new_id(), "sha256:unknown", None))
    await refuses(NotFound, kit.runtime.create_disk(kit.new_id(), None, "cp-unknown"))


async def image_import_is_atomic(kit: Kit) -> None:
    async def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("interrupted")

    async def fill(folder: Path) -> None:
        (folder / "whole").write_text("whole")

    await refuses(RuntimeError, kit.runtime.import_image("sha256:conformance", fail))
    assert "sha256:conformance" not in await kit.runtime.images()
    assert await kit.runtime.import_image("sha256:conformance", fill) > 0
    await kit.runtime.import_image("sha256:conformance", fail)  # is there: left alone
    assert (kit.runtime.image_path("sha256:conformance") / "whole").read_text() == "whole"
    await kit.runtime.delete_image("sha256:conformance")
    await kit.runtime.delete_image("sha256:conformance")
    assert "sha256:conformance" not in await kit.runtime.images()


async def room_is_told(kit: Kit) -> None:
    total, free = await kit.runtime.room()
    assert 0 < free <= total


async def volume_is_apart_from_what_it_was_copied_from(kit: Kit) -> None:
    volume, copy = kit.new_id(), kit.new_id()
    await kit.runtime.create_volume(volume, None, VOLUME_BYTES)
    (kit.runtime.volume_path(volume) / "kept").write_text("first")
    await kit.runtime.create_volume(volume, None, VOLUME_BYTES)  # is there: left alone
    await kit.runtime.create_volume(copy, volume, None, readonly=True)
    (kit.runtime.volume_path(volume) / "kept").write_text("second")
    await kit.runtime.resize_volume(volume, 2 * VOLUME_BYTES)
    assert {volume, copy} <= (await kit.runtime.volumes()).keys()
    await kit.runtime.delete_volume(volume)
    await kit.runtime.delete_volume(volume)
    await refuses(NotFound, kit.runtime.create_volume(kit.new_id(), volume, VOLUME_BYTES))
    assert (kit.runtime.volume_path(copy) / "kept").read_text() == "first"
    await kit.runtime.delete_volume(copy)
    assert not {volume, copy} & (await kit.runtime.volumes()).keys()


# Life


async def start_is_idempotent(kit: Kit) -> None:
    box = kit.new_id()
    pid = await start(kit, box)
    assert await start(kit, box) == pid


async def main_output_and_code_are_told(kit: Kit) -> None:
    box, seen = kit.new_id(), bytearray()
    await start(kit, box, "sh", "-c", "echo out; echo err >&2; exit 7", on_output=seen.extend)
    ended = await asyncio.wait_for(kit.runtime.wait(box), PATIENCE_S)
    assert (ended.code, ended.reason) == (7, ExitReason.EXITED)
    assert bytes(seen) == b"out\nerr\n"
    assert await kit.runtime.wait(box) == ended  # and for whoever asks later


async def ended_sandbox_starts_again(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box, "true")
    await asyncio.wait_for(kit.runtime.wait(box), PATIENCE_S)
    await start(kit, box)
    assert (await run(kit, box, "echo", "again"))[1] == b"again\n"


async def command_that_is_not_there_is_refused(kit: Kit) -> None:
    box = kit.new_id()
    await refuses(Invalid, start(kit, box, "no-such-program"))
    await start(kit, box)  # and nothing stands in the way


async def stop_ends_everything_but_the_disk(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box)
    await write(kit, box, "/root/kept", "kept")
    process = await launch(kit, box, "sleep", "1000")
    ending = asyncio.ensure_future(kit.runtime.wait(box))
    await asyncio.wait_for(kit.runtime.stop(box, 0.2), PATIENCE_S)
    assert (await ending).reason is ExitReason.STOPPED
    await finish(process)
    await refuses(Conflict, launch(kit, box, "true"))
    assert [found.pid for found in await kit.runtime.look() if found.sandbox_id == box] == [None]
    await start(kit, box)
    assert await content(kit, box, "/root/kept") == b"kept\n"


async def stop_waits_the_grace_only_as_long_as_needed(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box, "sleep", "1000")
    began_s = asyncio.get_running_loop().time()
    await kit.runtime.stop(box, 30)
    assert asyncio.get_running_loop().time() - began_s < PATIENCE_S


async def stop_and_destroy_are_idempotent(kit: Kit) -> None:
    box = kit.new_id()
    await kit.runtime.stop(box, 0)
    await kit.runtime.destroy(box)
    await start(kit, box)
    for _ in range(2):
        await kit.runtime.stop(box, 0)
    for _ in range(2):
        await kit.runtime.destroy(box)
    assert all(found.sandbox_id != box for found in await kit.runtime.look())
    await refuses(NotFound, _disk(kit, box))


async def _disk(kit: Kit, sandbox_id: str) -> Path:
    return kit.runtime.disk_path(sandbox_id)


async def look_tells_the_truth(kit: Kit) -> None:
    runs, rests = kit.new_id(), kit.new_id()
    pid = await start(kit, runs)
    await kit.runtime.create_disk(rests, kit.image, None)
    found = {item.sandbox_id: item for item in await kit.runtime.look()}
    assert (found[runs].has_disk, found[runs].pid) == (True, pid)
    assert (found[rests].has_disk, found[rests].pid) == (True, None)


async def sandboxes_are_apart(kit: Kit) -> None:
    one, other = kit.new_id(), kit.new_id()
    await start(kit, one)
    await start(kit, other)
    await write(kit, one, "/root/mine", "mine")
    assert (await run(kit, other, "cat", "/root/mine"))[0] == 1


# Checkpoints


async def restore_brings_the_disk_back(kit: Kit) -> None:
    box, checkpoint = kit.new_id(), f"cp-{kit.new_id()}"
    await start(kit, box)
    await write(kit, box, "/root/file", "before")
    assert await kit.runtime.checkpoint(box, checkpoint) >= 0
    assert checkpoint in await kit.runtime.checkpoints()
    assert (kit.runtime.checkpoint_path(checkpoint) / "root/file").read_text() == "before\n"
    await write(kit, box, "/root/file", "after")
    assert await content(kit, box, "/root/file") == b"after\n"  # it runs on
    await kit.runtime.stop(box, 0)
    await kit.runtime.restore(box, checkpoint)
    await start(kit, box)
    assert await content(kit, box, "/root/file") == b"before\n"
    await kit.runtime.delete_checkpoint(checkpoint)


async def checkpoint_is_idempotent_and_outlives_its_sandbox(kit: Kit) -> None:
    box, fork, checkpoint = kit.new_id(), kit.new_id(), f"cp-{kit.new_id()}"
    await start(kit, box)
    await write(kit, box, "/root/file", "one")
    await kit.runtime.checkpoint(box, checkpoint)
    await write(kit, box, "/root/file", "two")
    await kit.runtime.checkpoint(box, checkpoint)
    await kit.runtime.destroy(box)
    assert await kit.runtime.create_disk(fork, None, checkpoint) is True
    await start(kit, fork)
    assert await content(kit, fork, "/root/file") == b"one\n"
    for _ in range(2):
        await kit.runtime.delete_checkpoint(checkpoint)
    assert checkpoint not in await kit.runtime.checkpoints()
    # A fork that is stopped and started again has its disk; what it was made of may be gone.
    assert await kit.runtime.create_disk(fork, None, checkpoint) is False


async def stopped_sandbox_is_checkpointed_without_freezing(kit: Kit) -> None:
    box, checkpoint = kit.new_id(), f"cp-{kit.new_id()}"
    await kit.runtime.create_disk(box, kit.image, None)
    assert await kit.runtime.checkpoint(box, checkpoint) == 0
    await refuses(NotFound, kit.runtime.restore(box, "cp-unknown"))
    await kit.runtime.delete_checkpoint(checkpoint)


async def exec_beside_checkpoints_is_not_harmed(kit: Kit) -> None:
    box, checkpoint = kit.new_id(), f"cp-{kit.new_id()}"
    await start(kit, box)

    async def checkpoints() -> None:
        for number in range(5):
            await kit.runtime.checkpoint(box, f"{checkpoint}-{number}")

    async def commands() -> None:
        for number in range(10):
            assert (await run(kit, box, "echo", str(number)))[:2] == (0, f"{number}\n".encode())

    await asyncio.gather(checkpoints(), commands())
    for number in range(5):
        await kit.runtime.delete_checkpoint(f"{checkpoint}-{number}")


# Exec


async def exit_codes_are_those_of_a_shell(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box)
    assert (await run(kit, box, "true"))[0] == 0
    assert (await run(kit, box, "sh", "-c", "exit 255"))[0] == 255
    assert (await run(kit, box, "sh", "-c", "kill -9 $$"))[0] == 137
    assert (await run(kit, box, "no-such-program"))[0] == 127
    assert (await run(kit, box, "/no/such/program"))[0] == 127
    assert (await run(kit, box, "/etc/passwd"))[0] == 126
    assert (await run(kit, box, "/etc"))[0] == 126


async def streams_are_separate(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box)
    assert await run(kit, box, "sh", "-c", "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")


async def much_output_arrives_whole(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box)
    process = await launch(kit, box, "seq", str(BULK_LINES))
    await asyncio.sleep(0.2)  # nobody reads: it must wait, not lose
    code, out, _ = await finish(process)
    assert code == 0
    assert out == b"".join(b"%d\n" % number for number in range(1, BULK_LINES + 1))


async def stdin_is_passed_and_closed(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box)
    process = await launch(kit, box, "cat", stdin=True)
    await process.write(b"first\n")
    assert await asyncio.wait_for(process.read(), PATIENCE_S) == (STDOUT, b"first\n")
    await process.write(b"x" * 200_000)
    await process.close_stdin()
    code, out, _ = await finish(process)
    assert (code, len(out)) == (0, 200_000)
    await refuses(Conflict, process.write(b"late"))
    assert (await run(kit, box, "cat"))[:2] == (0, b"")  # without stdin there is an end of file


async def env_workdir_and_user_are_obeyed(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box)
    assert (await run(kit, box, "printenv", "GREETING", env={"PATH": PATH, "GREETING": "hi there"}))[1] == b"hi there\n"
    both = {"env": {"PATH": PATH, "GREETING": "open"}, "secret_env": {"GREETING": "hushed"}}
    assert (await run(kit, box, "printenv", "GREETING", **both))[1] == b"hushed\n"
    assert (await run(kit, box, "pwd", workdir="/tmp"))[1] == b"/tmp\n"
    assert (await run(kit, box, "id", "-u", user="nobody"))[1] == b"65534\n"
    assert (await run(kit, box, "id", "-u", user="1234:5"))[1] == b"1234\n"
    await refuses(Invalid, launch(kit, box, "true", user="no-such-user"))
    await refuses(Invalid, launch(kit, box, "true", workdir="/no/such/folder"))


async def terminal_has_its_size(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box)
    script = "stty size; read answer; stty size; exit 4"
    process = await launch(kit, box, "sh", "-c", script, tty=True, size=WindowSize(rows=30, columns=100))
    seen = bytearray()
    async with asyncio.timeout(PATIENCE_S):
        while b"30 100" not in seen:
            chunk = await process.read()
            assert chunk is not None
            seen += chunk[1]
    await process.resize(WindowSize(rows=40, columns=120))
    await process.write(b"\n")
    code, out, _ = await finish(process)
    assert code == 4
    assert b"40 120" in out


async def kill_reaches_the_command(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box)
    for number in (15, 9):
        process = await launch(kit, box, "sh", "-c", "echo ready; sleep 1000")
        assert await asyncio.wait_for(process.read(), PATIENCE_S) == (STDOUT, b"ready\n")
        await process.kill(number)
        assert (await finish(process))[0] == 128 + number
        await process.kill(number)  # has ended: nothing happens


async def background_child_does_not_delay_the_end(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box)
    began_s = asyncio.get_running_loop().time()
    assert await run(kit, box, "sh", "-c", "sleep 1000 & echo started") == (0, b"started\n", b"")
    assert asyncio.get_running_loop().time() - began_s < PATIENCE_S


async def exec_needs_a_running_sandbox(kit: Kit) -> None:
    box = kit.new_id()
    await refuses(Conflict, launch(kit, box, "true"))
    await kit.runtime.create_disk(box, kit.image, None)
    await refuses(Conflict, launch(kit, box, "true"))


async def frozen_sandbox_is_kept_as_it_is(kit: Kit) -> None:
    box = kit.new_id()
    await kit.runtime.create_disk(box, kit.image, None)
    await refuses(Conflict, kit.runtime.freeze(box))
    await start(kit, box)
    await kit.runtime.freeze(box)
    await kit.runtime.freeze(box)
    assert await kit.runtime.checkpoint(box, kit.new_id()) == 0.0
    await kit.runtime.thaw(box)
    assert await kit.runtime.checkpoint(box, kit.new_id()) > 0.0
    await kit.runtime.freeze(box, squeeze=True)
    await kit.runtime.stop(box, 0)
    await kit.runtime.thaw(box)


async def usage_is_told(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box)
    assert (await kit.runtime.usage(box)).pids >= 1
    await kit.runtime.stop(box, 0)
    used = await kit.runtime.usage(box)
    assert (used.pids, used.cpu_s, used.memory_bytes) == (0, 0, 0)


# A new agent


async def running_sandbox_is_adopted(kit: Kit) -> None:
    box, seen = kit.new_id(), bytearray()
    script = f"echo one; {WAIT_FOR_GO}; echo two; exit 5"
    pid = await start(kit, box, "sh", "-c", script, on_output=seen.extend)
    await until(lambda: b"one\n" in seen)
    await kit.restart()
    assert await kit.runtime.adopt(box, seen.extend) == pid
    await write(kit, box, "/root/go", "go")
    ended = await asyncio.wait_for(kit.runtime.wait(box), PATIENCE_S)
    assert ended.code == 5
    assert bytes(seen) == b"one\ngo\ntwo\n"


async def stopped_sandbox_is_not_adopted(kit: Kit) -> None:
    box = kit.new_id()
    await kit.runtime.create_disk(box, kit.image, None)
    await kit.restart()
    assert await kit.runtime.adopt(box, lambda _: None) is None
    assert (await kit.runtime.wait(box)).reason is ExitReason.LOST


async def stop_works_without_adopting(kit: Kit) -> None:
    box = kit.new_id()
    await start(kit, box)
    await kit.restart()
    await kit.runtime.stop(box, 0)
    assert [found.pid for found in await kit.runtime.look() if found.sandbox_id == box] == [None]


async def command_is_adopted(kit: Kit) -> None:
    for token in ({}, {"name": "chosen"}):
        await _command_is_adopted(kit, token)


async def _command_is_adopted(kit: Kit, token: dict[str, str]) -> None:
    """By its own token, or by a name that was chosen for it."""
    box = kit.new_id()
    await start(kit, box)
    assert not token or await kit.runtime.adopt_exec(box, token) is None
    script = f"echo one; {WAIT_FOR_GO}; exit 6"
    process = await launch(kit, box, "sh", "-c", script, name=token.get("name"))
    assert await asyncio.wait_for(process.read(), PATIENCE_S) == (STDOUT, b"one\n")
    token = token or process.token()
    await process.close()
    await kit.restart()
    await kit.runtime.adopt(box, lambda _: None)
    adopted = await kit.runtime.adopt_exec(box, token)
    assert adopted is not None
    await write(kit, box, "/root/go", "go")
    assert (await finish(adopted))[:2] == (6, b"go\n")
    assert await kit.runtime.adopt_exec(box, token) is None


Check = Callable[[Kit], Awaitable[None]]

CHECKS: tuple[Check, ...] = (
    disk_is_made_once_from_a_known_source,
    image_import_is_atomic,
    room_is_told,
    volume_is_apart_from_what_it_was_copied_from,
    start_is_idempotent,
    main_output_and_code_are_told,
    ended_sandbox_starts_again,
    command_that_is_not_there_is_refused,
    stop_ends_everything_but_the_disk,
    stop_waits_the_grace_only_as_long_as_needed,
    stop_and_destroy_are_idempotent,
    look_tells_the_truth,
    sandboxes_are_apart,
    restore_brings_the_disk_back,
    checkpoint_is_idempotent_and_outlives_its_sandbox,
    stopped_sandbox_is_checkpointed_without_freezing,
    exec_beside_checkpoints_is_not_harmed,
    exit_codes_are_those_of_a_shell,
    streams_are_separate,
    much_output_arrives_whole,
    stdin_is_passed_and_closed,
    env_workdir_and_user_are_obeyed,
    terminal_has_its_size,
    kill_reaches_the_command,
    background_child_does_not_delay_the_end,
    exec_needs_a_running_sandbox,
    frozen_sandbox_is_kept_as_it_is,
    usage_is_told,
    running_sandbox_is_adopted,
    stopped_sandbox_is_not_adopted,
    stop_works_without_adopting,
    command_is_adopted,
)
