"""What a loop of the user's own is handed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from autoopt.errors import WorkloadError
from autoopt.records import BASELINE
from autoopt.schedule import multiplier
from autoopt.workload.maker import Maker, Told


def step(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    optimizer.step()


def test_several_optimizers_share_settings_and_schedule_however_often_each_steps() -> None:
    maker = Maker("adamw", {"lr": 0.1, "beta2": 0.9}, steps=4, schedule="cosine", warmup=0.25)
    one, other = maker(nn.Linear(2, 2)), maker(nn.Linear(3, 1).parameters(), lr_scale=4.0)
    for number in range(4):
        expected = 0.1 * multiplier("cosine", number, 4, 1)
        assert [g["lr"] for g in one.param_groups] == pytest.approx([expected] * len(one.param_groups))
        assert [g["lr"] for g in other.param_groups] == pytest.approx([4 * expected] * 2)
        for _ in range(5):
            step(other)
        step(one)
        maker.report(number, 1.0)
    assert {g["betas"] for o in (one, other) for g in o.param_groups} == {(0.9, 0.9)}
    maker.check("run()")


def test_an_optimizer_made_in_mid_run_has_the_rate_of_that_step() -> None:
    maker = Maker("sgd", {"lr": 1.0}, steps=10, schedule="linear", warmup=0.0)
    step(maker(nn.Linear(1, 1)))
    maker.report(4, 1.0)
    assert maker(nn.Linear(1, 1)).param_groups[0]["lr"] == pytest.approx(0.5)


def test_reports_are_passed_on() -> None:
    told: list[Told] = []
    maker = Maker("sgd", {"lr": 1.0}, steps=20, tell=told.append)
    step(maker(nn.Linear(1, 1)))
    for number in (9, 19):
        maker.report(number, torch.tensor(0.5, requires_grad=True))
    assert [(t.done, t.loss) for t in told] == [(10, 0.5), (20, 0.5)]
    assert all(t.seconds > 0 for t in told)
    maker.check("run()")


def test_still_moves_nothing() -> None:
    model = nn.Linear(3, 3)
    before = model.weight.detach().clone()
    maker = Maker("adamw", {"lr": 1.0}, steps=2, still=True)
    step(maker(model))
    maker.report(0, 1.0)
    assert torch.equal(before, model.weight)


def test_gradients_are_clipped_where_the_settings_say_so() -> None:
    model = nn.Linear(100, 1, bias=False)
    maker = Maker("sgd", {"lr": 1.0, "clip": 1.0}, steps=9, schedule="constant", warmup=0.0)
    optimizer, before = maker(model), model.weight.detach().clone()
    step(optimizer)
    # The first step of Nesterov's momentum is 1 + 0.9 times the gradient.
    assert float((model.weight.detach() - before).norm()) == pytest.approx(1.9, rel=1e-2)


def test_the_baseline_is_the_users_own_with_its_schedule() -> None:
    def configure(module: nn.Module) -> Any:
        optimizer = torch.optim.Adam(module.parameters(), lr=0.2, betas=(0.5, 0.999))
        return optimizer, torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=100)

    maker = Maker(BASELINE, {}, steps=10, schedule="yours", configure=configure, real_steps=100)
    optimizer = maker(nn.Linear(2, 2))
    step(optimizer)
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)
    maker.report(4, 1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_without_an_own_one_the_baseline_is_adamw_at_its_default() -> None:
    optimizer = Maker(BASELINE, {}, steps=10, schedule="constant", warmup=0.0)(nn.Linear(2, 2))
    assert type(optimizer) is torch.optim.AdamW
    assert [g["lr"] for g in optimizer.param_groups] == [1e-3]


def made(**more: Any) -> Maker:
    maker = Maker("sgd", {"lr": 1.0}, steps=10, **more)
    step(maker(nn.Linear(1, 1)))
    return maker


def test_mistakes_in_reports_name_the_users_line() -> None:
    with pytest.raises(WorkloadError, match=r"test_maker\.py:\d+ reports a step, and make_optimizer"):
        Maker("sgd", {"lr": 1.0}, steps=10).report(0, 1.0)
    with pytest.raises(WorkloadError, match=r"test_maker\.py:\d+ was given a str as the loss"):
        made().report(0, "low")
    maker = made()
    maker.report(3, 1.0)
    with pytest.raises(WorkloadError, match="told of step 0 after step 3"):
        maker.report(0, 1.0)
    with pytest.raises(WorkloadError, match="told of step 11, but this run has 10"):
        maker.report(11, 1.0)


def test_what_a_run_left_out_is_told() -> None:
    with pytest.raises(WorkloadError, match=r"run\(\) never called make_optimizer"):
        Maker("sgd", {"lr": 1.0}, steps=10).check("run()")
    with pytest.raises(WorkloadError, match=r"run\(\) never called report"):
        made().check("run()")
    unused = Maker("sgd", {"lr": 1.0}, steps=10)
    unused(nn.Linear(1, 1))
    unused.report(9, 1.0)
    with pytest.raises(WorkloadError, match=r"never called step\(\)"):
        unused.check("run()")
    short = made()
    for number in range(5):
        short.report(number, 1.0)
    with pytest.raises(WorkloadError, match="returned after 5 of 10 steps"):
        short.check("run()")
