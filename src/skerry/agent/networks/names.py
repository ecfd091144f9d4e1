"""Names of members, told to members only: `db`, and `db.backend` where somebody is in two networks. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.model.network import Membership


class MemberNames:
    def __init__(self) -> None:
        self._joined: dict[str, tuple[str, tuple[Membership, ...]]] = {}
        self._addresses: dict[str, dict[str, str]] = {}
        """network -> name of a member -> its address there."""

    def put(self, sandbox_id: str, name: str, joined: Sequence[Membership]) -> None:
        """In place of what was known of it."""
        self.drop(sandbox_id)
        if joined:
            self._joined[sandbox_id] = (name, tuple(joined))
        for each in joined:
            self._addresses.setdefault(each.name, {})[name] = each.address

    def drop(self, sandbox_id: str) -> None:
        name, joined = self._joined.pop(sandbox_id, ("", ()))
        for each in joined:
            members = self._addresses.get(each.name, {})
            if members.get(name) == each.address:  # else somebody has come by this name meanwhile
                del members[name]
            if not members:
                self._addresses.pop(each.name, None)

    def find(self, asker: str, name: str) -> list[str] | None:
        """The address of a member of one of the asker's networks; none for a name that only such a member could have,
        and None for every other name, which is for somebody else to answer."""
        _, joined = self._joined.get(asker, ("", ()))
        host, dot, network = name.partition(".")
        if not dot:
            found = (self._addresses.get(each.name, {}).get(host) for each in joined)
            address = next((address for address in found if address is not None), None)
            return None if address is None else [address]
        if all(each.name != network for each in joined):
            return None
        address = self._addresses.get(network, {}).get(host)
        return [] if address is None else [address]
