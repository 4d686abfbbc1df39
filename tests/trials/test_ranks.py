"""Several processes that train one model: real ranks under torch's launcher, by way of the pool."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from autoopt.errors import WorkloadError
from autoopt.records import BASELINE, Flags, Outcome, TrialResult, TrialSpec
from autoopt.trials.execute import execute
from autoopt.trials.pool import Pool
from autoopt.trials.testing import spec
from autoopt.workload import load
from tests.report.test_train_script_gradients import MODEL as COMPLEX_AND_SPARSE
from tests.trials.conftest import until

MODEL = """
import os, time
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
{imports}

STEPS = 40

def build_model():
    model = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
    {build}
    return model

def _data(seed, n):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long())

def train_dataloader():
    return DataLoader(_data(0, 88), batch_size=8, shuffle=True)

def val_dataloader():
    return DataLoader(_data(1, 52), batch_size=8)

def loss(model, batch, ctx):
    assert ctx.world_size == int(os.environ.get("WORLD_SIZE", "1"))
    here = Path(__file__).parent
    if model.training and ctx.step == 3 and (here / f"raise-{{ctx.rank}}").exists():
        raise ValueError("no such word")
    if model.training and ctx.step == 3 and (here / f"kill-{{ctx.rank}}").exists():
        os.kill(os.getpid(), 9)
    if model.training and ctx.step == 3 and (here / f"hang-{{ctx.rank}}").exists():
        time.sleep(1000)
    if model.training and ctx.rank == 1 and (here / "slow").exists():
        time.sleep(0.02)
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)
"""
FSDP = {
    "imports": "from torch.distributed.fsdp import fully_shard",
    "build": (
        "import torch.distributed as dist\n"
        "    if dist.is_initialized():\n"
        "        fully_shard(model[3])\n"
        "        fully_shard(model)"
    ),
}
pytestmark = pytest.mark.long


def write(folder: Path, imports: str = "", build: str = "") -> Path:
    path = folder / "model.py"
    path.write_text(MODEL.format(imports=imports, build=build))
    return path


def pool_of(target: Path, **options: object) -> Pool:
    given: dict[str, object] = {"log_dir": target.parent, "flags": Flags(nproc=2), "workers": 1, **options}
    return Pool(str(target), ranks=2, threads=1, **given)  # type: ignore[arg-type]


def slot_of(pool: Pool) -> int:
    """The slot, waited for: another group takes its time to start on a busy machine."""
    until(lambda: pool.idle() or pool.wait(0.05), seconds=120)
    return pool.idle()[0]


def result_of(pool: Pool, given: TrialSpec) -> TrialResult:
    pool.submit(slot_of(pool), given)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for item in pool.wait(0.2):
            if isinstance(item, TrialResult):
                return item
    raise AssertionError("no result")


def alone(target: Path, optimizer: str, steps: int, lr: float = 1e-2) -> TrialResult:
    """The same trial in one process, which takes the batches of both."""
    workload = load(str(target), (), Flags(accumulate=2))
    try:
        *_, result = execute(workload, spec(1, optimizer, lr=lr, steps=steps))
    finally:
        workload.close()
    assert isinstance(result, TrialResult)
    return result


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Pool]:
    with pool_of(write(tmp_path)) as pool:
        pool.start()
        yield pool


def test_two_ranks_are_one_process_with_twice_the_batches(ranks: Pool, tmp_path: Path) -> None:
    for optimizer in ("adamw", "sgd_sai", "muon"):
        together = result_of(ranks, spec(1, optimizer, steps=30))
        assert together.outcome is Outcome.COMPLETED, together.message
        single = alone(tmp_path / "model.py", optimizer, 30)
        assert together.loss == pytest.approx(single.loss, rel=1e-4), optimizer
        assert [loss for _, loss in together.curve] == pytest.approx(
            [loss for _, loss in single.curve], rel=1e-3
        )
    assert together.ranks is not None
    assert len(together.ranks.step_seconds) == 2
    assert together.peak_bytes == max(size or 0 for size in together.ranks.peak_bytes)
    # Throughput counts the samples of both.
    assert together.samples_per_second is not None
    assert together.step_seconds is not None
    assert together.samples_per_second < 16 / together.step_seconds


def test_complex_and_sparse_gradients_are_averaged_too(tmp_path: Path) -> None:
    target = tmp_path / "model.py"
    target.write_text(COMPLEX_AND_SPARSE)
    with pool_of(target) as pool:
        pool.start()
        together = result_of(pool, spec(1, BASELINE, lr=0.5, steps=30))
    assert together.outcome is Outcome.COMPLETED, together.message
    single = alone(target, BASELINE, 30, lr=0.5)
    assert together.loss == pytest.approx(single.loss, rel=1e-4)
    assert [loss for _, loss in together.curve] == pytest.approx([loss for _, loss in single.curve], rel=1e-3)


def test_the_slowest_rank_is_told(ranks: Pool, tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    result = result_of(ranks, spec(1, "adamw", steps=20))
    assert result.ranks is not None
    assert result.step_seconds == max(seconds or 0 for seconds in result.ranks.step_seconds)
    assert result.step_seconds > 0.02


def test_an_exception_in_one_rank_is_the_trial_s_and_another_group_goes_on(
    ranks: Pool, tmp_path: Path
) -> None:
    (tmp_path / "raise-1").touch()
    slot_of(ranks)
    begin = time.monotonic()
    result = result_of(ranks, spec(1, "adamw", steps=20))
    assert time.monotonic() - begin < 15
    assert result.outcome is Outcome.ERROR
    assert result.message.startswith("rank 1: loss() in model.py:")
    assert "ValueError: no such word" in result.message
    (tmp_path / "raise-1").unlink()
    assert result_of(ranks, spec(2, "adamw", steps=20)).outcome is Outcome.COMPLETED


def test_an_exception_in_all_ranks_leaves_the_group_as_it_is(ranks: Pool, tmp_path: Path) -> None:
    before = set(_ranks())
    for name in ("raise-0", "raise-1"):
        (tmp_path / name).touch()
    result = result_of(ranks, spec(1, "adamw", steps=20))
    assert result.message.startswith("loss() in model.py:")
    for name in ("raise-0", "raise-1"):
        (tmp_path / name).unlink()
    assert result_of(ranks, spec(2, "adamw", steps=20)).outcome is Outcome.COMPLETED
    assert set(_ranks()) == before


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_takes_the_others_along_and_nothing_hangs(
    rank: int, ranks: Pool, tmp_path: Path
) -> None:
    (tmp_path / f"kill-{rank}").touch()
    slot_of(ranks)
    before = _ranks()
    begin = time.monotonic()
    result = result_of(ranks, spec(1, "adamw", steps=20))
    assert time.monotonic() - begin < 10
    assert result.outcome is Outcome.CRASHED
    assert f"rank {rank} was killed by SIGKILL" in result.message
    until(lambda: not any(psutil.pid_exists(pid) for pid in before), seconds=5)
    (tmp_path / f"kill-{rank}").unlink()
    assert result_of(ranks, spec(2, "adamw", steps=20)).outcome is Outcome.COMPLETED


def test_a_rank_that_waits_for_ever_is_found(ranks: Pool, tmp_path: Path) -> None:
    assert result_of(ranks, spec(1, "adamw", steps=20)).outcome is Outcome.COMPLETED
    (tmp_path / "hang-1").touch()
    result = result_of(ranks, spec(2, "adamw", steps=20).model_copy(update={"hang_seconds": 2.0}))
    assert result.outcome is Outcome.HUNG
    assert "no sign of life for 2 s" in result.message
    # Where rank 1 is, and where rank 0 waits.
    stacks = (tmp_path / "worker-0.log").read_text()
    assert "in loss" in stacks
    assert stacks.count("Fatal Python error: Aborted") == 2


def test_a_cancelled_trial_ends_in_all_ranks_at_the_same_step(ranks: Pool, tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    ranks.submit(slot_of(ranks), spec(1, "adamw", steps=5000))
    until(lambda: ranks.wait(0.2))
    (result,) = ranks.cancel()
    assert result.outcome is Outcome.CANCELLED
    assert "killed" not in result.message
    (tmp_path / "slow").unlink()
    assert result_of(ranks, spec(2, "adamw", steps=20)).outcome is Outcome.COMPLETED


def test_the_group_ends_with_its_coordinator_s_end_of_the_pipe(tmp_path: Path) -> None:
    pool = pool_of(write(tmp_path))
    pool.start()
    slot_of(pool)
    pids = _ranks()
    assert len(pids) >= 3  # a launcher and two ranks at least
    pool.close()
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), seconds=5)


def test_a_model_that_shards_itself_is_left_as_it_is(tmp_path: Path) -> None:
    target = write(tmp_path, **FSDP)
    with pool_of(target) as pool:
        report = pool.start()
        assert (report.processes, report.averaged_by) == (2, "your own fully_shard")
        assert "adahessian" in report.unavailable
        assert report.warnings == []
        assert report.parameters == 6 * 16 + 16 + 32 + 16 * 16 + 16 + 32 + 2
        for optimizer in ("adamw", "sgd_sai", "muon"):
            together = result_of(pool, spec(1, optimizer, steps=30))
            assert together.outcome is Outcome.COMPLETED, together.message
            assert together.loss == pytest.approx(alone(target, optimizer, 30).loss, rel=1e-3), optimizer
        assert together.ranks is not None
        whole = alone(target, "adamw", 30).state_bytes
        shard = result_of(pool, spec(2, "adamw", steps=30)).state_bytes
        assert whole is not None
        assert shard is not None
        assert shard < 0.7 * whole


def test_what_fails_in_one_rank_while_it_loads_is_told_with_its_number(tmp_path: Path) -> None:
    target = write(tmp_path, build='assert os.environ["RANK"] != "1", "not here"')
    with pool_of(target) as pool, pytest.raises(WorkloadError, match=r"rank 1: .*not here"):
        pool.start()


def _ranks() -> list[int]:
    return [p.pid for p in psutil.Process(os.getpid()).children(recursive=True) if _is_worker(p)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "autoopt.trials.worker" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


assert signal.SIGKILL == 9  # what the model above sends itself
