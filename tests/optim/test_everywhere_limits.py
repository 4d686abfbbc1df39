"""AdaHessian in a process group, in the uses that go wrong unless they are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import Shard

from autoopt.optim import AdaHessian
from tests.optim import _workers as w
from tests.optim import test_everywhere_ddp as ddp
from tests.optim.test_distributed_own import shard

pytestmark = [pytest.mark.long(seconds=4), pytest.mark.xdist_group("distributed")]


def losses_on_parts_of_the_batch(folder: Path) -> None:
    """A closure that leaves the gradients to the optimizer: they are averaged all the same."""
    for kind in ("adahessian", "adahessian-lazy"):
        net = ddp.parallel()
        w.drive_by_loss(w.KINDS[kind](net), net, *ddp.mine())
        ddp.demand_trajectory(net, kind, kind)


def exact_by_loss(folder: Path) -> None:
    """The exact Hessian of a loss whose gradients the optimizer takes."""
    ddp.demand_right_or_refused(lambda opt, net: w.drive_by_loss(opt, net, *ddp.mine()))


def automatic_by_loss(folder: Path) -> None:
    """Left to choose, and not told of DDP: by differences, because gradients may be averaged."""
    net = ddp.parallel()
    opt = AdaHessian(net.parameters(), lr=1e-2, generator=torch.Generator().manual_seed(2))
    w.drive_by_loss(opt, net, *ddp.mine())
    assert "averaged" in opt.reason
    ddp.demand_trajectory(net, "adahessian", "auto")


def differences_in_half_precision(folder: Path) -> None:
    """bfloat16 passes would round the perturbation away: an error, not a step without curvature."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for told, pattern in ((True, "the model casts.*bfloat16"), (False, "needs module=")):
        net = shard(w.network(torch.float32), init_device_mesh("cpu", (2,)), mp_policy=policy)
        before = w.whole(net.parameters())
        opt = AdaHessian(net.parameters(), hessian="finite_difference", module=net if told else None)
        with w.refusal(RuntimeError, pattern):
            w.drive(opt, net, *w.data(torch.bfloat16), 1)
        w.demand_close(w.whole(net.parameters()), before, 0.0, "after the error")


def blocks(folder: Path) -> None:
    """A block that lies within the shards is as in one process; one that crosses them is an error at once."""
    mesh = init_device_mesh("cpu", (2,))
    ends = []
    for sharded in (True, False):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
        if sharded:
            shard(net, mesh)
        x, y = torch.randn(4, 6).double(), torch.randn(4, 4).double()
        generator = torch.Generator().manual_seed(2)
        opt = AdaHessian(
            net.parameters(),
            lr=1e-2,
            block=2,
            hessian="finite_difference",
            module=net,
            generator=generator,
        )
        w.drive(opt, net, x, y)
        ends.append(w.whole(net.parameters()))
    w.demand_close(*ends, 1e-8, "block 2")
    net = shard(nn.Sequential(nn.Linear(6, 8)), mesh)
    with w.refusal(ValueError, "block 8"):
        AdaHessian([net[0].bias], block=8)  # 8 elements, 4 on each process
    AdaHessian([net[0].weight], block="row")  # whole rows on each process
    across = shard(nn.Sequential(nn.Linear(6, 8)), mesh, shard_placement_fn=lambda p: Shard(p.dim() - 1))
    for block in ("row", 2):
        with w.refusal(ValueError, "crosses the shards"):
            AdaHessian([across[0].weight], block=block)
    kernels = shard(nn.Sequential(nn.Conv1d(2, 5, 4)), mesh, shard_placement_fn=lambda p: Shard(p.dim() - 1))
    with w.refusal(ValueError, "mean over a kernel crosses"):
        AdaHessian(kernels.parameters())


def losses_on_shards(folder: Path) -> None:
    """A closure that leaves the gradients to the optimizer."""
    for kind in ("adahessian", "adahessian-lazy"):
        net = shard(w.network(), init_device_mesh("cpu", (2,)))
        w.drive_by_loss(w.KINDS[kind](net), net, *w.data())
        w.demand_close(w.whole(net.parameters()), w.alone(kind), 1e-8, kind)


CHECKS: dict[int, tuple[w.Check, ...]] = {
    2: (
        losses_on_parts_of_the_batch,
        exact_by_loss,
        automatic_by_loss,
        differences_in_half_precision,
        blocks,
        losses_on_shards,
    ),
}


@pytest.mark.parametrize(("world", "check"), w.cases(CHECKS))
def test_right_or_refused(commons: Path, world: int, check: w.Check) -> None:
    w.demand_passed(commons, world, check)
