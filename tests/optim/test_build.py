"""Every optimizer of the table is built and lowers a loss; state is counted once; bad requests are named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autoopt.errors import OptimizerUnavailable, UsageError
from autoopt.optim import groups, registry
from autoopt.optim.build import build, state_bytes
from autoopt.optim.catalog import TABLE
from autoopt.optim.spec import Need, OptimSpec, Range


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 1))


def train(
    spec: OptimSpec, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int
) -> tuple[float, float]:
    """First and last loss of a small regression."""
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    y = x[:, :1] + 0.5 * x[:, 1:2].sin()
    if Need.TRAIN_EVAL_MODE in spec.needs:
        optimizer.train()  # type: ignore[attr-defined]
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward(create_graph=Need.SECOND_ORDER in spec.needs)
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


@pytest.mark.parametrize("spec", TABLE, ids=lambda spec: spec.name)
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")
def test_every_optimizer_of_the_table_lowers_a_loss_with_its_defaults(spec: OptimSpec) -> None:
    if reason := registry.why_unavailable(spec):
        pytest.skip(reason)
    torch.set_num_threads(1)
    model = net()
    optimizer = build(spec, groups.split(model), spec.start())
    first, last = train(spec, model, optimizer, 150)
    assert last < 0.5 * first
    parameters = sum(p.numel() for p in model.parameters()) * 4
    low, high = (
        (0.0, 0.3) if spec.name == "adafactor" else (0.9 * spec.state_tensors, 1.3 * spec.state_tensors)
    )
    assert low * parameters <= state_bytes(optimizer) <= high * parameters


def test_groups_carry_what_a_schedule_needs() -> None:
    model = net()
    user = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters(), "lr": 0.05}]
    )
    optimizer = build(registry.get("adamw"), groups.split(model, user=user), {"lr": 0.4, "weight_decay": 0.1})
    assert [(g["lr"], g["lr_scale"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (pytest.approx(0.8), 2.0, 0.1),
        (pytest.approx(0.8), 2.0, 0.0),
        (0.4, 1.0, 0.1),
        (0.4, 1.0, 0.0),
    ]


def test_hyperparameters_reach_the_constructor() -> None:
    optimizer = build(registry.get("adamw"), groups.split(net()), {"lr": 0.1, "beta2": 0.95, "eps": 1e-6})
    assert all(g["betas"] == (0.9, 0.95) and g["eps"] == 1e-6 for g in optimizer.param_groups)


@pytest.mark.parametrize(
    ("name", "hyper", "message", "hint"),
    [
        ("sgd", {"momentun": 0.9}, "sgd takes no 'momentun'", "momentum"),
        ("sgd", {"beta1": 0.9}, "sgd has no beta1", "momentum"),
        ("adamw", {"lr": -1.0}, "adamw refuses lr=-1.0", "value"),
        ("adamw", {"beta2": 1.5}, "adamw refuses .*1.5", "value"),
    ],
)
def test_a_bad_request_is_named(name: str, hyper: dict[str, float], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        build(registry.get(name), groups.split(net()), hyper)
    assert hint in caught.value.hint


def test_a_default_that_an_older_package_lacks_makes_it_unavailable() -> None:
    spec = OptimSpec("x", "X", "torch.optim:SGD", "torch", {"lr": 1, "new": 1}, {"lr": Range(0.1, 1)}, 1)
    with pytest.raises(OptimizerUnavailable, match="does not know 'new'"):
        build(spec, groups.split(net()), {})


def test_muon_without_a_hidden_matrix() -> None:
    spec = registry.get("muon")
    if reason := registry.why_unavailable(spec):
        pytest.skip(reason)
    with pytest.raises(OptimizerUnavailable, match="no hidden matrix"):
        build(spec, groups.split(nn.Linear(3, 1)), {})


def test_prodigy_with_several_rates() -> None:
    spec = registry.get("prodigy")
    if reason := registry.why_unavailable(spec):
        pytest.skip(reason)
    model = net()
    user = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters(), "lr": 0.2}]
    )
    with pytest.raises(OptimizerUnavailable, match="one learning rate"):
        build(spec, groups.split(model, user=user), {})


def test_prodigy_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    spec = registry.get("prodigy")
    if reason := registry.why_unavailable(spec):
        pytest.skip(reason)
    optimizer = build(spec, groups.split(net()), {})
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.01, 0.0}
    assert capsys.readouterr().out == ""


class Holder(torch.optim.Optimizer):
    """Keeps its state in every shape at once."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        super().__init__(params, {})
        (p,) = params
        flat = torch.zeros(100)
        self.state[p] = {
            "a": flat[:50],
            "b": flat[50:],
            "nested": [{"c": torch.zeros(10)}, (torch.zeros(5, dtype=torch.float64), None)],
            "alias": p.data,
            "step": 3,
        }
        self.inner = torch.optim.SGD(params, lr=0.1, momentum=0.9)
        self.inner.state[p]["momentum_buffer"] = torch.zeros(7)


def test_state_is_counted_once_by_storage_through_nests_and_inner_optimizers() -> None:
    assert state_bytes(Holder([nn.Parameter(torch.zeros(1000))])) == 100 * 4 + 10 * 4 + 5 * 8 + 7 * 4


def test_a_new_optimizer_has_no_state() -> None:
    assert state_bytes(torch.optim.AdamW(net().parameters())) == 0


def test_state_in_tensor_subclasses_is_what_they_are_made_of() -> None:
    from torch.testing._internal.two_tensor import TwoTensor

    parameter = nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    optimizer.state[parameter]["pair"] = TwoTensor(torch.zeros(4), torch.zeros(4))
    assert state_bytes(optimizer) == 32


def test_momentum_of_sparse_gradients_is_counted() -> None:
    table = torch.nn.Embedding(10, 4, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1, momentum=0.9)
    table(torch.tensor([1, 2])).sum().backward()
    optimizer.step()
    assert state_bytes(optimizer) == 2 * 4 * 4 + 2 * 8  # the values, and their indices
