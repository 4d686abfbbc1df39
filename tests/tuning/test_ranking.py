from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.tuning.ranking import (
    PRIOR_SD,
    Noise,
    decided,
    difference,
    equivalent,
    interval,
    means,
    pooled_noise,
)


def test_without_repetitions_the_noise_is_the_prior() -> None:
    assert pooled_noise([{0: 1.0}, {0: 2.0}]).sd == pytest.approx(PRIOR_SD)


def test_noise_is_learned_from_all_repeated_configurations() -> None:
    rng = np.random.default_rng(0)
    many = [{s: 3.0 * i + 0.3 * rng.standard_normal() for s in range(6)} for i in range(20)]
    assert pooled_noise(many, paired=False).sd == pytest.approx(0.3, rel=0.15)


def test_what_all_share_on_a_seed_is_no_noise_when_paired() -> None:
    rng = np.random.default_rng(1)
    seeds = {s: rng.standard_normal() for s in range(5)}
    many = [{s: i + seeds[s] + 0.02 * rng.standard_normal() for s in seeds} for i in range(10)]
    assert pooled_noise(many, paired=True).sd < 0.05
    assert pooled_noise(many, paired=False).sd > 0.3


def test_a_paired_difference_uses_shared_seeds_only() -> None:
    gap = difference({1: 1.0, 2: 2.0, 3: 9.0}, {1: 0.5, 2: 1.5}, Noise(0.1, 10))
    assert gap.mean == pytest.approx(0.5)
    assert gap.seeds == 2
    assert gap.paired


def test_without_shared_seeds_a_difference_is_unpaired() -> None:
    gap = difference({1: 1.0}, {2: 0.5}, Noise(0.1, 10))
    assert not gap.paired
    assert gap.mean == pytest.approx(0.5)


def test_an_empty_side_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        difference({}, {0: 1.0}, Noise(0.1, 4))


def test_more_seeds_narrow_the_interval() -> None:
    noise = Noise(0.1, 20)
    one, four = interval({0: 1.0}, noise), interval({s: 1.0 for s in range(4)}, noise)
    assert (four[1] - four[0]) == pytest.approx((one[1] - one[0]) / 2, rel=1e-6)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng, hits, runs = np.random.default_rng(2), 0, 400
    for _ in range(runs):
        groups = [{s: i + PRIOR_SD * rng.standard_normal() for s in range(3)} for i in range(3)]
        low, high = interval(groups[0], pooled_noise(groups, paired=False), 0.9)
        hits += low <= 0 <= high
    assert 0.85 <= hits / runs <= 0.97


def test_equivalence_must_be_shown() -> None:
    near = difference({s: 1.0 for s in range(8)}, {s: 1.0 for s in range(8)}, Noise(0.01, 20))
    assert equivalent(near, 0.02)
    unknown = difference({0: 1.0}, {0: 1.0}, Noise(0.1, 4))
    assert not equivalent(unknown, 0.02), "no evidence either way is not a tie"
    assert not decided(unknown)


@given(st.permutations(range(6)))
def test_the_order_of_configurations_does_not_matter(order: list[int]) -> None:
    groups = [{s: 0.1 * i * s for s in range(3)} for i in range(6)]
    shuffled = [groups[i] for i in order]
    assert pooled_noise(shuffled).sd == pytest.approx(pooled_noise(groups).sd)


def test_an_easy_seed_flatters_nobody() -> None:
    scores = {"a": {1: 1.0, 2: 0.1}, "b": {1: 0.9}, "c": {1: 1.1, 2: 0.2}}
    found = means(scores)
    assert found["b"] < found["a"] < found["c"], "b is better on the only seed that it ran"
    assert means(scores, paired=False)["a"] < means(scores, paired=False)["b"]


def test_with_complete_seeds_the_fit_gives_the_plain_means() -> None:
    scores = {"a": {1: 1.0, 2: 0.0}, "b": {1: 2.0, 2: 1.0}}
    assert means(scores) == pytest.approx(means(scores, paired=False))
