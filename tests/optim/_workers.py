"""Processes of the distributed tests; in a module of their own because spawned processes import it.

A check is a function that every process calls, and that raises where something is wrong. All checks of one
world size run in one group of processes, which is started once in a test run.
"""

from __future__ import annotations

import faulthandler
import functools
import importlib
import os
import re
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from autoopt.optim import AdaHessian, Adan, SGDSaI
from tests.once import once

Check = Callable[[Path], None]
"""Gets a folder that all processes share, also those of the next world size."""

# Each has CHECKS, a dict from world size to checks. Larger worlds run later.
MODULES = (
    "test_everywhere_ddp",
    "test_distributed_own",
    "test_everywhere_checkpoint",
    "test_everywhere_limits",
)
WORLDS = (2, 4)
STEPS = 5
LIMIT = 60
"""Seconds after which a process that waits for another one gives up."""


def _hessian(net: nn.Module, **options: Any) -> AdaHessian:
    generator = torch.Generator().manual_seed(2)
    options = {"lr": 1e-2, "hessian": "finite_difference", "module": net, "generator": generator, **options}
    return AdaHessian(net.parameters(), **options)


KINDS: dict[str, Callable[[nn.Module], Any]] = {
    "adan": lambda net: Adan(net.parameters(), lr=1e-2),
    "adan-clipped": lambda net: Adan(net.parameters(), lr=1e-2, max_grad_norm=0.05, weight_decay=0.1),
    "adan-no_prox": lambda net: Adan(
        net.parameters(), lr=1e-2, no_prox=True, weight_decay=0.1, foreach=False
    ),
    "adan-capturable": lambda net: Adan(net.parameters(), lr=1e-2, capturable=True, max_grad_norm=0.05),
    "adan-halves": lambda net: Adan(net.parameters(), lr=1e-2, state_dtype=torch.bfloat16),
    "sgd_sai": lambda net: SGDSaI(net.parameters(), lr=1e-2),
    "sgd_sai-normalized": lambda net: SGDSaI(net.parameters(), lr=1e-1, normalize=True, foreach=True),
    "sgd_sai-bare": lambda net: SGDSaI(net.parameters(), lr=1e-2, momentum=0.0),
    "sgd_sai-halves": lambda net: SGDSaI(net.parameters(), lr=1e-2, state_dtype=torch.bfloat16),
    "adahessian": _hessian,
    "adahessian-lazy": lambda net: _hessian(net, update_each=2, n_samples=2),
    "adahessian-clipped": lambda net: _hessian(net, update_each=3, max_grad_norm=0.05, block="row"),
    "adahessian-auto": lambda net: _hessian(net, hessian="auto", hessian_power=0.5),
}


FEW = ("adan-clipped", "sgd_sai-normalized", "adahessian-lazy")
"""One of each optimizer, with the options that need all processes."""


def kind_tolerance(kind: str) -> float:
    """How far sums in another order may move a parameter: state in bfloat16 may round the other way."""
    return 5e-4 if kind.endswith("halves") else 1e-8


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Three layers whose dimensions two and four processes do not divide; the last bias has one element."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(2, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(20, 7), nn.Tanh(), nn.Linear(7, 1)
    )
    return net.to(dtype)


def data(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 2, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(8, 1, generator=generator, dtype=torch.float64)
    return x.to(dtype), y.to(dtype)


def drive(
    opt: Any,
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    steps: int = STEPS,
    *,
    parts: int = 1,
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Takes steps on the whole of (x, y), in `parts` backward passes; all but the last one within `waiting`."""

    def closure() -> Tensor:
        opt.zero_grad()
        total = torch.zeros(())
        pieces = list(zip(x.chunk(parts), y.chunk(parts), strict=True))
        for i, (inputs, targets) in enumerate(pieces):
            with waiting() if i + 1 < parts else nullcontext():
                loss = (net(inputs) - targets).square().mean() / parts
                torch.autograd.backward(loss)
            total = total + loss.detach()
        return total

    for _ in range(steps):
        opt.step(closure)


def drive_by_loss(opt: Any, net: nn.Module, x: Tensor, y: Tensor) -> None:
    """Takes steps with a closure that leaves the gradients to the optimizer."""
    for _ in range(STEPS):
        opt.step(lambda: (net(x) - y).square().mean())


def whole(tensors: Any) -> list[Tensor]:
    """Copies of tensors, gathered where they are sharded."""
    return [(t.full_tensor() if isinstance(t, DTensor) else t).detach().clone() for t in tensors]


@functools.cache
def alone(kind: str, dtype: torch.dtype = torch.float64, steps: int = STEPS) -> list[Tensor]:
    """The parameters that a single process ends with."""
    net = network(dtype)
    drive(KINDS[kind](net), net, *data(dtype), steps)
    return whole(net.parameters())


def demand_close(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float, what: str) -> None:
    """Raises AssertionError where parameters differ by more than a tolerance (0: to the bit)."""
    for i, (p, q) in enumerate(zip(found, expected, strict=True)):
        worst = (p - q).abs().max().item()
        assert worst <= tolerance, f"{what}: parameter {i} is off by {worst:.3g}"  # also where it is NaN


def demand_same_everywhere(tensors: Sequence[Tensor], what: str) -> None:
    """Raises AssertionError where processes hold different bits."""
    flat = torch.cat([t.double().flatten() for t in tensors])
    first = flat.clone()
    dist.broadcast(first, 0)
    assert torch.equal(flat, first), f"{what}: the processes have different parameters"


@contextmanager
def refusal(kind: type[Exception], pattern: str) -> Iterator[None]:
    """Raises AssertionError unless the context ends with such an error.

    pytest's own raises something that is no Exception, which would end the process.
    """
    found = None
    try:
        yield
    except kind as error:
        found = str(error)
    assert found is not None, f"no {kind.__name__}"
    assert re.search(pattern, found), f"another error: {found}"


def _enter(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet{world}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=LIMIT),
    )
    outcomes: dict[str, str] = {}
    try:
        for module in MODULES:
            for check in importlib.import_module(f"tests.optim.{module}").CHECKS.get(world, ()):
                error = ""
                faulthandler.dump_traceback_later(3 * LIMIT, exit=True)  # some waits have no limit
                try:
                    check(Path(folder))
                except Exception:
                    error = traceback.format_exc()
                faulthandler.cancel_dump_traceback_later()
                errors: list[str] = [""] * world
                dist.all_gather_object(errors, error)
                outcomes[_name(world, check)] = "\n".join(f"rank {i}: {e}" for i, e in enumerate(errors) if e)
                if rank == 0:
                    torch.save(outcomes, Path(folder) / f"outcomes{world}.pt")
    finally:
        dist.destroy_process_group()


def _name(world: int, check: Check) -> str:
    return f"{check.__module__}.{check.__name__}-{world}"


def _outcomes() -> dict[str, str]:
    """What every check ended with: nothing, or the errors."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for world in WORLDS:
            # Where a process died, the checks that have no outcome fail.
            with suppress(ProcessExitedException, ProcessRaisedException):
                start_processes(_enter, args=(world, folder), nprocs=world, start_method="spawn")  # type: ignore[no-untyped-call]
            outcomes = Path(folder) / f"outcomes{world}.pt"
            found.update(torch.load(outcomes) if outcomes.exists() else {})
    return found


def cases(checks: dict[int, tuple[Check, ...]]) -> list[Any]:
    """All checks of a module, as pytest's parameters (world, check)."""
    return [
        pytest.param(world, check, id=f"{check.__name__}-{world}")
        for world in checks
        for check in checks[world]
    ]


def demand_passed(commons: Path, world: int, check: Check) -> None:
    """Raises AssertionError where a check did not pass in all of `world` processes."""
    error = once(commons, "distributed", _outcomes).get(
        _name(world, check), "it, or a check before it, ended the processes"
    )
    assert not error, error
