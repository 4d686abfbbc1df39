"""Objects of this process come back as they were."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from autoopt.errors import WorkloadError
from autoopt.workload import from_callables
from autoopt.workload.data import digest


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.head = nn.Linear(4, 1)
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def forward(self, x):
        return self.head(self.body(x)) * self.scale


def _loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()


def _loader(generator: torch.Generator | None = None) -> DataLoader:
    x = torch.arange(90.0).reshape(30, 3) / 90
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 5, shuffle=True, generator=generator)


def _state(model: nn.Module, generator: torch.Generator) -> str:
    hooks = [sorted(map(repr, vars(m)["_forward_hooks"].values())) for m in model.modules()]
    numpy = np.random.get_state()
    return digest(
        [
            dict(model.named_parameters()),
            dict(model.named_buffers()),
            [p.grad for p in model.parameters()],
            [p.requires_grad for p in model.parameters()],
            [m.training for m in model.modules()],
            [str(h) for h in hooks],
            torch.get_rng_state(),
            generator.get_state(),
            [np.asarray(numpy[1]), str(numpy[2:]), str(random.getstate())],
        ]
    )


def test_the_users_model_loader_and_generators_come_back():
    model, generator = Net(), torch.Generator().manual_seed(4)
    model.body[0].weight.requires_grad_(False)
    model.body[1].eval()
    model.head.register_forward_hook(lambda *_: None)
    model.head(torch.ones(1, 4)).sum().backward()
    grad = model.head.weight.grad
    loader = _loader(generator)
    before = _state(model, generator)
    workload = from_callables(model=model, train=loader, loss=_loss)
    report = workload.report(quick=True)
    live = workload.start(3, 5)
    assert live is model
    optimizer = torch.optim.SGD(live.parameters(), lr=0.1)
    batches = workload.batches(3)
    for _ in range(3):
        optimizer.zero_grad()
        workload.loss(live, next(batches)).backward()
        optimizer.step()
    live.head.register_forward_hook(lambda *_: None)
    workload.evaluate(live)
    assert _state(model, generator) != before
    workload.close()
    assert _state(model, generator) == before
    assert model.head.weight.grad is grad
    assert (report.kind, report.validation) == ("callables", "held_out")


def test_an_instance_has_one_set_of_initial_weights():
    workload = from_callables(model=Net(), train=_loader(), loss=_loss)
    first = digest(dict(workload.start(0, 2).named_parameters()))
    assert digest(dict(workload.start(1, 2).named_parameters())) == first
    assert any("same weights" in note for note in workload.notes)
    workload.close()


def test_a_function_builds_for_each_seed_and_closures_work():
    factor = 2.0
    batches = [(torch.rand(4, 3), torch.rand(4, 1)) for _ in range(20)]
    workload = from_callables(
        model=Net,
        train=batches,
        loss=lambda model, batch: factor * _loss(model, batch),
        configure_optimizers=lambda model: torch.optim.SGD(model.parameters(), lr=0.5),
        evaluate=lambda model, held: float(len(held)),
        metric=("count", "max"),
    )
    first = digest(dict(workload.start(0, 2).named_parameters()))
    assert digest(dict(workload.start(1, 2).named_parameters())) != first
    assert workload.baseline(workload.model).hyper["lr"] == 0.5
    assert workload.evaluate(workload.model).metric == 2.0
    workload.close()


def test_what_is_no_model_and_what_is_no_data():
    with pytest.raises(WorkloadError, match="model is a str"):
        from_callables(model="net", train=_loader(), loss=_loss)
    with pytest.raises(WorkloadError, match="read only once"):
        from_callables(model=Net(), train=iter(_loader()), loss=_loss)
