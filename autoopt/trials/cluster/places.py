"""Where trials may run on a cluster: which machines, and how many trials on each. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autoopt.errors import DeviceError, UsageError
from autoopt.trials.cluster.messages import Node

_SLACK = 1e-6
"""Three thirds of a GPU are one."""


@dataclass(frozen=True)
class Share:
    """What a trial takes of its machine.

    Args:
        cpus: cores.
        gpus: GPUs, or a part of one; 0: it trains on the CPU.
    """

    cpus: float = 1.0
    gpus: float = 0.0

    def on(self, node: Node) -> int:
        """Trials that fit on a machine at once.

        >>> Share(cpus=1, gpus=0.5).on(Node(id="a", address="", cpus=8, gpus=2, device="H100"))
        4
        """
        limits = [
            math.floor(have / want + _SLACK)
            for have, want in ((node.cpus, self.cpus), (node.gpus, self.gpus))
            if want > 0
        ]
        return min(limits, default=0)


def share(
    nodes: Iterable[Node], device: str, cpus: float | None, gpus: float | None, ranks: int = 1
) -> Share:
    """What each trial gets: a GPU where there are any, unless the CPU was asked for; one core unless told otherwise.

    Where several processes train a model together, a GPU and a core for each of them.

    Args:
        device: "auto", "cpu" or "cuda".
        cpus, gpus: as the user gave them, for each trial.
        ranks: processes of a trial.

    Raises:
        DeviceError: GPUs are wanted, and no machine has one.
        UsageError: fewer GPUs than processes are asked for.
    """
    there = any(node.gpus > 0 for node in nodes)
    if gpus is None:
        gpus = float(ranks) if device.startswith("cuda") or (device == "auto" and there) else 0.0
    if gpus > 0 and not there:
        raise DeviceError("No machine of the cluster has a GPU.", "Use --device cpu.")
    if ranks > 1 and 0 < gpus < ranks:
        raise UsageError(
            f"--gpus-per-trial {gpus:g} does not suffice for --nproc {ranks}: each process has a GPU of its own.",
            f"Use --gpus-per-trial {ranks}, or leave it out.",
        )
    return Share(float(ranks) if cpus is None else cpus, gpus)


def kind_of(nodes: Sequence[Node], share: Share) -> str:
    """The kind of device on which most trials fit: times on unlike devices cannot be compared.

    Raises:
        DeviceError: not one trial fits anywhere.
    """
    room: Counter[str] = Counter()
    for node in nodes:
        room[node.device] += share.on(node)
    if not room or not max(room.values()):
        largest = max((node.cpus for node in nodes), default=0)
        raise DeviceError(
            f"No machine of the cluster has room for a trial of {share.cpus:g} cores and {share.gpus:g} GPUs.",
            f"The largest one has {largest:g} cores; see --cpus-per-trial and --gpus-per-trial.",
        )
    return max(sorted(room), key=lambda kind: room[kind])
