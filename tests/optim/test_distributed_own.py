"""FSDP2: sharded parameters and state take the trajectory of one process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from autoopt.optim import AdaHessian, Adan, SGDSaI
from tests.optim import _workers as w

pytestmark = [pytest.mark.long(seconds=4), pytest.mark.xdist_group("distributed")]


def shard(net: nn.Sequential, mesh: DeviceMesh, **options: Any) -> nn.Sequential:
    """Each layer with parameters by itself, and the root: as a user would."""
    for layer in net:
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mesh=mesh, **options)
    fully_shard(net, mesh=mesh, **options)
    return net


def _trajectories(mesh: DeviceMesh, kinds: Iterable[str]) -> None:
    for kind in kinds:
        net = shard(w.network(), mesh)
        w.drive(w.KINDS[kind](net), net, *w.data())
        w.demand_close(w.whole(net.parameters()), w.alone(kind), w.kind_tolerance(kind), kind)


def one_dimension(folder: Path) -> None:
    """Every kind, with shards of unequal sizes, some of them empty."""
    _trajectories(init_device_mesh("cpu", (2,)), w.KINDS)


def more_processes_than_rows(folder: Path) -> None:
    """Four processes: some have no part of the smaller tensors."""
    _trajectories(init_device_mesh("cpu", (4,)), w.FEW)


def copies_of_shards(folder: Path) -> None:
    """A mesh of two dimensions: two copies, each in two shards."""
    _trajectories(init_device_mesh("cpu", (2, 2), mesh_dim_names=("copy", "shard")), w.FEW)


def single_precision(folder: Path) -> None:
    """float32 takes torch's fused kernels, or our compiled ones, on the local shards."""
    mesh = init_device_mesh("cpu", (2,))
    kinds: dict[str, Any] = {
        "adan": lambda net, **o: Adan(net.parameters(), lr=1e-2, max_grad_norm=0.05, weight_decay=0.1, **o),
        "sgd_sai": lambda net, **o: SGDSaI(net.parameters(), lr=1e-2, normalize=True, **o),
        "adahessian": lambda net: w.KINDS["adahessian-clipped"](net),
    }
    for kind, make in kinds.items():
        for options in ({},) if kind == "adahessian" else ({}, {"fused": True}):
            plain = w.network(torch.float32)
            w.drive(make(plain, **options), plain, *w.data(torch.float32))
            net = shard(w.network(torch.float32), mesh)
            w.drive(make(net, **options), net, *w.data(torch.float32))
            # A difference quotient divides the rounding of the gradients by e.
            tolerance = 2e-3 if kind == "adahessian" else 2e-6
            w.demand_close(
                w.whole(net.parameters()), w.whole(plain.parameters()), tolerance, f"{kind} {options}"
            )


def state_in_shards(folder: Path) -> None:
    """All large state is sharded; together the processes hold it once, each about its share."""
    mesh = init_device_mesh("cpu", (2,))
    for kind, make in w.KINDS.items():
        torch.manual_seed(0)
        net, full = (
            nn.Sequential(nn.Linear(65, 64), nn.Tanh(), nn.Linear(64, 31)).double() for _ in range(2)
        )
        shard(net, mesh)
        x, y = torch.randn(4, 65).double(), torch.randn(4, 31).double()
        sizes = []
        for model in (net, full):
            opt = make(model)
            w.drive(opt, model, x, y, 1)
            tensors = [t for state in opt.state.values() for t in state.values() if getattr(t, "ndim", 0)]
            assert all(isinstance(t, DTensor) == (model is net) for t in tensors), kind
            sizes.append(sum(_bytes(t) for t in tensors))
        held = torch.tensor(sizes[0])
        dist.all_reduce(held)
        assert held.item() == sizes[1], f"{kind}: {held.item()} bytes together instead of {sizes[1]}"
        assert sizes[0] <= 0.53 * sizes[1], f"{kind}: one process holds {sizes[0]} of {sizes[1]} bytes"


def _bytes(t: Tensor) -> int:
    t = t.to_local() if isinstance(t, DTensor) else t
    return t.numel() * t.element_size()


def mixed_precision(folder: Path) -> None:
    """Parameters that are float32 in the optimizer and bfloat16 in the passes, as a loop by hand does it."""
    mesh = init_device_mesh("cpu", (2,))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    x, y = w.data(torch.bfloat16)
    for kind in ("adan-clipped", "sgd_sai-normalized", "sgd_sai"):
        net = shard(w.network(torch.float32), mesh, mp_policy=policy)
        w.drive(w.KINDS[kind](net), net, x, y)
        master, low = w.network(torch.float32), w.network(torch.bfloat16)
        opt = w.KINDS[kind](master)
        for _ in range(w.STEPS):
            with torch.no_grad():
                for p, q in zip(master.parameters(), low.parameters(), strict=True):
                    q.copy_(p)
            grads = torch.autograd.grad((low(x) - y).square().mean(), list(low.parameters()))
            for p, g in zip(master.parameters(), grads, strict=True):
                p.grad = g.float()
            opt.step()
        w.demand_close(w.whole(net.parameters()), w.whole(master.parameters()), 1e-5, kind)


def automatic_choice(folder: Path) -> None:
    """Sharded parameters are taken by differences without being asked."""
    net = shard(w.network(), init_device_mesh("cpu", (2,)))
    opt = AdaHessian(net.parameters())
    assert not opt.create_graph
    assert "shard" in opt.reason


def exact_is_refused(folder: Path) -> None:
    """Where the exact Hessian is asked for, sharded parameters are an error."""
    net = shard(w.network(), init_device_mesh("cpu", (2,)))
    opt, (x, y) = w.KINDS["adahessian"](net), w.data()
    opt = AdaHessian(net.parameters(), hessian="double_backward", generator=opt.generator)
    with w.refusal(RuntimeError, "finite_difference"):
        w.drive(opt, net, x, y, 1)


CHECKS: dict[int, tuple[w.Check, ...]] = {
    2: (
        one_dimension,
        single_precision,
        state_in_shards,
        mixed_precision,
        automatic_choice,
        exact_is_refused,
    ),
    4: (more_processes_than_rows, copies_of_shards),
}


@pytest.mark.parametrize(("world", "check"), w.cases(CHECKS))
def test_sharded(commons: Path, world: int, check: w.Check) -> None:
    w.demand_passed(commons, world, check)
