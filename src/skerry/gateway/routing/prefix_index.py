"""Which replica has which blocks cached, as far as we know: from what was sent there, or from what the engine tells.

A block's hash stands for all before it, so a replica that has a prompt's n-th block has the ones before it too, unless
its engine dropped them first. For each replica there is a dictionary in the order of last use, cut to the size of the
replica's cache where it is known; for each block the replicas that have it are bits of one number, so that one walk
over the prompt compares all replicas at once: with 8 of them and 256 blocks it takes some 15 us.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from skerry.gateway.routing.spans import SIZE_MAX

ENTRIES_MAX: Final = 1_000_000
"""Blocks remembered over all replicas, in those of an engine; an entry takes some 200 bytes."""
REPLICA_BLOCKS: Final = 32_768
"""Of a replica whose cache's size is not known: 512 Ki tokens, what a large GPU holds beside a model that fits it."""
REPLICAS_MAX: Final = 4096
_USE: Final = 1 << SIZE_MAX.bit_length()
"""What is kept of a block is one number: its size, and how often it was used."""


class PrefixIndex:
    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._entries = 0
        self._kept: dict[str, OrderedDict[int, int]] = {}
        """Replica -> its blocks, least recently used first."""
        self._sizes: dict[str, int] = {}
        """Of all blocks of each replica, together."""
        self._bits: dict[str, int] = {}
        self._free_bits: list[int] = []
        self._holders: dict[int, int] = {}
        self._capacity: dict[str, int] = {}

    def __len__(self) -> int:
        return self._entries

    def kept(self, replica: str) -> int:
        """In blocks of an engine, as all sizes here."""
        return self._sizes.get(replica, 0)

    def uses(self, replica: str, block: int) -> int:
        """How many prompts with this block were sent there since it has it."""
        return self._kept[replica].get(block, 0) // _USE

    def sized(self, replica: str, blocks: int) -> None:
        """How many blocks its cache has; 0: not known."""
        if blocks > 0:
            self._capacity[replica] = blocks

    def capacity(self, replica: str) -> int:
        return min(self._capacity.get(replica, REPLICA_BLOCKS), self._fair_max)

    @property
    def _fair_max(self) -> int:
        return max(1, self._entries_max // max(1, len(self._kept)))

    def matched(self, blocks: Sequence[int]) -> Mapping[str, int]:
        """Replica -> how many of the blocks it has, from the first on without a gap. Those with none are not in it."""
        found: dict[str, int] = {}
        holders = self._holders
        alive = holders.get(blocks[0], 0) if blocks else 0
        if not alive:
            return found
        names = {bit: replica for replica, bit in self._bits.items()}
        for count, block in enumerate(blocks):
            now = holders.get(block, 0) & alive
            if now != alive:
                _tell(found, alive & ~now, count, names)
                alive = now
                if not alive:
                    return found
        _tell(found, alive, len(blocks), names)
        return found

    def add(self, replica: str, blocks: Sequence[int], sizes: Sequence[int] | None = None, again: bool = False) -> int:
        """They are cached there, or will be in a moment. Answers how many were new.

        `sizes`: of each block, where they are not those of an engine. `again`: the same prompt, which does not count
        as one more that uses them.

        The last block counts as used longest ago: engines drop a prompt from its end.
        """
        kept = self._kept.get(replica)
        if kept is None:
            kept = self._meet(replica)
        bit, holders = self._bits[replica], self._holders
        most = self.capacity(replica)
        more = 0 if again else _USE
        new = 0
        for at in range(min(len(blocks), most) - 1, -1, -1):
            block = blocks[at]
            was = kept.get(block)
            if was is not None:
                kept.move_to_end(block)
                kept[block] = was + more
            else:
                size = sizes[at] if sizes is not None else 1
                kept[block] = _USE + size
                holders[block] = holders.get(block, 0) | bit
                new += size
        self._entries += new
        self._sizes[replica] += new
        self._cut(replica, most)
        return new

    def drop(self, replica: str, blocks: Sequence[int]) -> None:
        kept = self._kept.get(replica)
        if kept is None:
            return
        for block in blocks:
            was = kept.pop(block, None)
            if was is not None:
                self._release(replica, block, was)

    def clear(self, replica: str) -> None:
        """It keeps nothing any more, but is still there."""
        kept = self._kept.get(replica)
        if kept is not None:
            for block, was in kept.items():
                self._release(replica, block, was)
            kept.clear()

    def forget(self, replica: str) -> None:
        self.clear(replica)
        self._capacity.pop(replica, None)
        self._sizes.pop(replica, None)
        if self._kept.pop(replica, None) is not None:
            self._free_bits.append(self._bits.pop(replica))

    def _meet(self, replica: str) -> OrderedDict[int, int]:
        if len(self._kept) >= REPLICAS_MAX:
            self.forget(next(iter(self._kept)))
        self._bits[replica] = self._free_bits.pop() if self._free_bits else 1 << len(self._bits)
        kept = self._kept[replica] = OrderedDict[int, int]()
        self._sizes[replica] = 0
        most = self._fair_max
        for other in self._kept:  # there is one more to share the limit with
            self._cut(other, most)
        return kept

    def _cut(self, replica: str, most: int) -> None:
        over = self._sizes[replica] - most
        if over <= 0:
            return
        # What `_release` does, over all of them at once: once an index is full, each new prompt pushes out as much.
        kept, holders, others = self._kept[replica], self._holders, ~self._bits[replica]
        freed = 0
        while freed < over:
            block, was = kept.popitem(last=False)
            freed += was % _USE
            left = holders[block] & others
            if left:
                holders[block] = left
            else:
                del holders[block]
        self._entries -= freed
        self._sizes[replica] -= freed

    def _release(self, replica: str, block: int, was: int) -> None:
        size = was % _USE
        self._entries -= size
        self._sizes[replica] -= size
        left = self._holders[block] & ~self._bits[replica]
        if left:
            self._holders[block] = left
        else:
            del self._holders[block]


def _tell(found: dict[str, int], bits: int, count: int, names: Mapping[int, str]) -> None:
    """The replicas with these bits have so many of the blocks."""
    while bits:
        lowest = bits & -bits
        found[names[lowest]] = count
        bits ^= lowest
