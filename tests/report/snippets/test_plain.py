"""The pasted lines run and build what `build` builds; what is the user's own is said to stay."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from torch import nn

from autoopt.records import Baseline, GroupRecord
from tests.report import factory


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))


def settings_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    hidden = ("params", "label")
    return [{k: v for k, v in group.items() if k not in hidden} for group in optimizer.param_groups]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
def test_the_pasted_lines_build_what_build_builds(schedule: str) -> None:
    rec = factory.recommendation(recommendation=factory.choice(schedule=schedule, steps=20, warmup_steps=3))
    names: dict[str, Any] = {"torch": torch, "model": model()}
    exec(rec.snippet(), names)
    optimizer, scheduler = rec.build(model())
    assert type(names["optimizer"]) is type(optimizer) is torch.optim.AdamW
    for _ in range(20):
        assert settings_of(names["optimizer"]) == settings_of(optimizer)
        assert optimizer.param_groups[0]["lr"] > 0
        for each, rate in ((names["optimizer"], names["scheduler"]), (optimizer, scheduler)):
            each.step()
            rate.step()


def test_five_statements_that_fit_a_terminal() -> None:
    text = factory.recommendation().snippet()
    assert len(ast.parse(text).body) == 5
    assert max(map(len, text.splitlines())) < 80


def test_without_groups_the_lines_are_plain_torch() -> None:
    groups = [GroupRecord(label="weights", tensors=6, parameters=17_866)]
    rec = factory.recommendation(
        recommendation=factory.choice(groups=groups, arguments={"lr": 0.1}, hyper={"lr": 0.1})
    )
    assert "torch.optim.AdamW(model.parameters(), lr=0.1)" in rec.snippet()


def test_keeping_yours_says_so_and_scales_a_tuned_rate() -> None:
    assert "your own AdamW" in factory.keep().snippet()
    assert "*=" not in factory.keep().snippet()
    tuned = factory.keep().recommendation.model_copy(update={"hyper": {"lr": 3e-3}})
    assert 'group["lr"] *= 0.003 / 0.001' in factory.recommendation(recommendation=tuned).snippet()


def test_the_default_baseline_is_pasted_as_its_constructor_takes_it() -> None:
    hyper = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.01}
    arguments = {"lr": 1e-3, "betas": [0.9, 0.99], "weight_decay": 0.01}
    own = factory.keep().recommendation.model_copy(update={"hyper": hyper, "arguments": arguments})
    default = Baseline(source="default", optimizer="AdamW", registry_name="adamw", hyper=hyper, schedule=None)
    rec = factory.recommendation(recommendation=own, workload=factory.workload(baseline=default))
    names: dict[str, Any] = {"torch": torch, "model": model()}
    exec(rec.snippet(), names)
    assert names["optimizer"].defaults["betas"] == (0.9, 0.99)
