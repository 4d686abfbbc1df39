"""DistributedDataParallel: processes that each see a part of the batch take the trajectory of one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from autoopt.optim import AdaHessian
from tests.optim import _workers as w

pytestmark = [pytest.mark.long(seconds=4), pytest.mark.xdist_group("distributed")]


def mine() -> tuple[Tensor, Tensor]:
    """This process's part of the batch."""
    x, y = (t.chunk(dist.get_world_size())[dist.get_rank()] for t in w.data())
    return x, y


def parallel(**options: Any) -> DistributedDataParallel:
    return DistributedDataParallel(w.network(), **options)


def demand_trajectory(net: nn.Module, kind: str, what: str) -> None:
    ended = w.whole(net.parameters())
    w.demand_same_everywhere(ended, what)
    w.demand_close(ended, w.alone(kind), w.kind_tolerance(kind), what)


def trajectories(folder: Path) -> None:
    """Every kind."""
    for kind, make in w.KINDS.items():
        net = parallel()
        w.drive(make(net), net, *mine())
        demand_trajectory(net, kind, kind)


def ways_to_hold_gradients(folder: Path) -> None:
    """Views of DDP's buckets, and a graph that DDP takes as fixed."""
    ways: tuple[dict[str, Any], ...] = ({"gradient_as_bucket_view": True}, {"static_graph": True})
    for options in ways:
        for kind in w.FEW:
            net = parallel(**options)
            w.drive(w.KINDS[kind](net), net, *mine())
            demand_trajectory(net, kind, f"{kind} {options}")


def accumulation(folder: Path) -> None:
    """Two backward passes per step, the first without communication."""
    for views in (False, True):
        for kind in w.FEW:
            net = parallel(gradient_as_bucket_view=views)
            w.drive(w.KINDS[kind](net), net, *mine(), parts=2, waiting=net.no_sync)
            demand_trajectory(net, kind, f"{kind} {views}")


def probes(folder: Path) -> None:
    """Without a generator all processes still draw the same probes, whatever their own random state."""
    net = parallel()
    torch.manual_seed(dist.get_rank())
    opt = AdaHessian(net.parameters(), lr=1e-2, module=net)
    w.drive(opt, net, *mine())
    w.demand_same_everywhere([t for s in opt.state.values() for t in s.values()], "state")
    w.demand_same_everywhere(w.whole(net.parameters()), "parameters")


def exact_by_backward(folder: Path) -> None:
    """The exact Hessian after a backward pass with graph."""
    demand_right_or_refused(_with_graph)


def _with_graph(opt: Any, net: nn.Module) -> None:
    x, y = mine()
    for _ in range(w.STEPS):
        opt.zero_grad()
        with opt.graph_context():
            torch.autograd.backward((net(x) - y).square().mean(), create_graph=opt.create_graph)
        opt.step()


def demand_right_or_refused(drive: Callable[[Any, nn.Module], None]) -> None:
    """DDP's gradients carry no graph: an error in all processes, or the right numbers; never other ones."""
    for module in (True, False):
        net = parallel()
        opt = AdaHessian(
            net.parameters(),
            lr=1e-2,
            hessian="double_backward",
            module=net if module else None,
            generator=torch.Generator().manual_seed(2),
        )
        failed = torch.zeros(())
        try:
            drive(opt, net)
        except RuntimeError:
            failed += 1
        dist.all_reduce(failed)
        assert failed.item() in (0, dist.get_world_size()), "an error in some processes only"
        if not failed:
            ended = w.whole(net.parameters())
            w.demand_same_everywhere(ended, f"module {module}")
            # The exact product differs from the difference quotient.
            w.demand_close(ended, w.alone("adahessian"), 1e-5, f"module {module}")


CHECKS: dict[int, tuple[w.Check, ...]] = {
    2: (trajectories, ways_to_hold_gradients, accumulation, probes, exact_by_backward),
    4: (ways_to_hold_gradients,),
}


@pytest.mark.parametrize(("world", "check"), w.cases(CHECKS))
def test_data_parallel(commons: Path, world: int, check: w.Check) -> None:
    w.demand_passed(commons, world, check)
