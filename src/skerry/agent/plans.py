"""From an order to what the runtime needs: the image's defaults merged in, host folders checked, paths settled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from skerry.agent.guest import GuestDoor
from skerry.errors import Invalid
from skerry.model.exec import ExecSpec
from skerry.model.image import ImageConfig
from skerry.model.order import Order
from skerry.model.sandbox import Mount
from skerry.runtime.contract import ExecPlan, Slot, StartPlan

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Plans:
    def __init__(
        self,
        *,
        config_of: Callable[[str], ImageConfig],
        shared: list[Path],
        guests: GuestDoor,
        policy_folder: Callable[[str], Path],
    ) -> None:
        self._config_of = config_of
        self._shared = [path.resolve() for path in shared]
        self._guests = guests
        self._policy_folder = policy_folder

    def settle(self, order: Order) -> Order:
        """The order with each shared folder by its real path, which is looked up once and opened without following
        links ever after: a guest that may write a shared folder could put one there. Control asked the same; the
        agent, which is root, does not take its word for it. Raises Invalid."""
        mounts = [self._settled(number, mount) for number, mount in enumerate(order.spec.mounts)]
        return order.model_copy(update={"spec": order.spec.model_copy(update={"mounts": mounts})})

    def _settled(self, number: int, mount: Mount) -> Mount:
        source = Path(mount.source).resolve()
        field = f"mounts[{number}].source"
        if not any(source.is_relative_to(folder) for folder in self._shared):
            allowed = ", ".join(map(str, self._shared)) or "none; the operator adds one with `skerry serve --share`"
            raise Invalid(
                f"{field}: {mount.source} is not below a folder this machine shares (shared: {allowed})",
                field=field,
            )
        if not source.is_dir():
            raise Invalid(f"{field}: {mount.source} is not a folder on this machine", field=field)
        return mount.model_copy(update={"source": str(source)})

    def start_plan(self, order: Order, slot: Slot) -> StartPlan:
        spec, config = order.spec, self._config_of(order.image_digest)
        has_door = spec.self_checkpoint or spec.self_lease
        return StartPlan(
            sandbox_id=order.sandbox_id,
            hostname=order.hostname,
            spec=spec,
            slot=slot,
            command=spec.command or (),
            env=self._env(order, config),
            workdir=spec.workdir or config.workdir or "/",
            user=spec.user or config.user or "root",
            guest_policy_folder=self._policy_folder(order.sandbox_id),
            guest_socket_folder=self._guests.folder(order.sandbox_id) if has_door else None,
        )

    def exec_plan(self, order: Order, asked: ExecSpec, *, stdin: bool) -> ExecPlan:
        spec, config = order.spec, self._config_of(order.image_digest)
        env = self._env(order, config)
        if asked.tty:
            env.setdefault("TERM", "xterm-256color")
        return ExecPlan(
            command=asked.command,
            env=env | asked.env,
            workdir=asked.workdir or spec.workdir or config.workdir or "/",
            user=asked.user or spec.user or config.user or "root",
            tty=asked.tty,
            size=asked.size,
            stdin=stdin,
        )

    def _env(self, order: Order, config: ImageConfig) -> dict[str, str]:
        ours = {"PATH": PATH, "HOSTNAME": order.hostname, "SKERRY_SANDBOX": order.sandbox_id}
        return ours | config.env | order.spec.env

    async def serve_guest(self, order: Order, *, uid: int) -> None:
        """Open the sandbox's own door to us, if its spec allows one."""
        if order.spec.self_checkpoint or order.spec.self_lease:
            await self._guests.open(order.sandbox_id, order.spec, uid=uid)
        else:
            await self._guests.close(order.sandbox_id)

    async def forget(self, sandbox_id: str) -> None:
        await self._guests.close(sandbox_id)
