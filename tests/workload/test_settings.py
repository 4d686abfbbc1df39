from __future__ import annotations

from typing import Any

import pytest

from autoopt.errors import UsageError, WorkloadError
from autoopt.records import Flags, Settings
from autoopt.workload.settings import resolve


def _resolve(constants: dict[str, Any], flags: Flags | None = None, **more: Any) -> Settings:
    given = {"label": "model.py", "batches_per_epoch": 10, "own_schedule": False} | more
    return resolve(constants, flags or Flags(), **given)


def test_flags_win_over_the_file_and_origins_tell():
    found = _resolve({"STEPS": 200, "CLIP": 1, "METRIC": ["auc", "max"]}, Flags(steps=300, precision="bf16"))
    assert (found.steps, found.clip, found.precision, found.metric) == (300, 1.0, "bf16", ("auc", "max"))
    assert found.origins == {
        "steps": "flag",
        "clip": "file",
        "precision": "flag",
        "metric": "file",
        "accumulate": "default",
        "schedule": "default",
        "warmup": "default",
    }


def test_epochs_count_batches_and_accumulation():
    found = _resolve({"ACCUMULATE": 4, "STEPS": 7}, Flags(epochs=2.5))
    assert (found.steps, found.origins["steps"]) == (7, "flag")
    assert _resolve({}, Flags(epochs=3)).steps == 30
    with pytest.raises(UsageError, match="with a length"):
        _resolve({}, Flags(epochs=3), batches_per_epoch=None)
    with pytest.raises(UsageError, match="no training"):
        _resolve({}, Flags(epochs=0))


def test_warmup_is_a_share_or_a_number_of_steps():
    assert _resolve({"WARMUP": 0.2}).warmup == 0.2
    assert _resolve({"WARMUP": 50, "STEPS": 500}).warmup == 0.1
    assert _resolve({"WARMUP": 0.2, "STEPS": 100}, Flags(warmup=10)).warmup == 0.1
    with pytest.raises(UsageError, match="not shorter than the run"):
        _resolve({"STEPS": 100}, Flags(warmup=100))
    with pytest.raises(WorkloadError, match="WARMUP"):
        _resolve({"STEPS": 100, "WARMUP": 200})


def test_the_users_schedule_counts_unless_one_is_named():
    assert _resolve({}, own_schedule=True).schedule == "yours"
    assert _resolve({"SCHEDULE": "wsd"}, own_schedule=True).schedule == "wsd"
    assert _resolve({}, Flags(schedule="linear"), own_schedule=True).schedule == "linear"
    with pytest.raises(WorkloadError, match="gives no scheduler"):
        _resolve({"SCHEDULE": "yours"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEPS", 0),
        ("STEPS", 1.5),
        ("STEPS", True),
        ("STEPS", "many"),
        ("ACCUMULATE", 0),
        ("CLIP", 0),
        ("CLIP", float("nan")),
        ("PRECISION", "fp8"),
        ("SCHEDULE", "cosin"),
        ("WARMUP", -1),
        ("METRIC", "accuracy"),
        ("METRIC", ("accuracy", "more")),
    ],
)
def test_bad_constants_are_named(name, value):
    with pytest.raises(WorkloadError, match=f"model.py: {name} = ") as caught:
        _resolve({name: value})
    assert name in caught.value.hint


def test_no_clip_is_none():
    assert _resolve({"CLIP": None}).clip is None
