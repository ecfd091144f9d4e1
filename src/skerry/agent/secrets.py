"""The values that a sandbox was given: opened at the moment it starts or a command begins, and kept nowhere."""

from __future__ import annotations

from skerry.errors import Invalid, NotFound
from skerry.model.order import Order
from skerry.model.secret import MODE, is_text
from skerry.runtime.contract import SecretFile
from skerry.sealing import Sealer


class Secrets:
    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def check(self, order: Order) -> None:
        """Raises NotFound where a secret was deleted, Invalid where its value has become none that fits."""
        self.env(order)
        for number, use in enumerate(order.spec.secrets):
            self._value(order, number, use.name)

    def env(self, order: Order) -> dict[str, str]:
        found: dict[str, str] = {}
        for number, use in enumerate(order.spec.secrets):
            if use.env is None:
                continue
            value = self._value(order, number, use.name)
            if not is_text(value):
                field = f"secrets[{number}].env"
                raise Invalid(
                    f"{field}: the value of {use.name} is not text, so no variable can hold it; take it as a file",
                    field=field,
                )
            found[use.env] = value.decode()
        return found

    def files(self, order: Order, user: str) -> list[SecretFile]:
        """`user`: the sandbox's own, who gets those that name no owner."""
        return [
            SecretFile(
                path=path,
                value=self._value(order, number, use.name),
                user=use.user or user,
                mode=int(use.mode or MODE, 8),
                field=f"secrets[{number}]",
            )
            for number, use in enumerate(order.spec.secrets)
            if (path := use.path) is not None
        ]

    def _value(self, order: Order, number: int, name: str) -> bytes:
        for secret in order.secrets:
            if secret.name == name:
                return self._sealer.open(secret.sealed, secret.bound_to)
        field = f"secrets[{number}].name"
        raise NotFound(f"{field}: there is no secret {name} any more; set it, then start the sandbox", field=field)
