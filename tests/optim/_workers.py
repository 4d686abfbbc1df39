"""Processes of a distributed test; in a module of their own because spawned processes import it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import start_processes

from autoopt.optim import AdaHessian, Adan, SGDSaI

WORLD = 2
STEPS = 6
KINDS = ("adan", "sgd_sai", "adahessian")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3)).double()


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 6, generator=generator), torch.randn(8, 3, generator=generator)
    return x.double(), y.double()


def optimizer(kind: str, net: nn.Module) -> Any:
    if kind == "adan":
        return Adan(net.parameters(), lr=1e-2, max_grad_norm=0.1)
    if kind == "sgd_sai":
        return SGDSaI(net.parameters(), lr=1e-2, normalize=True)
    return AdaHessian(net.parameters(), lr=1e-2, module=net, generator=torch.Generator().manual_seed(2))


def train(kind: str, net: nn.Module, x: Tensor, y: Tensor) -> Any:
    opt = optimizer(kind, net)

    def closure() -> Tensor:
        opt.zero_grad()
        loss: Tensor = (net(x) - y).square().mean()
        torch.autograd.backward(loss)
        return loss

    for _ in range(STEPS):
        opt.step(closure)
    return opt


def run_ddp(rank: int, folder: str) -> None:
    x, y = (t.chunk(WORLD)[rank] for t in data())
    for kind in KINDS:
        net = nn.parallel.DistributedDataParallel(network())
        train(kind, net, x, y)
        if rank == 0:
            torch.save([p.detach() for p in net.parameters()], Path(folder) / f"ddp-{kind}.pt")


def run_fsdp(rank: int, folder: str) -> None:
    x, y = data()
    mesh = init_device_mesh("cpu", (WORLD,))
    for kind in KINDS:
        net = network()
        fully_shard(net, mesh=mesh)
        opt = train(kind, net, x, y)
        whole = [p.full_tensor() if isinstance(p, DTensor) else p for p in net.parameters()]
        sharded = [
            isinstance(t, DTensor) for s in opt.state.values() for t in s.values() if getattr(t, "ndim", 0)
        ]
        if rank == 0:
            torch.save([p.detach() for p in whole], Path(folder) / f"fsdp2-{kind}.pt")
            assert sharded
            assert all(sharded)


def _enter(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    try:
        run_ddp(rank, folder)
        run_fsdp(rank, folder)
    finally:
        dist.destroy_process_group()


def together() -> dict[tuple[str, str], list[Tensor]]:
    """Runs every kind under DDP and FSDP2 in WORLD processes; returns the parameters they ended with."""
    with tempfile.TemporaryDirectory() as folder:
        start_processes(_enter, args=(folder,), nprocs=WORLD, start_method="spawn")  # type: ignore[no-untyped-call]
        ways = [(way, kind) for way in ("ddp", "fsdp2") for kind in KINDS]
        return {(way, kind): torch.load(Path(folder) / f"{way}-{kind}.pt") for way, kind in ways}
