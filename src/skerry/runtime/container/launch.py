"""Bring processes into being: a sandbox's first, and one more in a running sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import secrets
import shutil
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

from skerry.errors import Conflict, Failed, Invalid, Unsupported
from skerry.model.exec import WindowSize
from skerry.runtime.container import oci
from skerry.runtime.container.box import Box, Entering
from skerry.runtime.container.bundle import Bundle, FolderIds, write_private
from skerry.runtime.container.console import ConsoleSocket
from skerry.runtime.container.crun import ENVIRONMENT, Crun, complaint, error_of
from skerry.runtime.container.exec import ExecFiles, ExecProcess, set_window
from skerry.runtime.container.guest_tree import GuestTree
from skerry.runtime.container.memory import have_in_memory
from skerry.runtime.container.output import OutputReader, make_fifo
from skerry.runtime.container.seccomp import profile
from skerry.runtime.container.spawn import Child
from skerry.runtime.contract import ExecPlan, OnOutput, StartPlan

RUN_WAIT_S = 60.0
TERMINAL_WAIT_S = 20.0
PASSABLE = 0o711
"""crun walks to a bundle as the guest's root, to whom the host's root is a stranger. Nobody can list these folders."""
Members = Callable[[], Iterable[int]]


@dataclass(frozen=True)
class Layout:
    """Where things lie below the run folder."""

    run_path: Path

    @property
    def exits(self) -> Path:
        return self.run_path / "exits"

    @property
    def programs(self) -> Path:
        return self.run_path / "programs"

    @property
    def guest_folder(self) -> Path:
        return self.run_path / "guest-init"

    def bundle(self, sandbox_id: str) -> Bundle:
        return Bundle(self.run_path / "bundles" / sandbox_id)

    def pipes(self, sandbox_id: str) -> Path:
        return self.run_path / "fifo" / sandbox_id

    def main_pipe(self, sandbox_id: str) -> Path:
        return self.pipes(sandbox_id) / "main"

    def has(self, sandbox_id: str) -> bool:
        return self.bundle(sandbox_id).exists or self.pipes(sandbox_id).exists()

    def make(self) -> bool:
        """Whether all that may hold an environment is in memory now."""
        (self.run_path / "exits").mkdir(parents=True, exist_ok=True, mode=0o700)
        in_memory = [have_in_memory(self.run_path, name) for name in ("fifo", "crun", "bundles")]
        for folder in (self.run_path, self.run_path / "bundles"):
            folder.chmod(PASSABLE)
        return all(in_memory)


class Launcher:
    def __init__(self, *, crun: Crun, layout: Layout, init_binary: Path, cgroup_path: Callable[[str], str]) -> None:
        """`init_binary` is catatonit: static, so that it runs in every image."""
        self._crun = crun
        self._layout = layout
        self._init_binary = init_binary
        self._cgroup_path = cgroup_path
        self._seccomp = profile()
        self._in_memory = False
        self._compiled: bytes | None = None
        """The same as crun compiled it for the first sandbox we started: it need not do so again."""

    def open(self) -> None:
        """The folders, and a copy of init of our own, beside empty ones for each guest's own: what guests see at
        /.skerry."""
        self._in_memory = self._layout.make()
        self._crun.open(self._layout.programs)
        folder = self._layout.guest_folder
        for own in ("run", "policy"):
            (folder / own).mkdir(parents=True, exist_ok=True, mode=0o755)
        if not self._init_binary.exists():
            raise Failed("catatonit is needed as the sandboxes' init: run `apt-get install catatonit`")
        fresh = folder / f"init.{secrets.token_hex(4)}"
        shutil.copyfile(self._init_binary, fresh)
        fresh.chmod(0o755)
        fresh.rename(folder / "init")  # running sandboxes keep the one they have
        folder.chmod(0o755)

    def close(self) -> None:
        self._crun.close()

    # The first process

    async def start(self, plan: StartPlan, disk: Path, on_output: OnOutput) -> tuple[Child, OutputReader]:
        """What it leaves behind when it fails, the caller clears."""
        bundle = self._layout.bundle(plan.sandbox_id)
        bundle.make()
        self._layout.pipes(plan.sandbox_id).mkdir(parents=True, exist_ok=True, mode=0o700)
        user_namespace_fd = os.open(plan.slot.user_namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            who = await self._configure(plan, disk, bundle, user_namespace_fd)
            bundle.mount_disk(disk, user_namespace_fd)
            return await self._run(plan, bundle, who, on_output)
        finally:
            os.close(user_namespace_fd)
            bundle.unmount()

    async def _configure(self, plan: StartPlan, disk: Path, bundle: Bundle, user_namespace_fd: int) -> oci.Identity:
        with GuestTree(disk) as tree:
            tree.reserve_folders()
            who = tree.identity(plan.user, field="user")
            path_variable = plan.env.get("PATH", oci.PATH_DEFAULT)
            # With folders of the host in it, the program may lie in one of them: then only trying tells.
            if plan.command and not plan.mounts:
                program = plan.command[0]
                if not tree.can_run(program, path_variable=path_variable, workdir=plan.workdir):
                    raise Invalid(f"the sandbox has no program {program[:200]} that can be run", field="command")
            binds = bundle.system_binds(plan, tree, self._layout.guest_folder)
            secrets = bundle.mount_secrets(plan, tree)
        with contextlib.closing(FolderIds(user_namespace_fd, who, plan.slot.uid_base)) as ids:
            binds += await bundle.mount_folders(plan.mounts, ids)
        binds += secrets
        devices = bundle.devices(plan.devices)
        binds += [bind for bind, _ in devices]
        command = [oci.GUEST_INIT, "--", *plan.command] if plan.command else [oci.GUEST_INIT, "-P"]
        env = self._env(plan.env, plan.secret_env)
        main = oci.process(command, env=env, workdir=plan.workdir, who=who, open_files_max=_open_files_max())
        bundle.write_config(
            oci.config(
                main=main,
                hostname=plan.hostname,
                spec=plan.spec,
                slot=plan.slot,
                rootfs=bundle.rootfs,
                cgroup=self._cgroup_path(plan.sandbox_id),
                binds=binds,
                seccomp=self._seccomp,
                compiled=self._compiled,
                devices=[device for _, device in devices],
            )
        )
        return who

    def _env(self, plain: dict[str, str], secret: dict[str, str]) -> dict[str, str]:
        """crun reads it from a file, and writes it into one of its own."""
        if secret and not self._in_memory:
            raise Unsupported(
                "secrets: this machine keeps what crun is told on a disk, where no secret may be: serve with --run-dir "
                "in memory, or start the machine again",
                field="secrets",
            )
        return plain | secret

    async def _run(
        self, plan: StartPlan, bundle: Bundle, who: oci.Identity, on_output: OnOutput
    ) -> tuple[Child, OutputReader]:
        pipe = self._layout.main_pipe(plan.sandbox_id)
        with contextlib.ExitStack() as stack:
            base = plan.slot.uid_base
            output_fd = _closing(stack, make_fifo(pipe, base + who.uid, base + who.gid))
            empty_fd = _closing(stack, _empty_pipe(base + who.uid, base + who.gid))
            arguments = self._crun.run(plan.sandbox_id, bundle=bundle.folder, pid_file=bundle.pid_file, log=bundle.log)
            with _first_to_go():
                child = Child.spawn(arguments, env=ENVIRONMENT, stdin=empty_fd, stdout=output_fd, stderr=output_fd)
            code = await _finished(child, RUN_WAIT_S)
            pid = bundle.pid()
            if code != 0 or pid is None:
                raise error_of(complaint(bundle.log), what="the sandbox cannot start")
            self._compiled = self._compiled or self._crun.filter_of(plan.sandbox_id)
            # Opened while we still hold the other end, or a main process that has ended already looks like no writer.
            output = OutputReader.open(pipe, on_output)
            main = Child.adopt(pid, self._layout.exits)
            if output is None or main is None:
                raise Failed("the sandbox cannot start", because="its main process or its pipe vanished")
            return main, output

    # One more

    async def exec(self, box: Box, plan: ExecPlan, members: Members) -> tuple[ExecProcess, Entering]:
        # As the guest sees it, with everything that is mounted there.
        with _root_of(box.main) as tree:
            who = tree.identity(plan.user, field="user")
            if not tree.is_folder(plan.workdir or "/"):
                raise Invalid(f"the sandbox has no folder {plan.workdir[:200]}", field="workdir")
        files = ExecFiles(self._layout.pipes(box.sandbox_id), plan.name or secrets.token_hex(8))
        wanted = oci.process(
            plan.command,
            env=self._env(plan.env, plan.secret_env),
            workdir=plan.workdir,
            who=who,
            open_files_max=_open_files_max(),
            window=plan.size if plan.tty else None,
        )
        with contextlib.ExitStack() as held:
            try:
                write_private(files.process, json.dumps(wanted))
                if plan.tty:
                    child, terminal_fd = await self._spawn_with_terminal(box, files, plan.size)
                    stdin_fd = None
                else:
                    child, stdin_fd = self._spawn_with_pipes(box, files, who, held, stdin=plan.stdin)
                    terminal_fd = None
            except BaseException:
                files.remove(pipes=True)
                raise
            # It opens the pipes while we still hold their other end: a command may have come and gone by now, and
            # what it wrote would go with the last descriptor.
            process = ExecProcess(
                child=child,
                files=files,
                members=members,
                leave=box.keep_draining,
                stdin_fd=stdin_fd,
                terminal_fd=terminal_fd,
            )
        return process, Entering(child, files.pid)

    def _spawn_with_pipes(
        self, box: Box, files: ExecFiles, who: oci.Identity, held: contextlib.ExitStack, *, stdin: bool
    ) -> tuple[Child, int | None]:
        """`held` closes our copies of the command's ends."""
        uid, gid = box.uid_base + who.uid, box.uid_base + who.gid
        stdout_fd, stderr_fd = (_closing(held, make_fifo(path, uid, gid)) for path in files.pipes())
        write_fd = None
        if stdin:
            read_fd, write_fd = os.pipe()
            _closing(held, read_fd)
            os.fchown(read_fd, uid, gid)
            os.set_blocking(write_fd, False)
        else:
            read_fd = _closing(held, _empty_pipe(uid, gid))
        try:
            return self._spawn(box, files, (read_fd, stdout_fd, stderr_fd), console=None), write_fd
        except BaseException:
            if write_fd is not None:
                os.close(write_fd)
            raise

    async def _spawn_with_terminal(self, box: Box, files: ExecFiles, size: WindowSize) -> tuple[Child, int]:
        with contextlib.ExitStack() as stack:
            console = stack.enter_context(contextlib.closing(ConsoleSocket(files.console)))
            memory_fd = _closing(stack, os.memfd_create("crun", os.MFD_CLOEXEC))
            child = self._spawn(box, files, (memory_fd, memory_fd, memory_fd), console=files.console)
            arriving = asyncio.ensure_future(console.terminal())
            ending = asyncio.ensure_future(child.wait())
            try:
                await asyncio.wait({arriving, ending}, timeout=TERMINAL_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
                if not arriving.done():
                    child.signal(9)
                    raise error_of(complaint(files.log), what="the command cannot start")
                terminal_fd = arriving.result()
            finally:
                arriving.cancel()
                ending.cancel()
            set_window(terminal_fd, size)
            return child, terminal_fd

    def _spawn(self, box: Box, files: ExecFiles, three: tuple[int, int, int], *, console: Path | None) -> Child:
        arguments = self._crun.exec(
            box.sandbox_id, process=files.process, pid_file=files.pid, log=files.log, console=console
        )
        with _first_to_go():  # crun exec passes over oomScoreAdj, but the command inherits crun's
            return Child.spawn(arguments, env=ENVIRONMENT, stdin=three[0], stdout=three[1], stderr=three[2])

    def adopt_exec(self, box: Box, token: dict[str, str], members: Members) -> ExecProcess | None:
        """A terminal was held by the agent that died, and its command got SIGHUP: there is nothing to adopt."""
        files = ExecFiles(self._layout.pipes(box.sandbox_id), token["name"])
        pid = int(token["pid"]) if "pid" in token else files.find_pid()
        if pid is None or token.get("kind") == "tty":
            return None
        child = Child.adopt(pid, self._layout.exits, token.get("ticks"))
        if child is None:
            return None
        return ExecProcess(
            child=child,
            files=files,
            members=members,
            leave=box.keep_draining,
            stdin_fd=None,
            terminal_fd=None,
        )

    def drain_strays(self, sandbox_id: str, box: Box) -> None:
        for path in ExecFiles.strays(self._layout.pipes(sandbox_id)):
            reader = OutputReader.open(path, lambda _: None)
            if reader is not None:
                box.keep_draining(reader, path)


def _root_of(main: Child) -> GuestTree:
    """Of a main process that may have ended a moment ago, which its box has not heard of yet. Then /proc has no root
    of it, or refuses one to whoever was on the way to it."""
    try:
        return GuestTree(Path(f"/proc/{main.pid}/root"))
    except (FileNotFoundError, ProcessLookupError, PermissionError) as error:
        raise Conflict("the sandbox does not run; start it first", because=str(error)) from None


@contextlib.contextmanager
def _first_to_go() -> Generator[None]:
    """What starts here goes before us when the host has no memory left. Ours for that moment, so that it is inherited:
    written to a crun that runs it may come too late, and what crun writes itself the guest's root can take back."""
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    own.write_text(str(oci.OOM_SCORE_ADJUST))
    try:
        yield
    finally:
        own.write_text(before)


def _empty_pipe(uid: int, gid: int) -> int:
    """A stdin that is at its end. Never /dev/null: crun 1.8 gives the guest's root the files it gets as stdio, and the
    host's /dev/null would be his."""
    read_fd, write_fd = os.pipe()
    os.close(write_fd)
    os.fchown(read_fd, uid, gid)
    return read_fd


def _closing(stack: contextlib.ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


def _open_files_max() -> int:
    """A process in a user namespace cannot raise the limit it was given: ours is the most it can have."""
    return min(oci.OPEN_FILES_HARD_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


async def _finished(child: Child, limit_s: float) -> int | None:
    try:
        async with asyncio.timeout(limit_s):
            return await child.wait()
    except BaseException:
        child.signal(9)
        raise
