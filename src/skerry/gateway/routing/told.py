"""Which text an engine has pushed out of its cache: its events are of blocks of tokens, ours of blocks of text.

There is no tokenizer in the gateway, so the two cannot be compared. What joins them is the request: an engine tells of
the blocks of a prompt when it computes it, as a chain that ends where the prompt does, and how many tokens the prompt
had stands in the answer. Where one chain only came while the request was there that ends at that length, and goes on
from where the same text was found before, it is the request's, and each part of the text is held by the part of the
chain that is as far from the beginning. What cannot be told apart is left as it was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from skerry.gateway.routing.contract import BLOCK_TOKENS, Ask
from skerry.gateway.routing.spans import tokens_of

Hash = int | bytes
"""An engine's own, of a block together with all before it."""
BLOCKS_MAX: Final = 200_000
"""Of one engine, and parts of text held by them: five million tokens. Beyond it all is forgotten and begun anew."""
SENT_MAX: Final = 10_000
"""Requests at one replica that are remembered; later ones are left as they were sent."""


@dataclass(slots=True)
class _Block:
    depth: int
    """With all before it; the first has 1."""
    parent: Hash | None
    texts: tuple[int, ...] = ()
    """That end in it."""


class Told:
    """Of one replica."""

    def __init__(self) -> None:
        self._blocks: dict[Hash, _Block] = {}
        self._ends: dict[int, dict[Hash, int]] = {}
        """Depth -> blocks that were the last of those stored at once, and the how manieth time that was."""
        self._held_by: dict[int, Hash] = {}
        """Part of a text -> the block in which it ends."""
        self._sent: dict[int, int] = {}
        """Request -> how often blocks had been stored when it was sent."""
        self._times = 0
        self._block_tokens = BLOCK_TOKENS

    @property
    def has_heard(self) -> bool:
        return self._times > 0

    def __len__(self) -> int:
        """Parts of text that are known to be held."""
        return len(self._held_by)

    # What we do

    def sent(self, ask: Ask) -> None:
        if ask.blocks and len(self._sent) < SENT_MAX:
            self._sent[id(ask)] = self._times

    def ended(self, ask: Ask, prompt_tokens: int) -> bool:
        """`prompt_tokens`: as the engine counted; 0: it did not say. Whether it is known now which blocks are its."""
        since = self._sent.pop(id(ask), None)
        depth = prompt_tokens // self._block_tokens
        if since is None or depth < 1:
            return False
        known = next((at for at in range(len(ask.blocks) - 1, -1, -1) if ask.blocks[at] in self._held_by), -1)
        before = self._held_by[ask.blocks[known]] if known >= 0 else None
        chains: list[list[Hash]] = []
        for end, time in self._ends.get(depth, {}).items():
            if time > since and (chain := self._chain(end, before)) is not None:
                chains.append(chain)
        if len(chains) != 1:
            return False
        self._join(ask, known + 1, chains[0], depth, prompt_tokens / max(1, ask.prompt_tokens))
        return True

    # What the engine tells

    def stored(self, blocks: tuple[Hash, ...], parent: Hash | None, block_tokens: int) -> None:
        above = self._blocks.get(parent) if parent is not None else None
        if not blocks or (parent is not None and above is None):
            return  # of a chain that began before we listened
        if len(self._blocks) + len(blocks) > BLOCKS_MAX or len(self._held_by) > BLOCKS_MAX:
            self.cleared()
            return
        self._block_tokens = block_tokens or self._block_tokens
        depth = above.depth if above is not None else 0
        for block in blocks:
            depth += 1
            if block not in self._blocks:
                self._blocks[block] = _Block(depth, parent)
            parent = block
        self._times += 1
        self._ends.setdefault(depth, {})[blocks[-1]] = self._times

    def removed(self, blocks: tuple[Hash, ...]) -> list[int]:
        """The parts of text that were held by them."""
        gone: list[int] = []
        for name in blocks:
            block = self._blocks.pop(name, None)
            if block is None:
                continue
            ends = self._ends.get(block.depth)
            if ends is not None and ends.pop(name, None) is not None and not ends:
                del self._ends[block.depth]
            for text in block.texts:
                if self._held_by.get(text) == name:
                    del self._held_by[text]
                    gone.append(text)
        return gone

    def cleared(self) -> None:
        """It keeps nothing any more, or has told what we did not hear."""
        self._blocks.clear()
        self._ends.clear()
        self._held_by.clear()

    def _chain(self, end: Hash, before: Hash | None) -> list[Hash] | None:
        """From after `before`, or from the first, to the end; None: it does not go on from there."""
        chain: list[Hash] = []
        at: Hash | None = end
        while at is not None and at != before:
            chain.append(at)
            block = self._blocks.get(at)
            if block is None:
                return None
            at = block.parent
        chain.reverse()
        return chain if chain and at == before else None

    def _join(self, ask: Ask, first: int, chain: list[Hash], depth: int, tokens_each: float) -> None:
        """`tokens_each`: the engine's for each of ours, which are estimated."""
        start = depth - len(chain)
        for at in range(first, len(ask.blocks)):
            ends_in = -(-int(tokens_of(at + 1) * tokens_each) // self._block_tokens)
            name = chain[min(len(chain), max(1, ends_in - start)) - 1]
            text = ask.blocks[at]
            self._held_by[text] = name
            self._blocks[name].texts += (text,)
