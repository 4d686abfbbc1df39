"""What every process does before the clock starts, the product's and Ray's too."""

from __future__ import annotations

from autoopt.optim import registry
from autoopt.records import WorkloadReport
from autoopt.trials.engine import FileEngine

ENGINE = "benchmarks.choice.live.warm:WarmEngine"
"""Import string for the product's pool."""


def optimizers() -> None:
    """Imports the packages of all optimizers, and torch's compiler, which the first optimizer of a process wants.

    That takes seconds once in a process: nothing to a run of minutes, and half of some budgets here.
    """
    import torch

    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    for name in registry.names():
        spec = registry.get(name)
        if not registry.why_unavailable(spec):
            registry.load_class(spec)


class WarmEngine(FileEngine):
    """The product's own engine, after `optimizers`."""

    def load(self, *, full: bool) -> WorkloadReport | None:
        optimizers()
        return super().load(full=full)
