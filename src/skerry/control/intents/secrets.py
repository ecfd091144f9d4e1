"""Who may set and remove a secret, and whether those that a sandbox names are there: before anything is made."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.errors import Failed, InUse, Invalid, LimitReached, NotFound
from skerry.model.secret import SECRETS_MAX, Secret, SecretRequest, SecretUse
from skerry.sealing import Sealer
from skerry.store.transaction import Transaction


async def set_value(tx: Transaction, name: str, request: SecretRequest, sealer: Sealer) -> Secret:
    count = await tx.secrets.count()
    if count >= SECRETS_MAX and not await tx.secrets.named([name], tx.project):
        raise LimitReached(f"there may be {SECRETS_MAX} secrets; delete some")
    if not sealer.has_key():
        if count:  # a new key would leave all that there are closed for good, and nobody would know why
            raise Failed(
                "the key of the secrets (secrets.key in the server's data_dir) is missing: put it back from your "
                "backup, or delete every secret with --force and set them anew"
            )
        sealer.make_key()
    return await tx.secrets.set(name, tx.project, request.plain(), request.labels, sealer.seal)


async def delete(tx: Transaction, secret: Secret, *, force: bool) -> None:
    """With `force`, those that name it run on, and cannot be started again."""
    users = (await tx.sandboxes.users_of_secrets()).get(secret.name, [])
    if users and not force:
        named = ", ".join(users[:5]) + (", …" if len(users) > 5 else "")
        raise InUse(
            f"secret {secret.name} is used by {named}; take it from them (skerry update), or delete it with force"
        )
    if not force and (going_on := await tx.jobs.users_of("secrets", secret.name)):
        raise InUse(f"secret {secret.name} is used by job {going_on[0]}; wait for its end, or delete it with force")
    if not force and (services := await tx.services.users_of("secrets", secret.name)):
        raise InUse(f"secret {secret.name} is used by service {services[0]}; take it from it, or delete it with force")
    await tx.secrets.delete(secret)


async def check(tx: Transaction, uses: Sequence[SecretUse], *, first: int = 0) -> None:
    """Raises NotFound for one that is not there, Invalid for bytes that no variable can hold. `first`: the first one's
    number in its spec."""
    if not uses:
        return
    found = await tx.secrets.named([use.name for use in uses], tx.project)
    for number, use in enumerate(uses, first):
        field = f"secrets[{number}]"
        if use.name not in found:
            raise NotFound(
                f"{field}.name: there is no secret {use.name}; make it with: skerry secret set {use.name}",
                field=f"{field}.name",
            )
        if use.env is not None and not found[use.name].text:
            raise Invalid(
                f"{field}.env: the value of {use.name} is not text, so no variable can hold it; take it as a file",
                field=f"{field}.env",
            )
