from __future__ import annotations

import math
from typing import Any

import pytest
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim import lr_scheduler as sched

from autoopt.errors import WorkloadError
from autoopt.workload.baseline import UserOptimizer, default, describe, parse
from tests.workload.files import PLAIN


def _net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))


def _describe(returned: Any, steps: int = 100, epoch_interval: bool = False) -> UserOptimizer:
    optimizer, scheduler, options = parse(returned, label="model.py", epoch_interval=epoch_interval)
    return describe(optimizer, scheduler, options, steps=steps, steps_per_epoch=10)


@pytest.fixture
def optimizer() -> AdamW:
    return AdamW(_net().parameters(), lr=0.02, betas=(0.8, 0.9), weight_decay=0.3)


def test_every_form(optimizer):
    s = sched.StepLR(optimizer, 1)
    forms: list[tuple[Any, Any]] = [
        (optimizer, None),
        ([optimizer], None),
        ((optimizer, s), s),
        ([optimizer, s], s),
        (([optimizer], [s]), s),
        (([optimizer], [{"scheduler": s, "interval": "step"}]), s),
        (([optimizer], []), None),
        ((optimizer, None), None),
        ({"optimizer": optimizer}, None),
        ({"optimizer": optimizer, "lr_scheduler": s}, s),
        ({"optimizer": optimizer, "lr_scheduler": {"scheduler": s, "frequency": 2}}, s),
        ([{"optimizer": optimizer, "lr_scheduler": s}], s),
    ]
    for returned, expected in forms:
        found = parse(returned, label="model.py", epoch_interval=False)
        assert found[:2] == (optimizer, expected), returned


def test_several_optimizers_are_refused_by_name(optimizer):
    other = SGD(_net().parameters(), lr=1)
    for returned in (
        [optimizer, other],
        (optimizer, other),
        ([optimizer, other], []),
        [{"optimizer": o} for o in (optimizer, other)],
    ):
        with pytest.raises(WorkloadError, match=r"returned 2 optimizers \(AdamW, SGD\)"):
            parse(returned, label="model.py", epoch_interval=False)


@pytest.mark.parametrize(
    ("returned", "message"),
    [(None, "returned None"), ([], "no optimizer"), ({"lr": 1}, "a dict, not an optimizer"), (3, "a int")],
)
def test_what_is_no_optimizer(returned, message):
    with pytest.raises(WorkloadError, match=message):
        parse(returned, label="model.py", epoch_interval=False)


def test_hyper_is_flat_and_of_the_largest_group():
    net = _net()
    groups = [{"params": [net[0].bias], "weight_decay": 0.0, "lr": 1.0}, {"params": [net[0].weight]}]
    found = _describe(AdamW(groups, lr=0.02, betas=(0.8, 0.9), weight_decay=0.3))
    assert found.hyper == {"lr": 0.02, "beta1": 0.8, "beta2": 0.9, "eps": 1e-8, "weight_decay": 0.3}
    assert (found.name, found.registry_name, found.given, found.schedule) == ("AdamW", "adamw", True, None)
    assert _describe(Adam(net.parameters())).registry_name is None


def test_a_schedule_is_tabulated_and_the_rates_set_back(optimizer):
    found = _describe((optimizer, sched.CosineAnnealingLR(optimizer, 100)))
    assert found.scheduler == "CosineAnnealingLR"
    for k in (0, 1, 37, 99):
        assert found.schedule(k / 100) == pytest.approx((1 + math.cos(math.pi * k / 100)) / 2, abs=1e-9)
    assert optimizer.param_groups[0]["lr"] == found.hyper["lr"] == 0.02
    assert found.schedule(1.0) == found.schedule(0.99)


def test_warm_up_at_construction_does_not_change_the_base_rate(optimizer):
    found = _describe((optimizer, sched.LinearLR(optimizer, 0.1, total_iters=10)))
    assert found.hyper["lr"] == 0.02
    assert found.schedule(0.0) == pytest.approx(0.1)
    assert found.schedule(0.5) == pytest.approx(1.0)


def test_intervals(optimizer):
    halving = sched.StepLR(optimizer, 1, 0.5)
    by_epoch = _describe({"optimizer": optimizer, "lr_scheduler": halving}, epoch_interval=True)
    assert [by_epoch.schedule(k / 100) for k in (0, 9, 10, 25)] == [1, 1, 0.5, 0.25]
    halving = sched.StepLR(optimizer, 1, 0.5)
    every = _describe({"optimizer": optimizer, "lr_scheduler": {"scheduler": halving, "frequency": 20}})
    assert [every.schedule(k / 100) for k in (0, 19, 20, 40)] == [1, 1, 0.5, 0.25]


def test_one_cycle_that_ends_early_and_its_momentum(optimizer):
    cycle = sched.OneCycleLR(optimizer, max_lr=0.02, total_steps=50)
    before = optimizer.param_groups[0]["betas"]
    found = _describe((optimizer, cycle))
    assert "ends after" in found.note
    assert found.schedule(0.6) == found.schedule(0.99)
    assert optimizer.param_groups[0]["betas"] == before


def test_plateau_is_left_out_and_said(optimizer):
    found = _describe((optimizer, sched.ReduceLROnPlateau(optimizer)))
    assert found.schedule is None
    assert "ReduceLROnPlateau" in found.note


def test_a_long_run_is_tabulated_coarsely(optimizer):
    found = _describe((optimizer, sched.LambdaLR(optimizer, lambda k: 1 - k / 30_000)), steps=30_000)
    assert found.schedule(0.5) == pytest.approx(0.5, abs=1e-3)


def test_default():
    found = default(_net())
    assert (found.name, found.hyper["lr"], found.source, found.given) == ("AdamW", 1e-3, "default", False)
    assert found.record().registry_name == "adamw"


def test_in_a_file(opened):
    text = (
        PLAIN
        + """
def configure_optimizers(model, ctx):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    return optimizer, torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, ctx.total_steps)
"""
    )
    workload = opened(text)
    assert workload.settings.schedule == "yours"
    model = workload.start(0, 10)  # a trial: the shape is still that of the real run of 40 steps
    found = workload.baseline(model)
    assert found.registry_name == "sgd"
    assert found.schedule(0.5) == pytest.approx(0.5)
    again = workload.baseline(model)
    assert again.optimizer is not found.optimizer
    assert opened(text + "SCHEDULE = 'linear'\n").settings.schedule == "linear"
    assert opened(PLAIN).settings.schedule == "cosine"
