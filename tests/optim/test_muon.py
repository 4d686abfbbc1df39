"""One optimizer that does exactly what torch's two do side by side."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from autoopt.optim import groups

if not hasattr(torch.optim, "Muon"):
    pytest.skip("this torch has no Muon", allow_module_level=True)

from autoopt.optim.muon import MuonWithAdamW


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(7, 6), nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 5), nn.Linear(5, 7)
    )


def step(model: nn.Module, optimizer: torch.optim.Optimizer, times: int = 1) -> None:
    batch = torch.arange(7)
    for _ in range(times):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), batch).backward()
        optimizer.step()


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def make(model: nn.Module, lr: float = 1e-2) -> MuonWithAdamW:
    return MuonWithAdamW(groups.as_param_groups(groups.split(model), lr, 0.1), lr=lr, weight_decay=0.1)


def test_it_steps_as_torchs_own_two_classes_do() -> None:
    ours, theirs = net(), net()
    optimizer = make(ours)
    p = dict(theirs.named_parameters())
    matrices = [p["1.weight"], p["3.weight"]]
    muon = torch.optim.Muon(matrices, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    bare = [v for k, v in p.items() if k not in ("1.weight", "3.weight", "4.weight")]
    adamw = torch.optim.AdamW(
        [{"params": [p["4.weight"]], "weight_decay": 0.1}, {"params": bare, "weight_decay": 0.0}],
        lr=1e-2,
        betas=(0.9, 0.95),
    )
    for _ in range(5):
        step(ours, optimizer)
        adamw.zero_grad()
        muon.zero_grad()
        nn.functional.cross_entropy(theirs(torch.arange(7)), torch.arange(7)).backward()
        muon.step()
        adamw.step()
    assert same(ours, theirs)


def test_state_of_matrices_is_one_tensor_and_two_for_the_rest() -> None:
    model = net()
    optimizer = make(model)
    step(model, optimizer)
    kept = {n: set(optimizer.state[p]) for n, p in model.named_parameters()}
    assert kept["1.weight"] == {"momentum_buffer"}
    assert kept["4.weight"] == kept["0.weight"] == {"step", "exp_avg", "exp_avg_sq"}


def test_a_checkpoint_goes_on_to_the_bit() -> None:
    whole, first = net(), net()
    step(whole, make(whole), times=6)
    optimizer = make(first)
    step(first, optimizer, times=3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = make(first, lr=0.5)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    step(first, resumed, times=3)
    assert same(whole, first)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_is_independent_and_goes_on_alike(how: object) -> None:
    model = net()
    optimizer = make(model)
    step(model, optimizer, times=2)
    other, theirs = how((model, optimizer))  # type: ignore[operator]
    step(other, theirs, times=2)
    assert not same(model, other)
    step(model, optimizer, times=2)
    assert same(model, other)


def test_a_scheduler_scales_both() -> None:
    model = net()
    optimizer = make(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1.0 if k < 1 else 0.0)
    step(model, optimizer)
    scheduler.step()
    before = copy.deepcopy(model)
    step(model, optimizer)
    assert same(model, before)


def test_plain_parameters_are_split_by_shape() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(4, 3))
    optimizer = MuonWithAdamW(model.named_parameters())  # type: ignore[arg-type]
    assert [(g["matrices"], [p.ndim for p in g["params"]]) for g in optimizer.param_groups] == [
        (True, [2]),
        (False, [4, 1, 1]),
    ]


def test_a_group_added_later_is_trained() -> None:
    model, late = net(), nn.Linear(7, 7)
    optimizer = make(model)
    step(model, optimizer)
    optimizer.add_param_group({"params": [late.weight], "matrices": True})
    before = late.weight.detach().clone()
    late(torch.ones(1, 7)).sum().backward()
    optimizer.step()
    assert not torch.equal(late.weight, before)
    assert optimizer.param_groups[-1]["lr"] == 1e-2


def test_a_closure_gives_its_loss() -> None:
    model = net()

    def closure() -> Tensor:
        loss: Tensor = model(torch.arange(7)).square().mean()
        loss.backward()
        return loss

    assert make(model).step(closure).item() > 0


@pytest.mark.parametrize("bad", [{"lr": -1.0}, {"betas": (2.0, 0.9)}, {"momentum": -1.0}])
def test_bad_values_are_refused_at_once(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"-1|2\.0"):
        MuonWithAdamW(net().parameters(), **bad)  # type: ignore[arg-type]


def test_a_matrix_group_with_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="2D"):
        MuonWithAdamW([{"params": [nn.Parameter(torch.ones(3))], "matrices": True}])
