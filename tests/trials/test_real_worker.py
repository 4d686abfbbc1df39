"""A worker with the real engine: torch, the user's file, a loader with a process of its own."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from autoopt.records import Outcome
from autoopt.trials.pool import Pool
from autoopt.trials.testing import spec
from tests.trials.conftest import result_of, until

MODEL = """
import os
from pathlib import Path
import torch
from torch.utils.data import DataLoader, TensorDataset

assert torch.get_num_threads() == 1

def build_model():
    return torch.nn.Linear(4, 1)

def _tell(_worker):
    print("loader", os.getpid(), flush=True)

def _loader(count):
    drawn = torch.Generator().manual_seed(1)
    x = torch.randn(count, 4, generator=drawn)
    data = TensorDataset(x, x.sum(1, keepdim=True))
    return DataLoader(data, batch_size=8, shuffle=True, num_workers=1, worker_init_fn=_tell)

def train_dataloader():
    return _loader(64)

def val_dataloader():
    return _loader(16)

def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()

def after_step(model):
    if Path(__file__).with_name("crash").exists():
        os.abort()
"""


def test_a_crash_in_the_user_s_code_ends_one_trial_and_its_loaders(tmp_path: Path) -> None:
    target, crash, log = tmp_path / "model.py", tmp_path / "crash", tmp_path / "worker-0.log"
    target.write_text(MODEL)

    def loaders() -> list[int]:
        return [int(pid) for pid in re.findall(r"^loader (\d+)$", log.read_text(), re.MULTILINE)]

    with Pool(str(target), log_dir=tmp_path, threads=1) as pool:
        assert pool.start().parameters == 5
        before = result_of(pool, spec(1, "adamw", steps=20))
        assert before.outcome is Outcome.COMPLETED, before.message
        crash.touch()
        crashed = result_of(pool, spec(2, "adamw", steps=20))
        assert crashed.outcome is Outcome.CRASHED
        assert "killed by SIGABRT" in crashed.message
        assert "in after_step" in crashed.message
        until(lambda: not any(psutil.pid_exists(pid) for pid in loaders()), seconds=5)
        crash.unlink()
        after = result_of(pool, spec(1, "adamw", steps=20))
        # Another process, the same weights and batches: what makes trials comparable over workers.
        assert (after.loss, after.digests) == (before.loss, before.digests)
        assert after.digests
    until(lambda: not any(psutil.pid_exists(pid) for pid in loaders()), seconds=5)


HUNGRY = MODEL.replace(
    "def loss(model, batch):",
    """
def loss(model, batch):
    if Path(__file__).with_name("hungry").exists():
        torch.empty(len(batch[0]), 1 << 38, dtype=torch.uint8)  # 256 GiB a sample; nobody grants 2 TiB
""",
).replace("num_workers=1, worker_init_fn=_tell", "num_workers=0")


@pytest.mark.long
def test_memory_that_runs_out_is_an_answer_and_the_next_trial_is_clean(tmp_path: Path) -> None:
    target, hungry = tmp_path / "model.py", tmp_path / "hungry"
    target.write_text(HUNGRY)
    with Pool(str(target), log_dir=tmp_path, threads=1) as pool:
        pool.start()
        hungry.touch()
        short = result_of(pool, spec(1, "adamw", steps=20))
        hungry.unlink()
        assert short.outcome is Outcome.OUT_OF_MEMORY
        assert short.shortage is not None
        assert short.shortage.asked == 8 << 38
        assert short.shortage.free is not None
        assert 0 < short.shortage.free < 8 << 38
        assert (short.shortage.batch, short.shortage.fits) == (8, None)
        assert "no step fits, not even with a batch of one sample" in short.message
        after = result_of(pool, spec(2, "adamw", steps=20))
        assert (after.outcome, after.shortage) == (Outcome.COMPLETED, None)
        assert after.process_bytes is not None
        assert after.process_bytes > 10**7


LOOP = """
import torch

STEPS = 40

def run(make_optimizer, steps, seed, report, ctx):
    weight = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = make_optimizer([weight])
    for step in range(steps):
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        optimizer.step()
        report(step, loss)
    print("ran on", ctx.device, flush=True)
    return loss.detach()
"""


def test_a_loop_of_the_user_s_own(tmp_path: Path) -> None:
    target = tmp_path / "loop.py"
    target.write_text(LOOP)
    with Pool(str(target), log_dir=tmp_path, threads=1) as pool:
        report = pool.start()
        assert (report.kind, report.parameters) == ("own loop", 2)
        result = result_of(pool, spec(1, "sgd", lr=0.05, steps=30))
        assert result.outcome is Outcome.COMPLETED, result.message
        assert result.loss is not None
        assert result.loss < report.initial_loss
    assert "ran on cpu" in (tmp_path / "worker-0.log").read_text()
