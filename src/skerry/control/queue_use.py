"""What is so in each queue and on each node at this moment: sums over what has a place, made anew for whoever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from skerry.model.node import Node, NodeState, NodeWithUse
from skerry.model.queue import Queue, QueueWithUse, Quota, Share
from skerry.model.resources import GPU_MILLI, Amounts, Total, selects
from skerry.store.sandboxes import Holding

Who = tuple[str, str | None]


@dataclass
class _Sum:
    total: Total = field(default_factory=Total)
    pending: int = 0
    running: int = 0

    def add(self, holding: Holding, total: Total) -> None:
        if holding.pending:
            self.pending += holding.count
        else:
            self.running += holding.count
            self.total += total


def with_use(queues: Sequence[Queue], nodes: Sequence[Node], holdings: Sequence[Holding]) -> list[QueueWithUse]:
    by_id = {node.id: node for node in nodes}
    of_nodes: dict[str, _Sum] = {}
    of_queues: dict[str, dict[Who, _Sum]] = {}
    for holding in holdings:
        total = total_of(holding, by_id.get(holding.node or ""))
        sums = of_queues.setdefault(holding.queue, {})
        for who in ((holding.project, None), (holding.project, holding.owner)):
            sums.setdefault(who, _Sum()).add(holding, total)
        if holding.node is not None and not holding.pending:
            of_nodes.setdefault(holding.node, _Sum()).add(holding, total)
    return [_seen(queue, nodes, of_nodes, of_queues.get(queue.name, {})) for queue in queues]


def nodes_with_use(
    nodes: Sequence[Node], holdings: Sequence[Holding], there: Mapping[str, tuple[float, int, int]]
) -> list[NodeWithUse]:
    """`there`: what the store tells of each node's sandboxes, in whatever state."""
    by_id = {node.id: node for node in nodes}
    sums: dict[str, _Sum] = {}
    for holding in holdings:
        if holding.node is not None and holding.node in by_id and not holding.pending:
            sums.setdefault(holding.node, _Sum()).add(holding, total_of(holding, by_id[holding.node]))
    return [
        NodeWithUse(
            **node.model_dump(),
            used=sums[node.id].total if node.id in sums else Total(),
            running=sums[node.id].running if node.id in sums else 0,
            sandboxes=there.get(node.id, (0.0, 0, 0))[2],
        )
        for node in nodes
    ]


def total_of(holding: Holding, node: Node | None) -> Total:
    kinds: dict[str, float] = {}
    have = [each.kind for each in node.accelerators for _ in range(each.count)] if node else []
    for index, milli in holding.devices:
        if index < len(have):  # the machine may have lost one since
            kinds[have[index]] = kinds.get(have[index], 0.0) + milli / GPU_MILLI
    return Total(
        cpu=holding.cpu,
        memory_bytes=holding.memory_bytes,
        gpu=holding.gpu,
        gpu_kinds=kinds,
        extras=dict(holding.extras),
    )


def total_of_node(node: Node) -> Total:
    kinds: dict[str, float] = {}
    for each in node.accelerators:
        kinds[each.kind] = kinds.get(each.kind, 0.0) + each.count
    return Total(
        cpu=node.cpu,
        memory_bytes=node.memory_bytes,
        gpu=sum(kinds.values()),
        gpu_kinds=kinds,
        extras=node.extras,
    )


def _seen(queue: Queue, nodes: Sequence[Node], of_nodes: Mapping[str, _Sum], sums: Mapping[Who, _Sum]) -> QueueWithUse:
    members = [node for node in nodes if selects(queue.spec.nodes, node.labels)]
    projects = [made for (_, user), made in sums.items() if user is None]
    return QueueWithUse(
        **queue.model_dump(),
        nodes=len(members),
        nodes_ready=sum(node.accepts for node in members),
        total=sum((total_of_node(node) for node in members if node.state is NodeState.READY), Total()),
        used=sum((made.total for made in projects), Total()),
        taken=sum((of_nodes[node.id].total for node in members if node.id in of_nodes), Total()),
        pending=sum(made.pending for made in projects),
        running=sum(made.running for made in projects),
        shares=_shares(queue, sums),
    )


def _shares(queue: Queue, sums: Mapping[Who, _Sum]) -> list[Share]:
    quotas: dict[Who, Quota] = {(quota.project, quota.user): quota for quota in queue.spec.quotas}
    guaranteed_to_any = _named([quota.guaranteed for quota in queue.spec.quotas])
    shares: list[Share] = []
    for project, user in sorted({*quotas, *sums}, key=lambda who: (who[0], who[1] is not None, who[1] or "")):
        quota = quotas.get((project, user)) or Quota.model_construct(project=project, user=user)
        made = sums.get((project, user), _Sum())
        shares.append(
            Share(
                project=project,
                user=user,
                used=made.total,
                guaranteed=quota.guaranteed,
                limit=quota.limit,
                borrowed=_beyond(made.total, quota.guaranteed, guaranteed_to_any),
                weight=quota.weight,
                pending=made.pending,
                running=made.running,
                pending_max=quota.pending_max,
                running_max=quota.running_max,
            )
        )
    return shares


def _named(guarantees: Sequence[Amounts]) -> Amounts:
    """Every resource that any of them names."""
    return Amounts(
        cpu=next((each.cpu for each in guarantees if each.cpu is not None), None),
        memory=next((each.memory for each in guarantees if each.memory is not None), None),
        gpu=next((each.gpu for each in guarantees if each.gpu is not None), None),
        gpu_kinds={kind: 0.0 for each in guarantees for kind in each.gpu_kinds},
        extras={name: 0 for each in guarantees for name in each.extras},
    )


def _beyond(used: Total, guaranteed: Amounts, named: Amounts) -> Total:
    return Total(
        cpu=max(0.0, used.cpu - (guaranteed.cpu or 0.0)) if named.cpu is not None else 0.0,
        memory_bytes=max(0, used.memory_bytes - (guaranteed.memory or 0)) if named.memory is not None else 0,
        gpu=max(0.0, used.gpu - (guaranteed.gpu or 0.0)) if named.gpu is not None else 0.0,
        gpu_kinds={
            kind: over
            for kind, count in used.gpu_kinds.items()
            if kind in named.gpu_kinds and (over := count - guaranteed.gpu_kinds.get(kind, 0.0)) > 0
        },
        extras={
            name: over
            for name, count in used.extras.items()
            if name in named.extras and (over := count - guaranteed.extras.get(name, 0)) > 0
        },
    )
