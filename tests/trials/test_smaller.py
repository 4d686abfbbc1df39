"""Memory that runs out, on a fake device with a limit and on this machine under a real one."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoopt.errors import WorkloadError
from autoopt.records import Flags, Outcome, TrialResult, TrialSpec
from autoopt.trials.drive import drive
from autoopt.trials.engine import WorkloadEngine
from autoopt.trials.inprocess import InProcess
from autoopt.workload import Workload, from_callables
from autoopt.workload.portion import portion
from tests.fixtures.limited_memory import MIB, LimitedMemory

ROWS, WIDTH = 256, 16
Make = Callable[..., Workload]


class Wide(nn.Module):
    """Keeps 16 KiB for backward a sample: 4 MiB a batch; its weights take 0.25 MiB."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, 4096, bias=False)
        self.outer = nn.Linear(4096, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.outer(self.inner(x).tanh())
        return out


def squared(model: nn.Module, batch: Any) -> Tensor:
    error: Tensor = model(batch[0]) - batch[1]
    return error.square().mean()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def limit() -> Iterator[Callable[[float], LimitedMemory]]:
    """Limits what is allocated from its call to the end of the test, in MiB."""
    with ExitStack() as stack:
        yield lambda size: stack.enter_context(LimitedMemory(int(size * MIB)))


@pytest.fixture
def made() -> Iterator[Make]:
    found: list[Workload] = []

    def make(loss: Any = squared, **flags: Any) -> Workload:
        batch = (torch.randn(ROWS, WIDTH), torch.randn(ROWS, 1))
        given: dict[str, Any] = {
            "model": Wide,
            "train": lambda: [batch] * 8,
            "val": lambda: [portion(batch, 8)],
        }
        found.append(from_callables(**given, loss=loss, flags=Flags(steps=8, **flags)))
        return found[-1]

    yield make
    for workload in found:
        workload.close()


def trial(name: str = "adamw", steps: int = 4) -> TrialSpec:
    return TrialSpec(id=1, stage="test", optimizer=name, hyper={"lr": 1e-3}, steps=steps, seed=0)


def result(workload: Workload, spec: TrialSpec) -> TrialResult:
    *_, found = drive(WorkloadEngine(workload), spec, 0)
    assert isinstance(found, TrialResult)
    return found


def test_the_answer_tells_what_was_asked_what_was_free_and_what_fits(
    made: Make, limit: Callable[[float], LimitedMemory]
) -> None:
    workload = made(accumulate=2)
    workload.start(0, 8)
    device = limit(5.0)  # a step takes 12.5 with the whole batch, 6.8 with half of it, 3.8 with a quarter
    found = result(workload, trial())
    assert found.outcome is Outcome.OUT_OF_MEMORY
    short = found.shortage
    assert short is not None
    assert short.asked is not None
    assert short.free is not None
    assert short.asked > short.free
    assert (short.device, short.total, short.batch) == ("cpu", 5 * MIB, ROWS)
    assert (short.fits, short.accumulate) == (ROWS // 4, 8)
    assert found.message.startswith("out of memory on cpu: asked for ")
    gc.collect()
    assert device.used < 0.05 * MIB  # what was tried is given back


def test_of_a_trial_with_a_larger_batch_the_answer_is_for_the_runs_own(
    made: Make, limit: Callable[[float], LimitedMemory]
) -> None:
    workload = made(accumulate=2)
    workload.start(0, 8)
    limit(5.0)
    spec = trial(steps=8).model_copy(update={"hyper": {"lr": 1e-3, "batch": 2.0}})
    short = result(workload, spec).shortage
    assert short is not None
    # As many steps are tried as of the run's own batch, so that a step with the optimizer's state is among them.
    assert (short.batch, short.fits, short.accumulate) == (ROWS, ROWS // 4, 8)


def test_an_optimizer_with_less_state_goes_on_where_another_does_not_fit(
    made: Make, limit: Callable[[float], LimitedMemory]
) -> None:
    workload = made()
    workload.start(0, 8)
    limit(12.4)
    with_state = result(workload, trial("adamw"))
    assert with_state.outcome is Outcome.OUT_OF_MEMORY
    assert result(workload, trial("sgd")).outcome is Outcome.COMPLETED


def test_a_batch_of_one_that_does_not_fit_is_said(
    made: Make, limit: Callable[[float], LimitedMemory]
) -> None:
    workload = made()
    workload.start(0, 8)
    limit(1.2)  # a batch of one takes 1.3
    short = result(workload, trial()).shortage
    assert short is not None
    assert (short.batch, short.fits) == (ROWS, None)


def test_a_loss_that_wants_the_whole_batch_is_left_alone(
    made: Make, limit: Callable[[float], LimitedMemory]
) -> None:
    def whole(model: nn.Module, batch: Any) -> Tensor:
        if len(batch[0]) < ROWS:
            raise ValueError("a whole batch, please")
        return squared(model, batch)

    workload = made(whole)
    workload.start(0, 8)
    limit(5.0)
    found = result(workload, trial())
    assert found.outcome is Outcome.OUT_OF_MEMORY
    assert found.shortage is not None
    assert (found.shortage.batch, found.shortage.fits) == (None, None)


def test_when_loading_runs_out_the_error_names_the_batch_that_fits(
    made: Make, limit: Callable[[float], LimitedMemory]
) -> None:
    workload = made()
    workload.start(0, 8)
    limit(5.0)
    with pytest.raises(WorkloadError, match="does not fit: out of memory on cpu: asked for") as caught:
        InProcess(workload).start()
    assert "pass --accumulate" in caught.value.hint


def test_steps_are_timed_with_sgd_where_adamw_s_state_does_not_fit(
    made: Make, limit: Callable[[float], LimitedMemory]
) -> None:
    workload = made()
    workload.start(0, 8)
    limit(12.4)
    report = workload.report(quick=True)
    assert report.step_seconds > 0
    assert any("timed with SGD" in warning for warning in report.warnings)


def test_the_address_space_s_limit_runs_out_for_real(made: Make) -> None:
    """Torch's own allocator under `ulimit -v`, in this process: its text, what was free, and a batch that fits."""
    import resource

    import psutil

    def hungry(model: nn.Module, batch: Any) -> Tensor:
        extra = torch.empty(len(batch[0]), 8 * MIB, dtype=torch.uint8)  # 2 GiB for a batch, never touched
        return squared(model, batch) + 0 * extra[0, 0]

    workload = made(hungry)
    workload.start(0, 8)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 700 * MIB, hard))
    try:
        found = result(workload, trial("sgd"))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert found.outcome is Outcome.OUT_OF_MEMORY
    short = found.shortage
    assert short is not None
    assert short.asked == ROWS * 8 * MIB
    assert short.free is not None
    assert short.free <= 700 * MIB
    assert short.fits == 64


def test_a_portion_keeps_what_is_no_sample() -> None:
    batch = {"x": torch.zeros(8, 3), "y": [torch.zeros(8), "name"], "weights": torch.ones(3)}
    cut = portion(batch, 2)
    assert (cut["x"].shape[0], cut["y"][0].shape[0], cut["y"][1], cut["weights"].shape[0]) == (
        2,
        2,
        "name",
        3,
    )
    assert portion({"n": 3}, 1) is None
    assert batch["x"].shape[0] == 8  # type: ignore[attr-defined]
