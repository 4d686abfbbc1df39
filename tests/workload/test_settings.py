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


def test_a_metric_may_say_its_best_value():
    found = _resolve({"METRIC": ("acc1", "max", 100)})
    assert (found.metric, found.metric_best) == (("acc1", "max"), 100.0)
    assert _resolve({"METRIC": ("acc1", "max")}).metric_best is None
    with pytest.raises(WorkloadError, match="BEST being the best value"):
        _resolve({"METRIC": ("acc1", "max", "100")})


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


def _divided(constants: dict[str, Any], flags: Flags | None = None, each: int | None = 64) -> Settings:
    return _resolve(constants, flags, samples_per_batch=lambda: each)


def test_a_global_batch_says_how_many_batches_a_step_takes():
    found = _divided({"ACCUMULATE": 3}, Flags(global_batch=256, epochs=4))
    assert (found.accumulate, found.global_batch, found.ranks) == (4, 256, 1)
    assert found.origins["accumulate"] == found.origins["global_batch"] == "flag"
    assert found.steps == 10, "4 epochs of 10 batches, 4 a step"
    assert _divided({"GLOBAL_BATCH": 128}).accumulate == 2
    assert _divided({"GLOBAL_BATCH": 128}, Flags(accumulate=5)).global_batch is None, "the flag wins"


def test_the_processes_of_a_distributed_run_share_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = _divided({}, Flags(global_batch=256))
    assert (found.accumulate, found.ranks) == (4, 2), "the batches of both, two in each"
    with pytest.raises(UsageError, match="in each of 2 processes") as caught:
        _divided({}, Flags(global_batch=192))
    assert "128 and 256" in caught.value.hint
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="WORLD_SIZE is 'two'"):
        _divided({}, Flags(global_batch=256))
    assert _divided({}).ranks == 1, "nobody asked"


def test_one_that_cannot_be_is_named_where_it_stands():
    with pytest.raises(UsageError, match="global batch of 100 samples"):
        _divided({}, Flags(global_batch=100))
    with pytest.raises(WorkloadError, match=r"model.py: A global batch of 100 samples") as caught:
        _divided({"GLOBAL_BATCH": 100})
    assert "64 and 128" in caught.value.hint
    with pytest.raises(WorkloadError, match="ACCUMULATE and GLOBAL_BATCH say the same thing"):
        _divided({"GLOBAL_BATCH": 128, "ACCUMULATE": 2})
    with pytest.raises(UsageError, match="--accumulate and --global-batch"):
        _divided({}, Flags(global_batch=128, accumulate=2))
    with pytest.raises(UsageError, match="samples can be counted") as caught:
        _divided({}, Flags(global_batch=128), each=None)
    assert "--accumulate" in caught.value.hint
    with pytest.raises(WorkloadError, match=r"GLOBAL_BATCH = 1\.5"):
        _divided({"GLOBAL_BATCH": 1.5})
