"""Groups of what a foreign loop hands over."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from autoopt.errors import WorkloadError
from autoopt.optim import groups
from autoopt.optim.loose import groups_of


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def test_a_module_is_split_as_everywhere() -> None:
    model = net()
    assert groups_of(model) == groups.split(model)


@pytest.mark.parametrize("form", ["parameters", "generator", "named", "one group"])
def test_bare_parameters_are_told_by_their_shape(form: str) -> None:
    model = net()
    given: Any = {
        "parameters": list(model.parameters()),
        "generator": model.parameters(),
        "named": model.named_parameters(),
        "one group": {"params": list(model.parameters())},
    }[form]
    found = groups_of(given)
    assert [(g.label, len(g.params), g.decay_scale) for g in found] == [
        ("weights", 2, 1.0),
        ("no decay", 4, 0.0),
    ]
    assert not any(g.matrices for g in found)


def test_groups_are_kept_as_multiples() -> None:
    big, small = nn.Parameter(torch.zeros(8, 8)), nn.Parameter(torch.zeros(2, 2))
    found = groups_of(
        [{"params": big, "lr": 0.1, "weight_decay": 0.0}, {"params": [small], "lr": 0.4, "weight_decay": 0.2}]
    )
    assert [(g.lr_scale, g.decay_scale) for g in found] == [(1.0, 0.0), (4.0, 1.0)]


def test_a_scale_multiplies_all() -> None:
    assert {g.lr_scale for g in groups_of(net(), lr_scale=4.0)} == {4.0}


def test_frozen_and_shared_parameters() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    (group,) = groups_of([weight, weight, frozen])
    assert len(group.params) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "was given a int"),
        ([], "no trainable parameter"),
        (["weight"], "a str among its parameters"),
        ([{"lr": 0.1}], 'no "params"'),
        (
            [
                {"params": [nn.Parameter(torch.zeros(1))], "lr": 1.0},
                {"params": [nn.Parameter(torch.zeros(1))]},
            ],
            'only some have "lr"',
        ),
    ],
)
def test_what_cannot_be_used_is_named(given: Any, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        groups_of(given)
