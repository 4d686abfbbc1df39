from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from autoopt.errors import UserCodeError
from autoopt.records import Flags, Outcome, TrialResult, WorkloadReport
from autoopt.trials.engine import Engine
from autoopt.trials.inprocess import InProcess
from autoopt.trials.protocol import Load
from autoopt.trials.runner import Progress
from autoopt.trials.testing import FakeEngine, fake_loss, spec
from tests.trials.conftest import result_of

if TYPE_CHECKING:
    from autoopt.workload import Workload


def over(engine: Engine) -> InProcess:
    return InProcess(cast("Workload", None), engine=lambda _workload: engine)


@pytest.fixture
def runner() -> InProcess:
    runner = over(FakeEngine())
    runner.start()
    return runner


def test_a_trial_runs_in_wait(runner: InProcess) -> None:
    wanted = spec(1, "adamw")
    result = result_of(runner, wanted)
    assert (result.outcome, result.loss, result.worker) == (Outcome.COMPLETED, fake_loss(wanted), 0)
    assert runner.idle() == [0]


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("exit", Outcome.EXITED),
        ("memory", Outcome.OUT_OF_MEMORY),
        ("error", Outcome.ERROR),
        ("nan", Outcome.DIVERGED),
    ],
)
def test_failures_are_outcomes(runner: InProcess, name: str, outcome: Outcome) -> None:
    assert result_of(runner, spec(1, name)).outcome is outcome
    assert result_of(runner, spec(2, "adamw")).outcome is Outcome.COMPLETED


def test_wait_comes_back_when_the_time_is_up(runner: InProcess) -> None:
    runner.submit(0, spec(1, "endless", steps=10**6))
    (item,) = runner.wait(0.05)
    assert isinstance(item, Progress)
    assert runner.idle() == []
    with pytest.raises(ValueError, match="not idle"):
        runner.submit(0, spec(2, "adamw"))


def test_a_wait_without_time_still_advances(runner: InProcess) -> None:
    runner.submit(0, spec(1, "adamw", steps=3))
    happened = [item for _ in range(4) for item in runner.wait(0)]
    assert isinstance(happened[-1], TrialResult)


def test_cancel(runner: InProcess) -> None:
    runner.submit(0, spec(1, "endless", steps=10**6))
    runner.wait(0.05)
    (result,) = runner.cancel()
    assert result.outcome is Outcome.CANCELLED
    assert result.steps_done > 0
    assert runner.cancel() == []
    assert runner.idle() == [0]


def test_an_error_while_loading_is_raised() -> None:
    request = Load(
        engine="",
        target="load-error",
        arguments=[],
        flags=Flags(),
        device="cpu",
        slot=0,
        threads=1,
        full=True,
    )
    with pytest.raises(UserCodeError, match="KeyError"):
        over(FakeEngine(request)).start()


def test_nothing_runs_before_the_start_or_after_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    runner = over(FakeEngine())
    assert runner.idle() == []
    assert isinstance(runner.start(), WorkloadReport)
    runner.close()
    runner.close()
    assert runner.idle() == []
    assert capsys.readouterr().out.count("closes") == 1
