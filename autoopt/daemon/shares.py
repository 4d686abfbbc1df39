"""How a cluster is shared out among jobs: pure functions of machines and of what each job asks for and has.

A *place* is room for one trial. A job's places are all on machines with one kind of device, since times are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoopt.trials.cluster.messages import Node
from autoopt.trials.cluster.places import Share


@dataclass(eq=False)
class Holder:
    """A job that runs on the cluster.

    Args:
        most: places that it wants at most; `None`: all there are.
        allotted: machine -> places that it may have.
        held: machine -> places that it has; more than allotted until a trial ends.
        loaded: of those the ones that surely take up their machine.
    """

    kind: str
    share: Share
    most: int | None = None
    allotted: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    loaded: dict[str, int] = field(default_factory=dict)

    @property
    def places(self) -> int:
        """That it may have."""
        return sum(self.allotted.values())

    def on(self, node: str) -> int:
        """Places of a machine that are not to be given to anybody else."""
        return max(self.allotted.get(node, 0), self.held.get(node, 0))


def fair(total: int, most: Sequence[int | None]) -> list[int]:
    """Places of each of several jobs, in their order: equal parts, but to none more than it wants; what is left over
    goes to the first ones. Where there are more jobs than places, the last get none.

    >>> fair(8, [None, 1, None])
    [4, 1, 3]
    >>> fair(2, [None, None, None])
    [1, 1, 0]
    """
    parts = [0] * len(most)
    left = total
    while left > 0:
        hungry = [i for i, limit in enumerate(most) if limit is None or parts[i] < limit]
        if not hungry:
            break
        for i in hungry[:left]:
            parts[i] += 1
        left -= min(left, len(hungry))
    return parts


def room(node: Node, share: Share, holders: Sequence[Holder], *, ours: bool = True) -> int:
    """Further trials that fit on a machine beside the jobs' and beside what others of the cluster have taken.

    What others have is what Ray has given away, less what the jobs have of it. Of a worker that is just starting it is not
    known whether Ray has counted it yet. Where places are given away it is taken to be among the others' for that moment,
    which costs a delay and not a machine that is given twice; else it is not, so that no job's part shrinks by its own.

    Args:
        ours: leave out what the jobs may have, too; else only what others have taken.
    """
    cpus, gpus = node.cpus, node.gpus
    for free, have, what in ((node.free_cpus, node.cpus, "cpus"), (node.free_gpus, node.gpus, "gpus")):
        if free is None:
            continue
        counts = [h.loaded.get(node.id, 0) if ours else h.on(node.id) for h in holders]
        known = sum(n * float(getattr(h.share, what)) for n, h in zip(counts, holders, strict=True))
        others = max(0.0, have - free - known)
        if what == "cpus":
            cpus -= others
        else:
            gpus -= others
    if ours:
        cpus -= sum(h.on(node.id) * h.share.cpus for h in holders)
        gpus -= sum(h.on(node.id) * h.share.gpus for h in holders)
    return max(0, share.on(node.model_copy(update={"cpus": max(0.0, cpus), "gpus": max(0.0, gpus)})))


def total(nodes: Sequence[Node], kind: str, share: Share) -> int:
    """Trials that fit on the machines of a kind, were they empty."""
    return sum(share.on(node) for node in nodes if node.device == kind)


def add(holder: Holder, count: int, nodes: Sequence[Node], holders: Sequence[Holder]) -> int:
    """Give a job up to `count` further places where there are some, to machines in turn; returns how many."""
    given = 0
    others = holders if holder in holders else [*holders, holder]
    own = [node for node in nodes if node.device == holder.kind]
    while given < count:
        free = {node.id: room(node, holder.share, others) for node in own}
        best = max(free, key=lambda name: (free[name], -holder.allotted.get(name, 0)), default=None)
        if best is None or not free[best]:
            break
        holder.allotted[best] = holder.allotted.get(best, 0) + 1
        given += 1
    return given


def take(holder: Holder, count: int) -> None:
    """Ask a job for `count` of its places back: those whose worker has not loaded yet, then from where it has most."""

    def worth(name: str) -> tuple[int, int]:
        return holder.allotted[name] - holder.loaded.get(name, 0), holder.allotted[name]

    for _ in range(count):
        most = max(holder.allotted, key=worth, default=None)
        if most is None:
            return
        holder.allotted[most] -= 1
        if not holder.allotted[most]:
            del holder.allotted[most]


def forget_gone(holder: Holder, nodes: Mapping[str, Node]) -> None:
    """Machines that are gone have no places."""
    holder.allotted = {name: count for name, count in holder.allotted.items() if name in nodes}
