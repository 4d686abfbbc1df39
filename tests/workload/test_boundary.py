from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoopt.errors import UserCodeError, WorkloadError
from tests.workload.files import PLAIN


def _with_loss(body: str) -> str:
    return PLAIN.partition("def loss")[0] + f"def loss(model, batch):\n    {body}\n"


def _first_loss(workload):
    batch = next(workload.batches(0))
    return workload.loss(workload.model, batch)


def test_an_exception_becomes_one_sentence_with_the_users_line(opened):
    workload = opened(_with_loss("raise ValueError('no such column\\nand more')"))
    with pytest.raises(UserCodeError) as caught:
        _first_loss(workload)
    line = PLAIN.partition("def loss")[0].count("\n") + 2
    assert caught.value.message == f"loss() in model.py:{line} raised ValueError: no such column"
    assert caught.value.where.endswith(f"model.py:{line}")
    assert "autoopt/workload" not in caught.value.trace
    assert "model.py" in caught.value.trace


def test_an_error_inside_torch_is_told_at_the_users_line(opened):
    workload = opened(_with_loss("return model(batch[0][:, :2]).mean()"))
    with pytest.raises(
        UserCodeError, match=r"^loss\(\) in model.py:\d+ raised RuntimeError: mat1 and mat2"
    ) as caught:
        _first_loss(workload)
    assert "torch/nn/modules" not in caught.value.trace


def test_exit_is_an_error_and_interrupt_passes(opened):
    workload = opened(_with_loss("raise SystemExit(3)"))
    with pytest.raises(UserCodeError, match=r"called sys.exit\(3\)"):
        _first_loss(workload)
    workload.contract.loss = _interrupt
    with pytest.raises(KeyboardInterrupt):
        _first_loss(workload)


def test_arguments_that_a_file_wants_go_behind_the_dashes(opened):
    parser = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--data', required=True)\np.parse_args()\n"
    with pytest.raises(UserCodeError, match=r"called sys\.exit") as caught:
        opened(parser + PLAIN)
    assert "behind `--`" in caught.value.hint


def test_a_relative_path_that_is_not_there_is_told_where_it_starts(opened):
    with pytest.raises(UserCodeError, match="FileNotFoundError") as caught:
        opened("open('data/x.csv')\n" + PLAIN)
    assert f"here {Path.cwd()}" in caught.value.hint
    with pytest.raises(UserCodeError, match="FileNotFoundError") as caught:
        opened("open('/nowhere/x.csv')\n" + PLAIN)
    assert caught.value.hint == ""


def _interrupt(model, batch):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), torch.OutOfMemoryError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), MemoryError),
    ],
)
def test_out_of_memory_keeps_its_kind(opened, raised, seen):
    workload = opened(PLAIN)

    def loss(model, batch):
        raise raised

    workload.contract.loss = loss
    with pytest.raises(seen):
        _first_loss(workload)


def test_an_error_in_a_loader_process_names_the_users_line(opened):
    workload = opened(
        PLAIN.replace(
            "def train_dataloader():",
            """
class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 12
    def __getitem__(self, index):
        raise KeyError("label")

def train_dataloader():
    return DataLoader(Broken(), 4, num_workers=1, multiprocessing_context="fork")

def unused():
""",
        )
    )
    with pytest.raises(
        UserCodeError, match=r"^train_dataloader\(\) in model.py:\d+ raised KeyError: 'label'$"
    ):
        next(workload.batches(0))


def test_ctx_is_passed_only_where_it_is_declared(opened):
    workload = opened(
        PLAIN
        + """
SEEN = []
def after_step(model, ctx):
    SEEN.append(ctx)
def configure_optimizers(model, *, ctx):
    return torch.optim.SGD(model.parameters(), lr=1 / ctx.real_steps)
""",
        ["--flag"],
    )
    model = workload.start(5, 10)
    assert workload.baseline(model).hyper["lr"] == 1 / 40
    workload.after_step(model)
    workload.after_step(model)
    seen = workload.contract.after_step.__globals__["SEEN"]
    assert [c.step for c in seen] == [1, 2]
    assert (seen[0].seed, seen[0].total_steps, seen[0].real_steps, seen[0].is_trial) == (5, 10, 40, True)
    assert (seen[0].args, seen[0].device) == (("--flag",), "cpu")
    with pytest.raises(AttributeError):
        seen[0].step = 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1.0", "returned a float, not a tensor"),
        ("pass", "returned None, not a tensor"),
        ("return model(batch[0])", r"shape \[8, 1\], not a scalar"),
        ("return model(batch[0]).mean().detach()", "no trainable parameter has part in"),
        ("return {'l': model(batch[0]).mean()}", "a dict without 'loss'"),
        ("return (model(batch[0]) > 0).sum()", "int64"),
    ],
)
def test_losses_that_cannot_be_used(opened, body, message):
    with pytest.raises(WorkloadError, match=message) as caught:
        _first_loss(opened(_with_loss(body)))
    assert caught.value.hint


def test_a_dict_with_loss_will_do(opened):
    workload = opened(_with_loss("return {'loss': model(batch[0]).mean().reshape(1), 'more': 1}"))
    assert _first_loss(workload).shape == ()
