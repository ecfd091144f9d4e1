"""Every policy by its name. `seed` is for those that draw lots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from skerry.gateway.routing.auto import Auto
from skerry.gateway.routing.by_lot import ByLot
from skerry.gateway.routing.contract import Policy
from skerry.gateway.routing.disaggregated import Disaggregated
from skerry.gateway.routing.hybrid import Hybrid
from skerry.gateway.routing.least_load import LeastLoad
from skerry.gateway.routing.lora import Lora
from skerry.gateway.routing.power_of_two import PowerOfTwo
from skerry.gateway.routing.prefix import Prefix
from skerry.gateway.routing.round_robin import RoundRobin
from skerry.gateway.routing.session import Session
from skerry.gateway.routing.shares import Shares
from skerry.gateway.routing.slo import Slo
from skerry.model.service import PolicyName

P = PolicyName
POLICIES: Final[Mapping[PolicyName, Callable[[int], Policy]]] = {
    P.AUTO: lambda seed: Auto(),
    P.ROUND_ROBIN: lambda seed: RoundRobin(),
    P.RANDOM: ByLot,
    P.LEAST_LOAD: lambda seed: LeastLoad(),
    P.POWER_OF_TWO: PowerOfTwo,
    P.PREFIX: lambda seed: Prefix(),
    P.HYBRID: Hybrid,
    P.SESSION: lambda seed: Session(),
    P.LORA: lambda seed: Lora(),
    P.SLO: lambda seed: Slo(),
    P.DISAGGREGATED: lambda seed: Disaggregated(),
}
KEEPS_SHARES: Final = frozenset({P.ROUND_ROBIN, P.RANDOM, P.POWER_OF_TWO, P.SESSION})
"""These go by weights of their own accord."""


def policy(name: PolicyName, seed: int = 0) -> Policy:
    made = POLICIES[name](seed)
    return made if name in KEEPS_SHARES else Shares(made)
