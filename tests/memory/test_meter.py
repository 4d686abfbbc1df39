from __future__ import annotations

import pytest
import torch
from torch import nn

from autoopt.memory.meter import TrialMemory, Used

CPU = torch.device("cpu")
FLOAT = 4


def trained(rows: list[int], steps: int | None = None) -> Used:
    """A weight of 4, and a batch of so many rows in each step."""
    model = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    memory = TrialMemory(CPU, steps or len(rows))
    memory.of(model, optimizer)
    for step, count in enumerate(rows):
        optimizer.zero_grad(set_to_none=True)
        with memory.around(step):
            torch.autograd.backward(model(torch.ones(count, 4)).sum())
        optimizer.step()
        memory.stepped(step + 1)
    return memory.used()


@pytest.mark.parametrize(
    ("rows", "counted"), [([3], 3), ([3, 5], 5), ([9, 3, 5], 5), ([9, 5, 3, 9], 5), ([9, 3, 3, 50], 3)]
)
def test_the_peak_is_the_larger_of_the_second_and_third_step(rows: list[int], counted: int) -> None:
    used = trained(rows)
    assert (used.peak, used.source) == (FLOAT * (4 + 4 + 4 * counted), "tracked")
    assert used.process > 10**7
    assert (used.reserved, used.reserved_begin) == (None, None)


def test_a_step_that_was_not_measured_is_not_called_zero() -> None:
    used = trained([3], steps=5)
    assert (used.peak, used.source) == (None, "unknown")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_optimizer_s_temporaries_and_no_earlier_trial_count() -> None:
    device = torch.device("cuda:0")
    size = 1 << 22
    earlier = torch.ones(8 * size, device=device)
    del earlier
    memory = TrialMemory(device, 2)
    model = nn.Linear(size, 1, bias=False).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    memory.of(model, optimizer)
    for step in range(2):
        optimizer.zero_grad(set_to_none=True)
        with memory.around(step):
            torch.autograd.backward(model(torch.ones(1, size, device=device)).sum())
        optimizer.step()
        memory.stepped(step + 1)
    used = memory.used()
    assert used.source == "allocator"
    assert used.peak is not None
    assert used.reserved is not None
    # Weight, gradient, two moments, and at least one temporary of the step; never the eight of before.
    assert FLOAT * 5 * size <= used.peak <= used.reserved < FLOAT * 8 * size
