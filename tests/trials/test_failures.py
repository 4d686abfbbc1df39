from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoopt.errors import UserCodeError, WorkloadError
from autoopt.records import Outcome
from autoopt.trials.failures import death, load_failure, oom_kills, outcome_of


def raised(error: BaseException, *, by: BaseException | None = None) -> BaseException:
    try:
        raise error from by
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."),
        OSError(12, "Cannot allocate memory"),
        raised(UserCodeError("loss() raised"), by=MemoryError("inner")),
    ],
)
def test_all_that_means_no_memory(error: BaseException) -> None:
    assert outcome_of(error)[0] is Outcome.OUT_OF_MEMORY


def test_torch_s_own_allocator_is_recognized() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8)
    assert outcome_of(caught.value)[0] is Outcome.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("error", "outcome", "message"),
    [
        (RuntimeError("shape mismatch"), Outcome.ERROR, "RuntimeError: shape mismatch"),
        (KeyError("x"), Outcome.ERROR, "KeyError: 'x'"),
        (StopIteration(), Outcome.ERROR, "StopIteration"),
        (KeyboardInterrupt(), Outcome.ERROR, "KeyboardInterrupt"),
        (WorkloadError("no loss"), Outcome.ERROR, "no loss"),
        (UserCodeError("loss() raised", where="m.py:3"), Outcome.ERROR, "loss() raised (m.py:3)"),
        (
            UserCodeError("loss() in m.py:3 raised", where="/a/m.py:3"),
            Outcome.ERROR,
            "loss() in m.py:3 raised",
        ),
        (SystemExit(2), Outcome.EXITED, "the code called sys.exit(2)"),
        (SystemExit(), Outcome.EXITED, "the code called sys.exit()"),
    ],
)
def test_other_exceptions(error: BaseException, outcome: Outcome, message: str) -> None:
    assert outcome_of(error) == (outcome, message)


def test_sys_exit_names_its_line() -> None:
    assert f"at {__file__}:" in outcome_of(raised(SystemExit(1)))[1]


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert outcome_of(first)[0] is Outcome.ERROR


def test_a_deliberate_error_while_loading_is_itself() -> None:
    error = WorkloadError("no build_model()")
    assert load_failure(error, "model.py") is error


@pytest.mark.parametrize("error", [SystemExit(1), MemoryError("big"), ZeroDivisionError("by 0")])
def test_any_other_error_while_loading_is_the_user_code_s(error: BaseException) -> None:
    found = load_failure(raised(error), "model.py")
    assert isinstance(found, UserCodeError)
    assert "model.py" in found.message
    assert type(error).__name__ in found.trace


@pytest.mark.parametrize(
    ("code", "number", "words"),
    [
        (0, None, "ended with exit code 0"),
        (None, 9, "killed by SIGKILL"),
        (None, 99, "killed by signal 99"),
        (None, None, "ended in an unknown way"),
    ],
)
def test_deaths_in_words(code: int | None, number: int | None, words: str) -> None:
    assert death(code, number) == words


def test_without_the_kernel_s_counter_there_is_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_path: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert oom_kills() is None
