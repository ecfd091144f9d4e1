"""What an attacker in a sandbox can do with the perl of a minimal Debian: any system call, and a program of our own."""

from __future__ import annotations

import errno
import struct

from tests.runtime.conftest import Machine


def syscall(machine: Machine, box: str, number: int, *arguments: int | str, **wanted: object) -> str:
    """Name of the errno it failed with, or "ok"."""
    literals = ", ".join(f'"{argument}"' if isinstance(argument, str) else str(argument) for argument in arguments)
    script = f"@a = ({literals}); $got = syscall({number}, @a); print $got == -1 ? $! + 0 : 0;"
    return _outcome(machine, box, script, **wanted)


def ioctl(machine: Machine, box: str, path: str, request: int, **wanted: object) -> str:
    """With a page of zeros as its argument."""
    script = f'open($f, "<", "{path}") or die; $b = "\\0" x 4096; print defined(ioctl($f, {request}, $b)) ? 0 : $! + 0;'
    return _outcome(machine, box, script, **wanted)


def _outcome(machine: Machine, box: str, script: str, **wanted: object) -> str:
    code, output = machine.exec(box, "perl", "-e", script, **wanted)
    assert code == 0, output
    number = int(output)
    return errno.errorcode[number] if number else "ok"


def tiny_program(code: bytes) -> bytes:
    """An x86-64 ELF file that consists of `code`."""
    base, header_size = 0x400000, 64 + 56
    entry = base + header_size
    size = header_size + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096)
    return header + segment + code
