"""What is promised of a run whose losses follow a law that is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from autoopt.recommend.promise import promise
from autoopt.recommend.windows import CHECKPOINTS, Window, matched, mean_loss, of_run
from autoopt.records import BASELINE, Hyper, Outcome, TrialResult, TrialSpec
from autoopt.schedule import multiplier, warmup_steps
from autoopt.tuning.score import Score

TOTAL = 4000
HYPER: Hyper = {"lr": 1e-3, "weight_decay": 0.1}
SCORE = Score(2.3)


def trial(
    steps: int, seed: int = 0, noise: float = 0.02, hyper: Hyper = HYPER, **more: object
) -> TrialResult:
    """A loss that falls with the distance travelled, and at the end with the length."""
    luck = random.Random(f"{steps} {seed}")
    travelled, curve, warm, width = 0.0, [], warmup_steps(0.05, steps), max(1, steps // 100)
    for step in range(steps):
        rate = multiplier("cosine", step, steps, warm)
        travelled += rate
        if (step + 1) % width == 0:
            loss = 2.3 * (1 + travelled / 20) ** -0.3 * (0.7 + 0.3 * rate if step > steps / 2 else 1.0)
            curve.append((step + 1, loss * math.exp(luck.gauss(0, noise))))
    values: dict[str, object] = {
        "outcome": Outcome.COMPLETED,
        "loss": 3.0 * steps**-0.25 * math.exp(luck.gauss(0, noise)),
        "curve": curve,
    }
    spec = TrialSpec(id=0, stage="deepen", optimizer="adamw", hyper=hyper, steps=steps, seed=seed)
    return TrialResult.model_validate({"spec": spec, **values, **more})


def widths(results: list[TrialResult], hyper: Hyper = HYPER) -> dict[tuple[str, float], float]:
    return {(b.of, b.share): b.high / b.low for b in promise(results, "adamw", hyper, TOTAL, SCORE).bands}


def test_trials_of_the_real_length_promise_all_and_the_run_keeps_it() -> None:
    told = promise([trial(TOTAL, s) for s in range(3)], "adamw", HYPER, TOTAL, SCORE)
    assert told.notes == []
    assert [(b.of, b.share, b.begin, b.step) for b in told.bands] == [
        ("training loss", 0.01, 0, 40),
        ("training loss", 0.05, 40, 200),
        ("training loss", 0.10, 200, 400),
        ("training loss", 0.25, 400, 1000),
        ("training loss", 1.0, 3600, 4000),
        ("validation loss", 1.0, 3600, 4000),
    ]
    real = trial(TOTAL, 99)
    for band in told.bands:
        loss = (
            real.loss
            if band.of == "validation loss"
            else mean_loss(real.curve, Window(band.begin, band.step))
        )
        assert loss is not None
        assert 0 < band.low <= loss <= band.high


def test_short_trials_promise_the_first_steps_and_the_run_keeps_it() -> None:
    told = promise([trial(TOTAL // 8), trial(TOTAL // 4)], "adamw", HYPER, TOTAL, SCORE)
    real = trial(TOTAL, 99)
    for band in told.bands:
        loss = (
            real.loss
            if band.of == "validation loss"
            else mean_loss(real.curve, Window(band.begin, band.step))
        )
        assert loss is not None
        assert band.low <= loss <= band.high, band


def test_what_the_trials_are_too_short_for_is_not_promised_and_said() -> None:
    told = promise([trial(TOTAL // 40)], "adamw", HYPER, TOTAL, SCORE)
    said = {(b.of, b.share) for b in told.bands}
    assert ("training loss", 0.25) not in said
    assert ("validation loss", 1.0) not in said
    assert "training loss at 25 %" in told.notes[0]
    assert "validation loss at 100 %" in told.notes[0]


@pytest.mark.parametrize(
    "results",
    [
        [],
        [trial(TOTAL, outcome=Outcome.DIVERGED, loss=None)],
        [trial(TOTAL, hyper={**HYPER, "lr": 1e-1})],
        [trial(2 * TOTAL)],
    ],
)
def test_nothing_is_made_up(results: list[TrialResult]) -> None:
    told = promise(results, "adamw", HYPER, TOTAL, SCORE)
    assert told.bands == []
    assert len(told.notes) == 1


def test_a_neighbour_promises_less_surely_than_the_configuration() -> None:
    near = widths([trial(TOTAL)], {**HYPER, "lr": 2e-3})
    assert all(near[key] > width for key, width in widths([trial(TOTAL)]).items())


def test_a_shorter_trial_promises_the_end_less_surely() -> None:
    key = ("validation loss", 1.0)
    known = [trial(TOTAL // 4), trial(TOTAL // 2)]
    assert widths([*known, trial(TOTAL)])[key] < widths(known)[key] < widths([trial(TOTAL // 8)])[key]


def test_seeds_that_agree_narrow_a_band_and_those_that_do_not_widen_it() -> None:
    one = widths([trial(TOTAL, 0, 0.001)])
    calm = widths([trial(TOTAL, s, 0.001) for s in range(4)])
    wild = widths([trial(TOTAL, s, 1.5) for s in range(4)])
    for key, width in one.items():
        assert calm[key] < width < wild[key]


def test_the_order_of_trials_does_not_matter() -> None:
    results = [trial(TOTAL // 4), trial(TOTAL // 2), *(trial(TOTAL, s) for s in range(3))]
    told = promise(results, "adamw", HYPER, TOTAL, SCORE).bands
    for band, other in zip(told, promise(results[::-1], "adamw", HYPER, TOTAL, SCORE).bands, strict=True):
        assert (band.low, band.high) == pytest.approx((other.low, other.high))


def test_the_users_own_optimizer_without_a_rate_counts_when_it_is_the_same() -> None:
    own = trial(TOTAL)
    own = own.model_copy(update={"spec": own.spec.model_copy(update={"optimizer": BASELINE, "hyper": {}})})
    assert len(promise([own], BASELINE, {}, TOTAL, SCORE).bands) == 6


def test_a_metric_changes_no_promise_of_a_loss() -> None:
    by_metric = Score(2.3, ("accuracy", "max"), best=1.0)
    assert promise([trial(TOTAL)], "adamw", HYPER, TOTAL, by_metric) == promise(
        [trial(TOTAL)], "adamw", HYPER, TOTAL, SCORE
    )


def test_a_window_shorter_than_a_step_is_left_out() -> None:
    assert [of_run(share, 20) for share in CHECKPOINTS] == [
        None,
        Window(0, 1),
        Window(1, 2),
        Window(2, 5),
        Window(18, 20),
    ]


@pytest.mark.parametrize("share", [lambda n: n, lambda n: 8 * n])
def test_matched_windows_have_travelled_as_far(share: Callable[[int], int]) -> None:
    steps = 1000
    there = matched(Window(10, 50), share(steps), steps, "constant", 0.0)
    assert there is not None
    assert (there.begin, there.end) == pytest.approx((10, 50))


def test_a_window_far_behind_the_end_of_a_trial_matches_nothing() -> None:
    assert matched(Window(2000, 3000), 4000, 500, "cosine", 0.05) is None
