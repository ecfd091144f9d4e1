"""Which nameserver sandboxes are sent to: the first of this host's that can be reached from outside the host."""

from __future__ import annotations

import ipaddress
from pathlib import Path

FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
"""The second is where systemd-resolved writes what it asks itself, when the first names only its own 127.0.0.53."""


def usable_nameserver(files: tuple[Path, ...] = FILES) -> str | None:
    """The first IPv4 nameserver that is not on loopback; None when there is none, and sandboxes resolve no names."""
    for file in files:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver" and _is_usable(words[1]):
                return words[1]
    return None


def _is_usable(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback and not address.is_unspecified
