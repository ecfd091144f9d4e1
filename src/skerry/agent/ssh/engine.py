"""What needs asyncssh to be begun: keys, and the protocol on a socket that listens.

Imported when somebody first connects or asks for a key: it costs a tenth of a second and 15 MiB, which a machine whose
SSH nobody uses need not pay.
"""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta
from pathlib import Path

import asyncssh

from skerry.agent.ssh.crowd import Crowd
from skerry.agent.ssh.inside import Inside
from skerry.agent.ssh.keys import AllowedKey, KeyBook
from skerry.agent.ssh.visitor import Reception, Visitor
from skerry.clock import Clock
from skerry.telemetry import Log

KEY_KIND = "ssh-ed25519"
LOGIN_S_MAX = 20.0
KEEPALIVE_S, KEEPALIVES_MAX = 60, 3
"""A client that is gone without a word is noticed after four minutes."""
TELL_EVERY_S = 10.0
VERSION = "Skerry"

# Nothing that needs a large integer's arithmetic, is broken, or compresses before the client is known.
KEY_EXCHANGES = ["curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256"]
CIPHERS = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
]
MACS = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256"]
SIGNATURES = [KEY_KIND]


def new_key(now: datetime, for_s: float, comment: str) -> tuple[str, AllowedKey]:
    """The private key in OpenSSH's form, and what is kept of it."""
    made = _generate(comment)
    kept = AllowedKey(
        fingerprint=made.get_fingerprint(),
        created_at=now,
        expires_at=now + timedelta(seconds=for_s),
        public_key=public_line(made),
    )
    return made.export_private_key("openssh").decode(), kept


def _generate(comment: str) -> asyncssh.SSHKey:
    return asyncssh.generate_private_key(KEY_KIND, comment=comment)  # pyright: ignore[reportUnknownMemberType]


def public_line(key: asyncssh.SSHKey) -> str:
    """Kind and key, without the comment."""
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def host_key(path: Path) -> asyncssh.SSHKey:
    """The one in the file, made at first; the file is there whole or not at all."""
    if not path.exists():
        made = _generate("skerry")
        scratch = path.with_suffix(".new")
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(made.export_private_key("openssh"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    return asyncssh.read_private_key(path)


class Engine:
    def __init__(self, *, key_path: Path, book: KeyBook, inside: Inside, clock: Clock, log: Log) -> None:
        self._host_key = host_key(key_path)
        self._crowd: Crowd[Visitor] = Crowd(clock.monotonic_s)
        self._reception = Reception(
            book=book,
            inside=inside,
            clock=clock,
            log=log,
            admit=self._admit,
            settled=self._settle,
            left=self._crowd.leave,
        )
        self._clock = clock
        self._log = log
        self._told_s = 0.0
        self._acceptor: asyncssh.SSHAcceptor | None = None

    @property
    def host_key(self) -> str:
        return public_line(self._host_key)

    async def serve(self, listening: socket.socket) -> None:
        self._acceptor = await asyncssh.listen(
            sock=listening,
            server_factory=lambda: Visitor(self._reception),
            server_host_keys=[self._host_key],
            server_version=VERSION,
            public_key_auth=True,
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            gss_host=None,
            agent_forwarding=True,
            x11_forwarding=False,
            allow_scp=False,
            line_editor=False,
            encoding=None,
            config=[],
            kex_algs=KEY_EXCHANGES,
            encryption_algs=CIPHERS,
            mac_algs=MACS,
            compression_algs=["none"],
            signature_algs=SIGNATURES,
            login_timeout=LOGIN_S_MAX,
            keepalive_interval=KEEPALIVE_S,
            keepalive_count_max=KEEPALIVES_MAX,
        )

    def end(self, sandbox_id: str) -> None:
        """Its keys were taken back."""
        for visitor in self._crowd.of(sandbox_id):
            visitor.end()

    def close(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
        for visitor in self._crowd.all():
            visitor.end()

    def _admit(self, visitor: Visitor) -> bool:
        if self._crowd.admit(visitor):
            return True
        now_s = self._clock.monotonic_s()
        if now_s - self._told_s >= TELL_EVERY_S:  # strangers must not be able to fill the log
            self._told_s = now_s
            self._log.warning("ssh: more arrive than can be let in; some are sent away")
        return False

    def _settle(self, visitor: Visitor) -> bool:
        assert visitor.login is not None
        return self._crowd.settle(visitor, visitor.login.sandbox_id)
