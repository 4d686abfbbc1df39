"""What the processes of a group share out and refuse; groups of several real ones are in tests/trials/test_ranks.py."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from autoopt.errors import WorkloadError
from autoopt.records import Flags, Settings
from autoopt.workload.entry import load_any
from autoopt.workload.group import Group
from autoopt.workload.parallel import parallel_of
from autoopt.workload.settings import resolve


@pytest.fixture
def group() -> Iterator[Group]:
    """A group of one process: everything but the others."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield Group(torch.device("cpu"))
    finally:
        dist.destroy_process_group()


def settled(constants: dict[str, Any], **flags: Any) -> Settings:
    return resolve(
        constants,
        Flags(**flags),
        label="model.py",
        batches_per_epoch=10,
        own_schedule=False,
        samples_per_batch=lambda: 8,
    )


@pytest.mark.parametrize(
    ("constants", "flags", "accumulate"),
    [
        ({}, {"nproc": 2}, 2),
        ({"ACCUMULATE": 4}, {"nproc": 2}, 4),
        ({"ACCUMULATE": 3}, {"nproc": 2}, 6),
        ({}, {"nproc": 2, "accumulate": 6}, 6),
        ({}, {"nproc": 2, "global_batch": 32}, 4),
    ],
)
def test_a_step_s_batches_are_those_of_train_py(
    constants: dict[str, Any], flags: dict[str, Any], accumulate: int
) -> None:
    found = settled(constants, **flags)
    assert (found.accumulate, found.ranks) == (accumulate, 2)
    assert found.origins["ranks"] == "flag"


def test_one_process_shares_nothing_out() -> None:
    assert settled({}, nproc=1) == settled({})


def test_every_n_th_batch_is_a_rank_s_and_the_loader_is_closed_with_it(group: Group) -> None:
    closed = []

    def batches() -> Generator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    group.rank, group.size = 1, 3
    mine = group.share(batches())
    assert [next(mine) for _ in range(4)] == [1, 4, 7, 10]
    mine.close()
    assert closed == [True]


def test_gradients_are_those_of_the_loss_whatever_it_does_with_the_model(group: Group) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.idle = nn.Linear(3, 1), nn.Linear(2, 2)

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(x)
            return found

    net, x = Net(), torch.randn(5, 3)

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        assert isinstance(model, Net)
        return model.encode(batch).square().mean()

    group.take(net, "model.py")
    group.begin(net, loss)
    assert group.averages(net)
    group.loss(x).backward()  # type: ignore[no-untyped-call]
    assert net.inner.weight.grad is not None
    found = net.inner.weight.grad.clone()
    net.zero_grad()
    loss(net, x).backward()  # type: ignore[no-untyped-call]
    assert torch.allclose(found, net.inner.weight.grad)
    said = group.settle(net)
    assert "2 parameters get no gradient from the loss (idle.weight, idle.bias)" in said
    assert group.settle(net) == ""  # once
    with torch.no_grad():
        assert not group.averages(net)
    net.eval()
    assert not group.averages(net)


def test_a_parameter_that_is_left_out_later_is_told_with_a_way_out(group: Group) -> None:
    net = nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 1)])
    used = [0, 1]

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        assert isinstance(model, nn.ModuleList)
        return sum((model[i](batch).square().mean() for i in used), torch.zeros(()))

    x = torch.randn(5, 3)
    group.take(net, "model.py")
    group.begin(net, loss)
    group.loss(x).backward()  # type: ignore[no-untyped-call]
    assert group.settle(net) == ""
    group.begin(net, loss)
    used.pop()
    group.loss(x).backward()  # type: ignore[no-untyped-call]
    with pytest.raises(WorkloadError, match="no part in the loss of an earlier step") as caught:
        group.loss(x)
    assert "find_unused_parameters=True" in caught.value.hint
    used.append(1)
    group.begin(net, loss)  # the next trial begins anew
    group.loss(x).backward()  # type: ignore[no-untyped-call]


def test_a_loader_that_shares_out_by_itself_is_refused(group: Group) -> None:
    data = TensorDataset(torch.zeros(8, 1))
    with pytest.raises(WorkloadError, match="DistributedSampler"):
        group.check_loader(DataLoader(data, sampler=DistributedSampler(data, 2, 0)), "model.py")
    group.check_loader(DataLoader(data, shuffle=True), "model.py")


def test_a_model_half_wrapped_is_refused(group: Group) -> None:
    wrapped = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
    assert parallel_of(wrapped, "model.py") == "DistributedDataParallel"
    with pytest.raises(
        WorkloadError, match="0 is a DistributedDataParallel, and the rest of the model is not"
    ):
        parallel_of(nn.Sequential(wrapped, nn.Linear(2, 2)), "model.py")


def test_tensor_parallelism_and_unsharded_rests_are_refused(group: Group) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))
    split = nn.Linear(2, 2)
    split.weight = nn.Parameter(distribute_tensor(split.weight.detach(), mesh, [Shard(0)]))
    with pytest.raises(WorkloadError, match="tensor parallelism need the same batch"):
        parallel_of(split, "model.py")
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    fully_shard(net[0])
    with pytest.raises(WorkloadError, match=r"1.weight is not sharded while 0.weight is"):
        parallel_of(net, "model.py")
    fully_shard(net)
    assert parallel_of(net, "model.py") == "fully_shard"
    group.take(net, "model.py")
    with pytest.raises(WorkloadError, match="fp16"):
        group.begin(net, lambda _m, _b: torch.zeros(()), "fp16")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def run(make_optimizer, steps, seed, report):\n    pass\n", "a training loop of its own"),
        (
            "import lightning\nclass Net(lightning.LightningModule):\n    pass\n",
            "is a LightningModule",
        ),
    ],
)
def test_what_starts_its_processes_itself_is_refused(
    text: str, says: str, group: Group, tmp_path: Path
) -> None:
    file = tmp_path / "model.py"
    file.write_text(text)
    with pytest.raises(WorkloadError, match=says) as caught:
        load_any(str(file), (), Flags(nproc=2), "cpu", group)
    assert "--global-batch" in caught.value.hint
