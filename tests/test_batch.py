from __future__ import annotations

import pytest

from autoopt import batch
from autoopt.errors import UsageError


@pytest.mark.parametrize(
    ("optimizer", "ratio", "rate"),
    [
        ("adamw", 4, 0.02),
        ("adamw", 0.25, 0.005),
        ("SGD", 4, 0.04),
        ("sgd_sai", 0.5, 0.005),
        ("prodigy", 4, 0.01),
    ],
)
def test_rates_grow_with_the_batch_as_the_optimizer_uses_the_noise(
    optimizer: str, ratio: float, rate: float
) -> None:
    assert batch.scaled(0.01, optimizer, ratio) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("wanted", "each", "ranks", "accumulate"),
    [(64, 64, 1, 1), (256, 64, 1, 4), (256, 64, 2, 4), (128, 64, 2, 2)],
)
def test_a_global_batch_is_so_many_batches_of_all_processes(
    wanted: int, each: int, ranks: int, accumulate: int
) -> None:
    assert batch.accumulate_for(wanted, each, ranks) == accumulate


@pytest.mark.parametrize(
    ("wanted", "ranks", "nearest"),
    [(100, 1, "are 64 and 128"), (32, 1, "is 64"), (192, 2, "are 128 and 256"), (64, 2, "is 128")],
)
def test_one_that_cannot_be_divided_is_refused_with_the_nearest_that_can(
    wanted: int, ranks: int, nearest: str
) -> None:
    with pytest.raises(UsageError, match=f"global batch of {wanted} samples") as caught:
        batch.accumulate_for(wanted, 64, ranks)
    assert nearest in caught.value.hint


def test_another_batch_is_told_with_the_rate_to_begin_with_and_its_source() -> None:
    said = batch.mismatch("adamw", 1e-3, 64, 256)
    assert "sees 256 samples" in said
    assert "0.001 was chosen for 64" in said
    assert "begin with is 0.002" in said
    assert "2205.10287" in said
    assert "--global-batch 256" in said
    assert "begin with is 0.004 (in proportion to the batch: Goyal 2017" in batch.mismatch(
        "sgd", 1e-3, 64, 256
    )


@pytest.mark.parametrize("seen", [64, 60, 70])
def test_the_same_batch_or_nearly_is_nothing_to_say(seen: int) -> None:
    assert batch.mismatch("adamw", 1e-3, 64, seen) == ""


def test_without_a_rate_or_a_count_it_says_what_it_knows() -> None:
    assert "made for 64" in batch.mismatch("prodigy", None, 64, 128)
    assert "not known" in batch.mismatch("adamw", 1e-3, None, 128)
    with pytest.raises(UsageError, match="no batch"):
        batch.mismatch("adamw", 1e-3, 64, 0)
