"""Which ioctl requests a sandbox may make: all but btrfs' own and the two that type into a terminal, as masked rules.

A btrfs subvolume made by a guest would stand outside its disk limit, and an allow-list of every request that every
program may need does not exist. So the set of all requests minus the forbidden ones is written as a union of cubes
(argument & mask == value), which is the only kind of condition that a seccomp filter can take several of.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPE_BTRFS = 0x94
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
FICLONE, FICLONERANGE, FIDEDUPERANGE = 0x40049409, 0x4020940D, 0xC0189436
"""Reflinks share btrfs' type byte, are VFS-wide by now, and cannot make a subvolume: cp --reflink needs them."""

WHOLE_REQUEST = 0xFFFFFFFF
"""The kernel reads 32 bits; what a program leaves in the upper half of the register does not matter."""


@dataclass(frozen=True)
class Cube:
    """All requests with request & mask == value."""

    mask: int
    value: int

    def meets(self, other: Cube) -> bool:
        return (self.value ^ other.value) & self.mask & other.mask == 0

    def within(self, other: Cube) -> bool:
        return other.mask & self.mask == other.mask and (self.value ^ other.value) & other.mask == 0

    def without(self, hole: Cube) -> list[Cube]:
        """Cubes whose union is this one minus `hole`: one for each bit that tells them apart."""
        if not self.meets(hole):
            return [self]
        bits = [1 << position for position in range(32) if hole.mask & ~self.mask & (1 << position)]
        return [Cube(self.mask | bit, self.value | (~hole.value & bit)) for bit in bits]


FORBIDDEN = (Cube(0xFF00, TYPE_BTRFS << 8), Cube(0xFFFF, TIOCSTI), Cube(0xFFFF, TIOCLINUX))


def allowed_ioctls() -> list[Cube]:
    cubes = [Cube(0, 0)]
    for hole in FORBIDDEN:
        cubes = _largest([part for cube in cubes for part in cube.without(hole)])
    return [*cubes, *(Cube(WHOLE_REQUEST, request) for request in (FICLONE, FICLONERANGE, FIDEDUPERANGE))]


def _largest(cubes: list[Cube]) -> list[Cube]:
    distinct = list(dict.fromkeys(cubes))
    return [cube for cube in distinct if not any(cube != other and cube.within(other) for other in distinct)]
