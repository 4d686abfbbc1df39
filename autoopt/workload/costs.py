"""What a step of each optimizer costs beside a step of AdamW, timed before the first trial.

A planner that does not know that one optimizer takes seven times as long as another would start trials that cannot end.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from torch import nn

from autoopt.errors import AutooptError
from autoopt.optim import build, groups, registry
from autoopt.optim.spec import Need
from autoopt.workload.calibrate import synchronize
from autoopt.workload.data import clone

if TYPE_CHECKING:
    from autoopt.workload.workload import Workload

_OURS = frozenset({"torch", "autoopt"})
"""Packages that are imported already; to import others would cost seconds, and their steps cost about AdamW's."""
_MOST_PARAMETERS = 50_000_000
"""Above, a step is all computation and the states of a dozen optimizers would fill the memory."""
_WARM, _TIMED = 2, 4
_SECONDS = 2.0


def relative(workload: Workload, model: nn.Module, batch: Any, step_seconds: float) -> dict[str, float]:
    """Registry name -> seconds of a training step over those with AdamW.

    Takes steps at a tiny learning rate: the next `start` restores the weights.

    Args:
        batch: on the host; its gradient is taken once and serves all.
        step_seconds: of a whole training step with AdamW.

    Returns:
        The first-order optimizers of torch and of ours that can be built, as far as two seconds reach.
    """
    if sum(p.numel() for p in model.parameters() if p.requires_grad) > _MOST_PARAMETERS:
        return {}
    user = workload.baseline(model)
    split = groups.split(model, user=user.optimizer if user.given else None)
    model.zero_grad(set_to_none=True)
    with workload.autocast():
        loss = workload.loss(model, clone(batch))
    loss.backward()  # type: ignore[no-untyped-call]
    begin, found = time.perf_counter(), dict[str, float]()
    names = [n for n in registry.names() if registry.get(n).distribution in _OURS]
    for name in sorted(names, key=lambda n: n != "adamw"):
        spec = registry.get(name)
        if registry.why_unavailable(spec) or Need.SECOND_ORDER in spec.needs:
            continue
        if time.perf_counter() - begin > _SECONDS:
            break
        try:
            found[name] = _seconds(workload, build.build(spec, split, {"lr": 1e-6 * spec.start()["lr"]}))
        except (AutooptError, RuntimeError, MemoryError):  # it cannot serve this model; trials will say why
            continue
    model.zero_grad(set_to_none=True)
    adamw = found.get("adamw")
    if adamw is None or step_seconds <= 0:
        return {}
    return {n: round(1 + (own - adamw) / max(step_seconds, adamw), 3) for n, own in found.items()}


def _seconds(workload: Workload, optimizer: Any) -> float:
    """Of the optimizer's own step: the fastest of a few, since other work can only add to it."""
    times = []
    for _ in range(_WARM + _TIMED):
        synchronize(workload.device)
        begin = time.perf_counter()
        optimizer.step()
        synchronize(workload.device)
        times.append(time.perf_counter() - begin)
    return min(times[_WARM:])
