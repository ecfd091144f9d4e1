"""Which LoRA adapters the simulated engine has loaded, and what using one more costs."""

from __future__ import annotations

from collections import OrderedDict

from skerry.engines.simulator.profile import Profile


class Adapters:
    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._users: dict[str, int] = {}
        self._loaded: OrderedDict[str, None] = OrderedDict()
        """In the accelerator, the one unused for longest first."""
        self._kept: OrderedDict[str, None] = OrderedDict()
        """In the machine's memory."""

    @property
    def active(self) -> tuple[str, ...]:
        """Used by a request that runs."""
        return tuple(self._users)

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(self._loaded)

    def fits(self, adapter: str) -> bool:
        return not adapter or adapter in self._users or len(self._users) < self._profile.adapters

    def enter(self, adapter: str) -> float:
        """A request that uses it begins to run; the seconds for which everything stands still."""
        if not adapter:
            return 0.0
        self._users[adapter] = self._users.get(adapter, 0) + 1
        if adapter in self._loaded:
            self._loaded.move_to_end(adapter)
            return 0.0
        cost_s = self._profile.adapter_swap_s
        if adapter in self._kept:
            self._kept.move_to_end(adapter)
        else:
            cost_s += self._profile.adapter_load_s
            self.keep(adapter)
        if len(self._loaded) >= self._profile.adapters:
            del self._loaded[next(name for name in self._loaded if name not in self._users)]
        self._loaded[adapter] = None
        return cost_s

    def leave(self, adapter: str) -> None:
        if adapter and self._users[adapter] == 1:
            del self._users[adapter]
        elif adapter:
            self._users[adapter] -= 1

    def keep(self, adapter: str) -> None:
        self._kept[adapter] = None
        self._kept.move_to_end(adapter)
        while len(self._kept) > self._profile.adapters_kept:
            self._kept.popitem(last=False)

    def forget(self, adapter: str) -> None:
        self._kept.pop(adapter, None)
        if adapter not in self._users:
            self._loaded.pop(adapter, None)
