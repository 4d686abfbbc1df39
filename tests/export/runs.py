"""A run's folder as `autoopt profile` writes it, made from the report's formulas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from autoopt import policy
from autoopt.files import plain
from autoopt.records import (
    Event,
    Flags,
    Outcome,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialFinished,
    TrialResult,
    TrialStarted,
    WorkloadLoaded,
)
from tests.report import factory

BEGAN = 1_700_000_000.0


def started() -> RunStarted:
    return RunStarted(
        at=BEGAN,
        target="examples/digits_mlp/model.py",
        arguments=[],
        flags=Flags(),
        budget_seconds=60.0,
        policy=policy.load("balanced").model_dump(mode="json"),
        optimizers=None,
        seed=0,
        device="cpu",
        workers=2,
        version="0.1.0",
    )


def results() -> list[TrialResult]:
    """A sixth of the factory's trials: every optimizer, two of sgd's diverged; and one that an error ended.

    The first of them has a long curve, the others a few points: a database takes milliseconds for each.
    """
    some = [one for one in factory.trials() if one.spec.seed < 2][::4]
    some[1:] = [one.model_copy(update={"curve": _few(one.curve)}) for one in some[1:]]
    lost = [one for one in factory.trials() if one.outcome is Outcome.DIVERGED]
    failed = some[0].model_copy(
        update={
            "spec": some[0].spec.model_copy(update={"id": 900}),
            "outcome": Outcome.ERROR,
            "loss": None,
            "metric": None,
            "curve": [],
            "message": "RuntimeError: boom",
        }
    )
    known = {one.spec.id: one for one in [*some, *lost, failed]}
    return [known[number] for number in sorted(known)]


def _few(curve: list[tuple[int, float]]) -> list[tuple[int, float]]:
    return [*curve[:-1:8], *curve[-1:]]


def events(*, ended: bool = True, flying: bool = False, resumed: bool = False) -> list[Event]:
    """Trials of three seconds each, one after another."""
    told: list[Event] = [started(), WorkloadLoaded(at=BEGAN + 1, report=factory.workload())]
    at = BEGAN + 10
    for result in results():
        told.append(TrialStarted(at=at, spec=result.spec, worker=result.worker))
        told.append(TrialFinished(at=at + 3, result=result))
        at += 3
    if flying:
        spec = results()[0].spec.model_copy(update={"id": 901})
        told.append(TrialStarted(at=at, spec=spec, worker=1))
    if resumed:
        told.append(RunResumed(at=at + 5, spent_seconds=50.0))
    if ended:
        told.append(RunEnded(at=at + 6, how="finished", spent_seconds=55.0))
    return told


def write(folder: Path, told: Sequence[Event] | None = None) -> Path:
    """The folder, with events and a recommendation."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(plain(one)) + "\n" for one in (events() if told is None else told)]
    (folder / "events.jsonl").write_text("".join(lines))
    factory.recommendation().save(folder)
    return folder
