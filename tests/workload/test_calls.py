from __future__ import annotations

import pytest
import torch

from autoopt.errors import UserCodeError, WorkloadError
from autoopt.workload import from_callables
from autoopt.workload.calls import is_batch
from tests.workload.conftest import Opener

MODEL = """
import torch
from torch import nn

def get_batch():
    x = torch.randn(8, 3)
    return x, x.sum(1, keepdim=True)

def build_model():
    return nn.Linear(3, 1)

train_dataloader = get_batch
val_dataloader = get_batch

def loss(model, batch):
    x, y = batch
    return (model(x) - y).square().mean()
"""


def test_a_function_that_returns_a_batch_is_called_for_each(opened: Opener) -> None:
    workload = opened(MODEL)
    batches = [next(workload.batches(0)), next(workload.batches(0)), next(workload.batches(1))]
    assert all(x.shape == (8, 3) and y.shape == (8, 1) for x, y in batches)
    assert batches[0][0].equal(batches[1][0])
    assert not batches[0][0].equal(batches[2][0])
    endless = workload.batches(0)
    assert not next(endless)[0].equal(next(endless)[0])
    assert len(workload.held) == 200
    assert any("train_dataloader gives one batch at each call" in note for note in workload.notes)


def test_lists_are_batches_as_before() -> None:
    data = [torch.randn(4, 2) for _ in range(3)]
    workload = from_callables(model=torch.nn.Linear(2, 1), train=lambda: data, loss=lambda m, x: m(x).mean())
    assert next(workload.batches(0)).shape == (4, 2)
    workload.close()


def test_what_a_call_raises_names_the_line(opened: Opener) -> None:
    workload = opened(
        MODEL.replace("    x = torch.randn(8, 3)", "    x = torch.randn(8, 3)\n    count()")
        + "\nleft = 3\ndef count():\n    global left\n    left -= 1\n    assert left > 0\n"
    )
    with pytest.raises(UserCodeError, match=r"model\.py:\d+ raised AssertionError"):
        for _, _batch in zip(range(5), workload.batches(0), strict=False):
            pass


@pytest.mark.parametrize(
    ("value", "yes"),
    [
        (torch.zeros(3), True),
        ({"x": torch.zeros(3)}, True),
        ({"x": [1]}, False),
        ({}, False),
        ((torch.zeros(3, 2), torch.zeros(3)), True),
        ((torch.zeros(3, 2), torch.zeros(4)), False),
        ((), False),
        ([torch.zeros(3)], False),
    ],
)
def test_what_counts_as_a_batch(value: object, yes: bool) -> None:
    assert is_batch(value) is yes


EVALUATED = (
    MODEL.replace("val_dataloader = get_batch\n", "")
    + """
METRIC = ("weight", "min")

def evaluate({parameters}):
    assert not model.training
    return {{"weight": float(model.weight.sum())}}
"""
)


def test_evaluate_with_data_of_its_own_needs_no_batches(opened: Opener) -> None:
    workload = opened(EVALUATED.format(parameters="model"))
    model = workload.start(0, 5)
    assert workload.metric_alone(model, 1.0) == pytest.approx(float(model.weight.detach().sum()))
    assert model.training


def test_a_metric_without_batches_is_refused(opened: Opener) -> None:
    with pytest.raises(WorkloadError, match="METRIC names 'weight', and there are no validation batches"):
        opened(EVALUATED.format(parameters="model, batches"))


def test_a_metric_that_is_the_loss_needs_no_batches(opened: Opener) -> None:
    workload = opened(MODEL.replace("val_dataloader = get_batch\n", 'METRIC = ("loss", "min")\n'))
    assert workload.metric_alone(workload.start(0, 5), 0.5) == 0.5
