"""What somebody who was let in by SSH may reach: the commands, files and ports of one sandbox, as one of its users."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace

from skerry.agent.execs import Execs, Session
from skerry.agent.ports.dial import Dialer
from skerry.agent.sandboxes import Sandboxes
from skerry.agent.sleep.sleeper import Sleeper
from skerry.agent.ssh.guest_user import GuestUser
from skerry.agent.ssh.login_shell import LOGIN
from skerry.errors import Conflict, Unsupported
from skerry.model.exec import ExecSpec, WindowSize
from skerry.runtime.contract import Runtime

BY = "ssh"
"""As what its traffic is named to who asks why a sandbox is awake."""
SHELL_SHOWN = "login shell"
"""As what it stands in the list of commands."""


@dataclass(frozen=True)
class Login:
    sandbox_id: str
    user: str | None
    """None: the user that the sandbox runs its own commands as."""
    connection: str
    """What SSH_CONNECTION tells: both addresses and ports."""


@dataclass(frozen=True)
class Wanted:
    """A command, or a shell where there is none, and what it is to find around it."""

    command: str | None
    env: dict[str, str]
    size: WindowSize | None
    """Of its terminal; None: it has none."""


class Inside:
    def __init__(
        self, *, sandboxes: Sandboxes, execs: Execs, sleeper: Sleeper, dialer: Dialer, runtime: Runtime
    ) -> None:
        self.execs = execs
        self._sandboxes = sandboxes
        self._sleeper = sleeper
        self._dialer = dialer
        self._runtime = runtime

    def is_called(self, sandbox_id: str, name: str) -> bool:
        """Whether that is its id or its name. Raises NotFound for one that was deleted."""
        order = self._sandboxes.order_of(sandbox_id)
        return name in (sandbox_id, order.name)

    async def used(self, login: Login) -> None:
        """Bytes went through. Wakes it, should it sleep; a connection that is only open does not get here."""
        await self._sleeper.wake(login.sandbox_id, BY)

    async def start(self, login: Login, wanted: Wanted) -> Session:
        """By the same path as any command. Raises what that raises."""
        async with self._sleeper.awake(login.sandbox_id, BY):
            user = self._user_of(login)
            env = {"USER": user, "LOGNAME": user, "SSH_CONNECTION": login.connection, **wanted.env}
            spec = ExecSpec(
                command=[wanted.command if wanted.command is not None else SHELL_SHOWN],
                env=env,
                user=login.user,
                tty=wanted.size is not None,
                size=wanted.size or WindowSize(),
            )
            plan = self._sandboxes.exec_plan(login.sandbox_id, spec, stdin=True)
            script = ["/bin/sh", "-c", LOGIN, "ssh", *([] if wanted.command is None else [wanted.command])]
            # A shell that waits for its next line keeps nobody awake, with a terminal or without.
            waited_for = wanted.command is not None
            return await self.execs.start(login.sandbox_id, spec, replace(plan, command=script), waited_for=waited_for)

    async def guest_user(self, login: Login) -> GuestUser:
        async with self._sleeper.awake(login.sandbox_id, BY):
            if not self._sandboxes.runs(login.sandbox_id):
                raise Conflict("the sandbox does not run; start it first")
            pid = self._runtime.main_pid(login.sandbox_id)
            if pid is None:
                raise Unsupported("files over SSH are not served for this kind of sandbox")
            return await GuestUser.enter(pid, self._user_of(login))

    async def connect(self, login: Login, port: int) -> socket.socket:
        """Raises SkerryError when nobody listens there."""
        return await self._dialer.connect(login.sandbox_id, port, f"{BY} {port}")

    def is_its_own(self, login: Login, host: str) -> bool:
        """Whether a host that the client wants to be led to means the sandbox itself. Nothing else is."""
        entry = self._sandboxes.entry(login.sandbox_id)
        order = self._sandboxes.order_of(login.sandbox_id)
        names = ("localhost", "127.0.0.1", "::1", "0.0.0.0", order.name, order.hostname)
        return host in (*names, login.sandbox_id, entry.address)

    def _user_of(self, login: Login) -> str:
        """Its name or number, without a group."""
        probe = ExecSpec(command=["true"], user=login.user)
        return self._sandboxes.exec_plan(login.sandbox_id, probe, stdin=False).user.partition(":")[0]
