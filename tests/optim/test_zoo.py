"""Against the real collection, where it is installed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autoopt.optim import groups, registry
from autoopt.optim.build import build
from autoopt.optim.spec import Need

pytest.importorskip("pytorch_optimizer")


def test_a_schedule_free_optimizer_of_pytorch_optimizer_trains() -> None:
    spec = registry.get("pytorch_optimizer:ScheduleFreeRAdam")
    assert spec.needs == {Need.TRAIN_EVAL_MODE, Need.OWN_SCHEDULE}
    net = nn.Linear(3, 1)
    before = net.weight.detach().clone()
    optimizer = build(spec, groups.split(net), spec.start())
    optimizer.train()  # type: ignore[attr-defined]
    for _ in range(10):  # RAdam waits a few steps before it moves
        optimizer.zero_grad()
        net(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    assert not torch.equal(net.weight, before)


def test_a_second_order_optimizer_is_known_for_one() -> None:
    assert Need.SECOND_ORDER in registry.get("pytorch_optimizer:SophiaH").needs
