from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt import journal
from autoopt.errors import RunError
from autoopt.files import plain
from autoopt.records import (
    Baseline,
    Event,
    Flags,
    Noted,
    Outcome,
    RunEnded,
    RunResumed,
    RunStarted,
    Settings,
    StartedFrom,
    TrialFinished,
    TrialResult,
    TrialSpec,
    WorkloadLoaded,
    WorkloadReport,
)


def started(at: float = 0.0, **changes: Any) -> RunStarted:
    fields: dict[str, Any] = {
        "target": "model.py",
        "arguments": [],
        "flags": Flags(steps=100),
        "budget_seconds": 60,
        "policy": {"name": "balanced", "limits": {"memory": None}},
        "optimizers": ["adamw", "sgd"],
        "seed": 0,
        "device": "cpu",
        "workers": 2,
        "version": "0.1.0",
    }
    return RunStarted(at=at, **(fields | changes))


def finished(number: int, outcome: Outcome = Outcome.COMPLETED, at: float = 0.0) -> TrialFinished:
    spec = TrialSpec(id=number, stage="screen", optimizer="adamw", hyper={"lr": 0.1}, steps=5, seed=0)
    return TrialFinished(at=at, result=TrialResult(spec=spec, outcome=outcome, loss=0.5, curve=[(1, 2.0)]))


def report(**changes: Any) -> WorkloadReport:
    fields: dict[str, Any] = {
        "target": "model.py",
        "kind": "functions",
        "settings": Settings(),
        "baseline": Baseline(
            source="default", optimizer="AdamW", registry_name="adamw", hyper={"lr": 1e-3}, schedule=None
        ),
        "device": "cpu",
        "parameters": 1,
        "trainable": 1,
        "dtypes": {},
        "layers": {},
        "groups": [],
        "batch": "",
        "samples_per_batch": 1,
        "batches_per_epoch": 1,
        "validation": "own",
        "validation_batches": 1,
        "first_loss": 1.0,
        "initial_loss": 1.0,
        "restore": "in_place",
        "reproducible_data": True,
        "step_seconds": 0.1,
        "data_seconds": 0.1,
        "eval_batch_seconds": 0.1,
        "modules": {"model.py": "aa", "nets.py": "bb"},
        "versions": {"torch": "2.13.0"},
    }
    return WorkloadReport(**(fields | changes))


def write(folder: Path, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / journal.FILE_NAME).write_text("".join(lines))
    return folder


def line(event: Event) -> str:
    return json.dumps(plain(event)) + "\n"


def test_replay_gives_back_every_kind_of_event(tmp_path: Path) -> None:
    events = [started(), WorkloadLoaded(at=1, report=report()), finished(0), Noted(at=2, text="ü\u2028")]
    assert journal.replay(write(tmp_path, *map(line, events))) == events


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path, line(started()), line(finished(0))[:-1])
    assert journal.replay(folder) == [started()]
    assert journal.has_run(folder)


@pytest.mark.parametrize(
    "bad",
    ["{\n", "\n", "[]\n", '{"kind": "dreamt", "at": 0}\n', '{"kind": "noted", "at": NaN, "text": ""}\n'],
)
def test_a_damaged_line_is_named(tmp_path: Path, bad: str) -> None:
    folder = write(tmp_path, line(started()), bad, line(finished(0)))
    with pytest.raises(RunError, match="line 2 is damaged") as caught:
        journal.replay(folder)
    assert caught.value.hint


def test_no_run(tmp_path: Path) -> None:
    assert not journal.has_run(tmp_path / "none")
    assert not journal.has_run(write(tmp_path, '{"kind": "run_st'))
    with pytest.raises(RunError, match="There is no run"):
        journal.replay(tmp_path / "none")


def test_spent_seconds_leaves_out_the_time_between_sessions() -> None:
    ended = RunEnded(at=1040.0, how="interrupted", spent_seconds=40)
    first = [started(at=1000.0), Noted(at=1030.0, text=""), ended]
    second = [RunResumed(at=5000.0, spent_seconds=40), Noted(at=5007.0, text="")]
    third = [RunResumed(at=9000.0, spent_seconds=47)]
    assert journal.spent_seconds(first) == 40
    assert journal.spent_seconds([*first, *second]) == 47
    assert journal.spent_seconds([*first, *second, *third]) == 47
    assert journal.spent_seconds([]) == 0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e9)), max_size=20))
def test_spent_seconds_is_never_negative_and_never_shrinks(steps: list[tuple[bool, float]]) -> None:
    """Also when the clock is set back."""
    events: list[Event] = [started(at=100.0)]
    for resumed, at in steps:
        before = journal.spent_seconds(events)
        events.append(RunResumed(at=at, spent_seconds=0) if resumed else Noted(at=at, text=""))
        assert journal.spent_seconds(events) >= max(0.0, before)


def test_settings_that_changed_are_listed() -> None:
    now = started(
        flags=Flags(steps=200), seed=1, optimizers=None, policy={"name": "balanced", "limits": {"memory": 8}}
    )
    assert journal.changed_settings([started()], now) == [
        "flags.steps: 100 -> 200",
        "policy.limits.memory: not given -> 8",
        'optimizers: ["adamw", "sgd"] -> not given',
        "seed: 0 -> 1",
    ]


def test_more_budget_and_other_workers_are_no_change() -> None:
    now = started(at=9, budget_seconds=600, workers=1)
    assert journal.changed_settings([started()], now) == []
    assert journal.changed_settings([], now) == []


def test_an_accepted_change_counts_as_known() -> None:
    now = started(seed=1)
    assert journal.changed_settings([started(), now], now) == []


def test_edited_modules_are_listed() -> None:
    now = report(modules={"model.py": "ab", "extra.py": "cc"}, versions={"torch": "2.12.0"})
    assert journal.changed_workload([WorkloadLoaded(at=0, report=report())], now) == [
        "extra.py is new",
        "model.py was edited",
        "nets.py is no longer loaded",
        'version of torch: "2.13.0" -> "2.12.0"',
    ]
    assert journal.changed_workload([WorkloadLoaded(at=0, report=report())], report(first_loss=2.0)) == []
    assert journal.changed_workload([], now) == []


def half(digest: str, step: int = 50) -> WorkloadReport:
    saved = StartedFrom(source="half.pt", step=step, whole=100, optimizer=True, digest=digest)
    return report(checkpoint=saved)


def test_another_content_of_the_checkpoint_is_told() -> None:
    before = [WorkloadLoaded(at=0, report=half("aa"))]
    assert journal.changed_workload(before, half("aa")) == []
    assert journal.changed_workload(before, half("bb")) == ["the checkpoint half.pt has other content"]
    assert journal.changed_workload([WorkloadLoaded(at=0, report=half(""))], half("bb")) == [], (
        "nothing is known of it"
    )


def test_a_checkpoint_of_another_step_is_refused() -> None:
    journal.refuse_another_begin(half("aa"), half("bb"))
    journal.refuse_another_begin(report(), report())
    with pytest.raises(RunError, match="began from step 50, and would go on from step 60"):
        journal.refuse_another_begin(half("aa"), half("bb", step=60))
    with pytest.raises(RunError, match="from step 0"):
        journal.refuse_another_begin(half("aa"), report())


def test_changes_are_refused_unless_accepted() -> None:
    journal.refuse_changes([])
    journal.refuse_changes(["model.py was edited"], accept=True)
    with pytest.raises(RunError, match=r"model\.py was edited") as caught:
        journal.refuse_changes(["seed: 0 -> 1", "model.py was edited"])
    assert "--accept-changes" in caught.value.hint
