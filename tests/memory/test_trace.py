from __future__ import annotations

import pytest
import torch
from torch import nn

from autoopt.memory import shadow
from autoopt.memory.ledger import Ledger
from autoopt.memory.trace import Trace, ValueRead


def test_a_huge_model_has_its_size_and_no_memory() -> None:
    trace = Trace(Ledger())
    with trace:
        model = nn.Sequential(nn.Linear(200_000, 200_000, bias=False), nn.Linear(200_000, 10))
    assert trace.ledger.now == 4 * sum(p.numel() for p in model.parameters())  # 160 GB


def test_reading_a_value_that_is_not_there_is_an_error_unless_it_is_assumed() -> None:
    trace = Trace(Ledger())
    with trace:
        weight = torch.empty(1000, 1000).normal_()
        with pytest.raises(ValueRead):
            float(weight.sum())
        with trace.assuming():
            assert float(weight.sum()) == 1.0
            assert int(weight.argmax()) == 1
            assert bool((weight > 0).all())


def test_values_of_the_batch_can_be_read() -> None:
    """Lengths, masks and positions come from the batch: code that depends on them takes its real way."""
    trace = Trace(Ledger())
    model = shadow.built(trace, lambda: nn.Embedding(50_000, 64))
    tokens = torch.tensor([[3, 4, 0, 0], [5, 6, 7, 0]])
    with trace:
        mask = tokens != 0
        longest = int(mask.sum(1).max())
        found = model(tokens[:, :longest])[mask[:, :longest]]
        found.sum().backward()
    assert longest == 3
    assert found.shape == (5, 64)
    assert model.weight.grad is not None
    assert model.weight.grad.shape == (50_000, 64)


def test_small_numbers_of_the_model_s_own_making_can_be_read() -> None:
    with Trace(Ledger()):
        assert [round(float(rate), 2) for rate in torch.linspace(0, 0.1, 3)] == [0.0, 0.05, 0.1]


def test_a_model_in_half_precision_can_be_built() -> None:
    trace = Trace(Ledger())
    model = shadow.built(trace, lambda: nn.Linear(1000, 1000).to(torch.bfloat16))
    assert model.weight.dtype is torch.bfloat16
    assert trace.ledger.bytes(model.parameters()) == 2 * 1001 * 1000


def test_tied_parameters_stay_tied() -> None:
    def build() -> nn.Module:
        model = nn.ModuleDict({"a": nn.Embedding(600, 600), "b": nn.Linear(600, 600, bias=False)})
        model["b"].weight = model["a"].weight
        return model

    trace = Trace(Ledger())
    model = shadow.built(trace, build)
    assert model["a"].weight is model["b"].weight
    assert trace.ledger.bytes(model.parameters()) == 4 * 600 * 600
