"""One SSH connection: who it is, shown by a key of the sandbox it names, and what it may open there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import asyncssh
from asyncssh.constants import (
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_CONNECT_FAILED,
    OPEN_RESOURCE_SHORTAGE,
)
from asyncssh.stream import SSHServerStreamSession, SSHTCPStreamSession

from skerry.agent.ssh.commands import Channel, Command, Reader, Writer
from skerry.agent.ssh.inside import Inside, Login
from skerry.agent.ssh.keys import KeyBook
from skerry.agent.ssh.pump import pump_both
from skerry.agent.ssh.sftp import VERSION, GuestSftp
from skerry.clock import Clock
from skerry.errors import SkerryError, Unavailable
from skerry.model.ssh import parse_login
from skerry.telemetry import Log

TRIES_MAX = 10
"""Keys that one connection may show; an agent full of others' keys shows each once, and a good one twice."""
HASTEN_S, HASTEN_TIMES = 0.003, 100
CHANNELS_MAX = 64
"""Of one connection at one time: commands, SFTP sessions and forwarded connections."""


@dataclass(frozen=True)
class Reception:
    """What all connections share."""

    book: KeyBook
    inside: Inside
    clock: Clock
    log: Log
    admit: Callable[[Visitor], bool]
    """Whether there is room for one more that has not yet shown who it is."""
    settled: Callable[[Visitor], bool]
    """It has shown who it is; False: there is no room for one more of that sandbox."""
    left: Callable[[Visitor], None]


class Visitor(asyncssh.SSHServer):
    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._conn: asyncssh.SSHServerConnection | None = None
        self._peer = "-"
        self._tries = 0
        self._channels = 0
        self._gone = False
        self._admitted = False
        self._shown: Login | None = None
        """Whose key was shown last; it counts once `auth_completed` says that the signature was good."""
        self.login: Login | None = None
        self.fingerprint: str | None = None

    # Its beginning and end

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        self._peer = " ".join(str(part) for part in conn.get_extra_info("peername")[:2])
        self._admitted = self._reception.admit(self)
        if not self._admitted:
            conn.abort()
            return
        self._hasten(conn, HASTEN_TIMES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._reception.left(self)
        if not self._admitted:
            return
        if self.login is None:
            self._reception.log.info("ssh: nobody was let in", peer=self._peer, because=str(exc) if exc else None)
        else:
            self._reception.log.info("ssh: left", sandbox=self.login.sandbox_id, peer=self._peer)

    def _hasten(self, conn: asyncssh.SSHServerConnection, times: int) -> None:
        """OpenSSH's client sends its next word of the handshake only when its last is acknowledged, which a kernel puts
        off for 40 ms where the server has nothing to say: twice in each login, and more than all the rest of it."""
        if self._gone or self.login is not None or times == 0:
            return
        found: socket.socket | None = conn.get_extra_info("socket")
        if found is not None:
            with suppress(OSError):
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        asyncio.get_running_loop().call_later(HASTEN_S, self._hasten, conn, times - 1)

    def end(self) -> None:
        if self._conn is not None:
            self._conn.abort()

    # Who it is

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return False

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Asked before the signature is looked at. The answer tells nobody whether a sandbox exists: it is the same for
        a name that is not there and for a key that is not its own."""
        self._tries += 1
        if self._tries > TRIES_MAX:
            self.end()
            return False
        self._shown = self._login_of(username, key.get_fingerprint())
        self.fingerprint = key.get_fingerprint()
        return self._shown is not None

    def _login_of(self, username: str, fingerprint: str) -> Login | None:
        parsed = parse_login(username)
        sandbox_id = self._reception.book.owner_of(fingerprint, self._reception.clock.now())
        if parsed is None or sandbox_id is None or self._conn is None:
            return None
        name, user = parsed
        try:
            if not self._reception.inside.is_called(sandbox_id, name):
                return None
        except SkerryError:  # it was deleted
            return None
        ours = self._conn.get_extra_info("sockname")
        return Login(sandbox_id, user, f"{self._peer} {ours[0]} {ours[1]}")

    def auth_completed(self) -> None:
        login = self.login = self._shown
        if login is None or not self._reception.settled(self):
            self.end()
            return
        self._reception.log.info(
            "ssh: let in", sandbox=login.sandbox_id, user=login.user, by=self.fingerprint, peer=self._peer
        )

    # What it opens

    def session_requested(self) -> SSHServerStreamSession[bytes]:
        login = self._enter()
        reception = self._reception

        async def run(stdin: Reader, stdout: Writer, stderr: Writer) -> None:
            await Command(reception.inside, login, stdin, stdout, stderr).run()

        async def sftp(channel: Channel) -> asyncssh.SFTPServer:
            try:
                user = await reception.inside.guest_user(login)
            except SkerryError as error:
                reception.log.info("ssh: no files", sandbox=login.sandbox_id, because=error.say)
                channel.exit(1)
                raise asyncssh.SFTPConnectionLost(error.say) from None
            return GuestSftp(
                channel,
                user,
                ready=lambda: reception.inside.used(login),
                enter=lambda: reception.inside.guest_user(login),
            )

        return _Session(run, sftp, VERSION, self._leave)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Awaitable[SSHTCPStreamSession[bytes]]:
        login = self._enter()
        inside = self._reception.inside
        if not (inside.is_its_own(login, dest_host) and 0 < dest_port < 65_536):
            self._leave()
            raise asyncssh.ChannelOpenError(
                OPEN_ADMINISTRATIVELY_PROHIBITED, "only ports of the sandbox itself: use localhost as the host"
            )
        return self._forward(login, dest_port)

    async def _forward(self, login: Login, port: int) -> SSHTCPStreamSession[bytes]:
        inside = self._reception.inside
        try:
            connected = await inside.connect(login, port)
            reader, writer = await asyncio.open_connection(sock=connected)
            if self._gone:  # nobody would ever call `carry`
                writer.close()
                raise Unavailable("the connection was lost")
        except (SkerryError, OSError) as error:
            self._leave()
            say = error.say if isinstance(error, SkerryError) else "the connection broke"
            raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, say) from None
        except BaseException:
            self._leave()
            raise

        async def carry(theirs: Reader, out: Writer) -> None:
            try:
                await pump_both(theirs, out, reader, writer, lambda: inside.used(login))
            except (SkerryError, OSError, asyncssh.Error):
                pass  # either side broke off; the other is told by the closing
            finally:
                writer.close()
                out.close()
                self._leave()

        return SSHTCPStreamSession[bytes](carry)

    def _enter(self) -> Login:
        if self.login is None:
            raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, "show a key first")
        if self._channels >= CHANNELS_MAX:
            raise asyncssh.ChannelOpenError(OPEN_RESOURCE_SHORTAGE, f"at most {CHANNELS_MAX} channels")
        self._channels += 1
        return self.login

    def _leave(self) -> None:
        self._channels -= 1


class _Session(SSHServerStreamSession[bytes]):
    """A command, a shell, or SFTP; `left` is called once when it is over."""

    def __init__(
        self,
        run: Callable[[Reader, Writer, Writer], Awaitable[None]],
        sftp: Callable[[Channel], Awaitable[asyncssh.SFTPServer]],
        version: int,
        left: Callable[[], None],
    ) -> None:
        super().__init__(run, sftp, version)  # pyright: ignore[reportArgumentType, reportUnknownMemberType]
        self._left = left

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._left()
