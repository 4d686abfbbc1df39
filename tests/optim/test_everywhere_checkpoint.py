"""torch.distributed.checkpoint: a run goes on where it was saved, in a group of the same or another size."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh

from autoopt.optim import AdaHessian
from tests.optim import _workers as w
from tests.optim.test_distributed_own import shard

pytestmark = [pytest.mark.long(seconds=4), pytest.mark.xdist_group("distributed")]

BEFORE, AFTER = 3, 3  # the lazy AdaHessian is saved between two refreshes
OPTIONS = {
    "plain": StateDictOptions(),
    "flat": StateDictOptions(flatten_optimizer_state_dict=True),
    "full": StateDictOptions(full_state_dict=True, cpu_offload=True),
}
RESHARDED = ("plain", "flat")
"""What goes through files."""


KINDS = (
    "adan-clipped",
    "adan-capturable",
    "adan-halves",
    "sgd_sai",
    "sgd_sai-bare",
    "adahessian",
    "adahessian-lazy",
)


def _sharded(net: nn.Sequential) -> nn.Sequential:
    return shard(net, init_device_mesh("cpu", (dist.get_world_size(),)))


@functools.cache
def _saved(kind: str) -> tuple[nn.Sequential, Any]:
    """A run at the moment of saving."""
    net = _sharded(w.network())
    opt = w.KINDS[kind](net)
    w.drive(opt, net, *w.data(), BEFORE)
    return net, opt


@functools.cache
def _uninterrupted(kind: str) -> list[Tensor]:
    net = _sharded(w.network())
    w.drive(w.KINDS[kind](net), net, *w.data(), BEFORE + AFTER)
    return w.whole(net.parameters())


def _fresh(kind: str, *, sharded: bool = True) -> tuple[nn.Sequential, Any]:
    """Another start: other weights, other probes, no state."""
    net = w.network()
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(0.1)
    if sharded:
        _sharded(net)
    opt = w.KINDS[kind](net)
    if isinstance(opt, AdaHessian):
        opt.generator = torch.Generator().manual_seed(9)
    return net, opt


class _Errors:
    """Goes on after a kind that fails, and raises at the end."""

    def __init__(self) -> None:
        self._found: list[str] = []

    @contextlib.contextmanager
    def of(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._found.append(f"{what}: {type(error).__name__}: {error}")

    def demand_none(self) -> None:
        assert not self._found, "\n".join(self._found)


def _demand_rest(net: nn.Module, opt: Any, expected: list[Tensor], tolerance: float) -> None:
    w.drive(opt, net, *w.data(), AFTER)
    w.demand_close(w.whole(net.parameters()), expected, tolerance, "the rest of the run")


def state_dicts(folder: Path) -> None:
    """`get_state_dict` and `set_state_dict` in memory, in all their forms: the same bits."""
    errors = _Errors()
    for kind in KINDS:
        for name, options in OPTIONS.items():
            if kind == "sgd_sai-bare" and options.full_state_dict:
                continue  # torch asks for at least one state tensor that is no scalar
            with errors.of(f"{kind}, {name}"):
                model, optimizer = get_state_dict(*_saved(kind), options=options)
                held: list[Any] = [(model, optimizer)]
                if options.full_state_dict:
                    dist.broadcast_object_list(held)  # only the first process has all of it
                model, optimizer = copy.deepcopy(held[0])
                net, opt = _fresh(kind)
                set_state_dict(net, opt, model_state_dict=model, optim_state_dict=optimizer, options=options)
                _demand_rest(net, opt, _uninterrupted(kind), 0.0)
    errors.demand_none()


def _states(runs: dict[str, tuple[nn.Sequential, Any]], name: str) -> dict[str, Any]:
    states = {}
    for kind, (net, opt) in runs.items():
        model, optimizer = get_state_dict(net, opt, options=OPTIONS[name])
        states[kind] = {"model": model, "optim": optimizer}
    return states


def _read(file: Path, name: str, expected: Callable[[str], list[Tensor]], *, alone: bool = False) -> None:
    """Reads all kinds into fresh runs, which must go on as expected: to the bit where the group is the same."""
    runs = {kind: _fresh(kind, sharded=not alone) for kind in KINDS}
    states = _states(runs, name)
    dcp.load(states, checkpoint_id=file, no_dist=alone)
    errors = _Errors()
    for kind, (net, opt) in runs.items():
        same = expected is _uninterrupted
        with errors.of(f"{kind}, {name}"):
            model, optimizer = states[kind]["model"], states[kind]["optim"]
            set_state_dict(
                net, opt, model_state_dict=model, optim_state_dict=optimizer, options=OPTIONS[name]
            )
            _demand_rest(net, opt, expected(kind), 0.0 if same else w.kind_tolerance(kind))
    errors.demand_none()


def _in_one_process(kind: str) -> list[Tensor]:
    return w.alone(kind, steps=BEFORE + AFTER)


def files(folder: Path) -> None:
    """Saved by every process, read by every process: the same bits."""
    for name in RESHARDED:
        dcp.save(_states({kind: _saved(kind) for kind in KINDS}, name), checkpoint_id=folder / name)
        _read(folder / name, name, _uninterrupted)


def one_process_reads(folder: Path) -> None:
    """What two processes saved is read by one, without a process group's help."""
    for name in RESHARDED:
        _read(folder / name, name, _in_one_process, alone=True)


def four_processes_read(folder: Path) -> None:
    """What two processes saved is read by four."""
    for name in RESHARDED:
        _read(folder / name, name, _in_one_process)


def raw_files(folder: Path) -> None:
    """The optimizer's own state dict; a run that has taken a step has the tensors to read into."""
    saved = {kind: _raw(*_saved(kind)) for kind in KINDS}
    dcp.save(saved, checkpoint_id=folder / "raw")
    runs = {kind: _fresh(kind) for kind in KINDS}
    for net, opt in runs.values():
        w.drive(opt, net, *w.data(), 1)
    states = {kind: _raw(*run) for kind, run in runs.items()}
    dcp.load(states, checkpoint_id=folder / "raw")
    errors = _Errors()
    for kind, (net, opt) in runs.items():
        with errors.of(kind):
            net.load_state_dict(states[kind]["model"])
            opt.load_state_dict(states[kind]["optim"])
            _demand_rest(net, opt, _uninterrupted(kind), 0.0)
    errors.demand_none()


def _raw(net: nn.Module, opt: Any) -> dict[str, Any]:
    return {"model": net.state_dict(), "optim": opt.state_dict()}


def probes(folder: Path) -> None:
    """The generator that a group shares by itself goes on; before any step nothing is moved by saving."""
    (x, y), ends = w.data(), []
    for interrupted in (False, True):
        torch.manual_seed(3)
        net = _sharded(w.network())
        opt = AdaHessian(net.parameters(), lr=torch.tensor(1e-2), module=net, update_each=2)
        if interrupted:
            get_state_dict(net, opt)
        w.drive(opt, net, x, y, BEFORE)
        if interrupted:
            model, optimizer = copy.deepcopy(get_state_dict(net, opt))
            torch.manual_seed(4 + dist.get_rank())
            net = _sharded(w.network())
            opt = AdaHessian(net.parameters(), lr=torch.tensor(1e-2), module=net, update_each=2)
            set_state_dict(net, opt, model_state_dict=model, optim_state_dict=optimizer)
        w.drive(opt, net, x, y, AFTER)
        ends.append(w.whole(net.parameters()))
    w.demand_close(*ends, 0.0, "interrupted")


CHECKS: dict[int, tuple[w.Check, ...]] = {
    2: (state_dicts, files, raw_files, one_process_reads, probes),
    4: (four_processes_read,),
}


@pytest.mark.parametrize(("world", "check"), w.cases(CHECKS))
def test_a_run_goes_on(commons: Path, world: int, check: w.Check) -> None:
    w.demand_passed(commons, world, check)
