from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from autoopt.errors import OptimizerUnavailable
from autoopt.memory import shadow, steps
from autoopt.memory.ledger import Ledger
from autoopt.memory.trace import Trace
from autoopt.optim import build, groups, registry


class Mixed(nn.Module):
    """Two precisions, a frozen layer, tied weights, zeros, and a parameter that gets no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(300, 48)
        self.body = nn.Sequential(nn.Linear(48, 64), nn.LayerNorm(64), nn.Linear(64, 48)).to(torch.float32)
        self.low = nn.Linear(48, 48).to(torch.bfloat16)
        self.frozen = nn.Linear(48, 48).requires_grad_(False)
        self.head = nn.Linear(48, 300, bias=False)
        self.head.weight = self.tokens.weight
        self.idle = nn.Parameter(torch.ones(7))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.frozen(self.body(self.tokens(tokens)))
        return self.head(self.low(x.to(torch.bfloat16)).float())


def loss(model: nn.Module) -> torch.Tensor:
    return model(torch.arange(12).view(3, 4)).square().mean()


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_predicted_state_is_what_a_real_step_allocates(name: str, kind: str) -> None:
    torch.manual_seed(0)
    spec = registry.get(name)
    if missing := registry.why_unavailable(spec):
        pytest.skip(missing)
    real = Mixed()
    trace = Trace(Ledger())
    model = shadow.built(trace, Mixed)
    assert predicted(trace, model, name, kind) == allocated(real, name)


@pytest.mark.parametrize(
    "name", [n for n in registry.names() if n not in ("adafactor", "prodigy", "adahessian")]
)
def test_state_of_sharded_parameters_is_that_of_one_shard(name: str, mesh: DeviceMesh) -> None:
    """Adafactor and Prodigy refuse shards themselves."""

    def build_sharded() -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.LayerNorm(128), nn.Linear(128, 8))
        fully_shard(model, mesh=mesh)
        return model

    def sizes(model: nn.Module, take: Callable[[torch.optim.Optimizer], int]) -> int:
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer = build.build(registry.get(name), groups.split(model), {})
        return take(optimizer)

    def really(optimizer: torch.optim.Optimizer) -> int:
        change = getattr(optimizer, "train", None)
        if callable(change):
            change()
        optimizer.step()
        return build.state_bytes(optimizer)

    real = sizes(build_sharded(), really)
    trace = Trace(Ledger())
    model = shadow.shadowed(trace, build_sharded())
    with trace:
        assert sizes(model, lambda o: steps.step(trace, model, o, "cpu").state) == real
    whole = 4 * sum(p.numel() for p in model.parameters()) * registry.get(name).state_tensors
    assert real < 0.5 * whole


def test_what_a_step_adds_for_a_moment_is_counted_apart() -> None:
    trace = Trace(Ledger())
    model = shadow.built(trace, lambda: nn.Linear(1000, 1000, bias=False))
    with trace:
        model.weight.grad = torch.empty_like(model.weight)
        optimizer = torch.optim.AdamW(model.parameters())
    found = steps.step(trace, model, optimizer, "cuda")
    assert found.state == 2 * 4_000_000 + 4
    assert found.temporary == 4_000_000  # the foreach way's square root, a tensor like the weight


def predicted(trace: Trace, model: nn.Module, name: str, kind: str) -> int:
    optimizer = build.build(registry.get(name), groups.split(model), {})
    if name == "adahessian":
        return steps.whole_step(trace, model, optimizer, kind, lambda: loss(model))[0].state  # type: ignore[arg-type]
    with trace:
        loss(model).backward()  # type: ignore[no-untyped-call]
    return steps.step(trace, model, optimizer, kind).state


def allocated(model: nn.Module, name: str) -> int:
    optimizer = build.build(registry.get(name), groups.split(model), {})
    change = getattr(optimizer, "train", None)
    if callable(change):
        change()
    if name == "adahessian":
        optimizer.step(lambda: loss(model))
    else:
        loss(model).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    gc.collect()
    return build.state_bytes(optimizer)


@pytest.fixture
def mesh() -> DeviceMesh:
    """Four ranks of which this process is one: nothing is sent."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    try:
        yield init_device_mesh("cpu", (4,))
    finally:
        dist.destroy_process_group()


def test_an_optimizer_with_nothing_to_do_says_so() -> None:
    trace = Trace(Ledger())
    model = shadow.built(trace, lambda: nn.Conv2d(3, 8, 3))
    with pytest.raises(OptimizerUnavailable):
        build.build(registry.get("muon"), groups.split(model), {})
