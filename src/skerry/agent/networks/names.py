"""Names of members, told to members only: `db`, and `db.backend` where somebody is in two networks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from skerry.model.network import Membership


class Names(NamedTuple):
    name: str
    hostname: str


class _Claim(NamedTuple):
    """One member's, on one word."""

    is_name: bool
    address: str


class MemberNames:
    def __init__(self) -> None:
        self._joined: dict[str, tuple[Membership, ...]] = {}
        self._words: dict[str, set[tuple[str, str]]] = {}
        """sandbox -> the (network, word) pairs that it claims."""
        self._claims: dict[tuple[str, str], dict[str, _Claim]] = {}
        """(network, word) -> sandbox -> its claim, in the order in which they came."""

    def put(self, sandbox_id: str, names: Names, joined: Sequence[Membership]) -> None:
        """In place of what was known of it. What it claims as before, it claims since before."""
        wanted = {(each.name, word): _Claim(word == names.name, each.address) for each in joined for word in names}
        self._give_up(sandbox_id, self._words.pop(sandbox_id, set()) - wanted.keys())
        self._joined.pop(sandbox_id, None)
        if joined:
            self._joined[sandbox_id] = tuple(joined)
            self._words[sandbox_id] = set(wanted)
        for pair, claim in wanted.items():
            self._claims.setdefault(pair, {})[sandbox_id] = claim

    def drop(self, sandbox_id: str) -> None:
        self._joined.pop(sandbox_id, None)
        self._give_up(sandbox_id, self._words.pop(sandbox_id, set()))

    def find(self, asker: str, name: str) -> list[str] | None:
        """The address of a member of one of the asker's networks; none for a name that only such a member could have,
        and None for every other name, which is for somebody else to answer."""
        joined = self._joined.get(asker, ())
        host, dot, network = name.partition(".")
        if not dot:
            found = (self._address(each.name, host) for each in joined)
            address = next((address for address in found if address is not None), None)
            return None if address is None else [address]
        if all(each.name != network for each in joined):
            return None
        address = self._address(network, host)
        return [] if address is None else [address]

    def _address(self, network: str, word: str) -> str | None:
        """Of whom it is the name: the newest, where the one before has not gone yet. Else of the first whose hostname
        it is: nobody takes a word from one who has it."""
        claims = self._claims.get((network, word), {}).values()
        named = [claim.address for claim in claims if claim.is_name]
        return named[-1] if named else next((claim.address for claim in claims), None)

    def _give_up(self, sandbox_id: str, pairs: set[tuple[str, str]]) -> None:
        for pair in pairs:
            claims = self._claims[pair]
            del claims[sandbox_id]
            if not claims:
                del self._claims[pair]
