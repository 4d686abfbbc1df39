"""Adan reaches Adam's final loss in half the steps (Xie et al. 2022, arXiv 2208.06677, section 5), and bears
large learning rates (figure 2 there). On examples/char_gpt, its model and its text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from autoopt.records import TrialResult
from autoopt.workload import load
from benchmarks.published.paired import difference
from benchmarks.published.trials import Bench, Contender, Tuned, arm, grid, shown, trainer
from benchmarks.results import ROOT

STEPS = 500
TUNING, SEEDS = (0,), (3001, 3002, 3003, 3004, 3005)
LARGE = (4, 16)
"""Multiples of the best rate at which tolerance is measured."""

_ADAM = grid((1e-3, 2e-3, 4e-3, 8e-3), weight_decay=[0.0], beta2=[0.999, 0.95])
_ADAMW = grid((1e-3, 2e-3, 4e-3, 8e-3), weight_decay=[0.1], beta2=[0.999, 0.95])
_ADAN = grid((4e-3, 8e-3, 1.6e-2, 3.2e-2), weight_decay=[0.0], beta1=[0.98, 0.9])
# Adam is AdamW without decay.
ADAM, ADAMW = Contender("Adam", "adamw", STEPS, _ADAM), Contender("AdamW", "adamw", STEPS, _ADAMW)
ADAN = Contender("Adan", "adan", STEPS, _ADAN)
HALF_ADAN = Contender("Adan, half the steps", "adan", STEPS // 2, _ADAN)
HALF_ADAM = Contender("Adam, half the steps", "adamw", STEPS // 2, _ADAM)
ALL = (ADAM, ADAMW, ADAN, HALF_ADAN, HALF_ADAM)
POINTS = 10


def measure(kept: Path | None = None) -> str:
    """Tables and what they say."""
    work = sum(c.steps * (len(c.grid) * len(TUNING) + len(SEEDS)) for c in ALL)
    work += 2 * len(LARGE) * len(TUNING) * STEPS
    workload = load(str(ROOT / "examples/char_gpt/model.py"))
    try:
        bench = Bench("gpt", trainer(workload), work, kept)
        tuned = {c: bench.tune(c, TUNING) for c in ALL}
        results = {c: bench.score(c, tuned[c].best, SEEDS) for c in ALL}
        large = {c: _large(bench, c, tuned[c]) for c in (ADAM, ADAN)}
    finally:
        workload.close()
    return "\n".join([_losses(tuned, results), _curves(results), _tolerance(tuned, large)])


def _large(bench: Bench, contender: Contender, tuned: Tuned) -> Tuned:
    best = tuned.best
    rates = tuple(best | {"lr": best["lr"] * factor} for factor in LARGE)
    return bench.tune(Contender(contender.title, contender.optimizer, contender.steps, rates), TUNING)


def _losses(tuned: dict[Contender, Tuned], results: dict[Contender, list[TrialResult]]) -> str:
    reference = [result.loss for result in results[ADAM]]
    rows = [
        f"Each tuned over {len(_ADAM)} settings on seed {TUNING[0]}; validation loss, mean ± standard "
        f"deviation, on {len(SEEDS)} other seeds; difference seed by seed, its 95 % interval.",
        "",
        "| optimizer | steps | best settings | validation loss | minus Adam's |",
        "|---|---|---|---|---|",
    ]
    for contender, found in results.items():
        edge = " (edge of the grid)" if tuned[contender].at_edge() else ""
        gap = "-" if contender is ADAM else difference([result.loss for result in found], reference)
        loss = str(arm(found)).split(";")[0]
        settings = shown(tuned[contender].best) + edge
        rows.append(f"| {contender.title} | {contender.steps} | {settings} | {loss} | {gap or 'diverged'} |")
    return "\n".join([*rows, "", _verdict(results), ""])


def _verdict(results: dict[Contender, list[TrialResult]]) -> str:
    def gap(ours: Contender, theirs: Contender) -> str:
        found = difference([r.loss for r in results[ours]], [r.loss for r in results[theirs]])
        return "a run diverged" if found is None else f"{found.verdict}, {found}"

    half = difference([r.loss for r in results[HALF_ADAN]], [r.loss for r in results[ADAM]])
    holds = half is not None and half.verdict != "higher"
    return (
        f"Half the steps for Adam's loss: {'holds' if holds else 'does not hold'} here "
        f"(Adan after {STEPS // 2} steps against Adam after {STEPS}: {gap(HALF_ADAN, ADAM)}). "
        f"At equal steps Adan's loss is: at {STEPS} {gap(ADAN, ADAM)}; "
        f"at {STEPS // 2} {gap(HALF_ADAN, HALF_ADAM)}. {_equal(results)}"
    )


def _equal(results: dict[Contender, list[TrialResult]]) -> str:
    short, long, target = (arm(results[c]).loss for c in (HALF_ADAN, ADAN, ADAM))
    steps = steps_for(target, short, long, STEPS)
    if steps is None:
        return "Adam's loss does not lie between Adan's two."
    return (
        f"Interpolated between Adan's two losses, it takes {steps:.0f} steps ({steps / STEPS:.0%}) to Adam's."
    )


def steps_for(target: float, short: float, long: float, steps: int) -> float | None:
    """Steps to `target` when half of `steps` reach `short` and all `long`, linear in their logarithm.

    None where `target` is not between the two: nothing is extrapolated.

    >>> steps_for(2.0, 2.5, 1.5, 400)
    282.842712474619
    """
    if not long <= target <= short or long == short or math.isinf(short):
        return None
    return float(steps / 2 * 2 ** ((short - target) / (short - long)))


def tenths(results: Sequence[TrialResult], width: int) -> dict[int, float]:
    """Mean training loss over the seeds in each `width` steps, by the step that ends them."""
    found: dict[int, list[float]] = {}
    for result in results:
        for step, loss in result.curve:
            found.setdefault(-(-step // width) * width, []).append(loss)
    return {step: statistics.fmean(losses) for step, losses in sorted(found.items())}


def _curves(results: dict[Contender, list[TrialResult]]) -> str:
    width = STEPS // POINTS
    curves = {c: tenths(found, width) for c, found in results.items()}
    rows = [
        f"Training loss against steps: the mean over the {width} steps that end there and over the seeds "
        "(no batch comes twice).",
        "",
        f"| step | {' | '.join(c.title for c in curves)} |",
        f"|{'---|' * (len(curves) + 1)}",
    ]
    for step in range(width, STEPS + 1, width):
        cells = [f"{curve[step]:.3f}" if step in curve else "-" for curve in curves.values()]
        rows.append(f"| {step} | {' | '.join(cells)} |")
    return "\n".join([*rows, ""])


def _tolerance(tuned: dict[Contender, Tuned], large: dict[Contender, Tuned]) -> str:
    rows = [
        f"Large learning rates, validation loss on seed {TUNING[0]} after {STEPS} steps:",
        "",
        f"| optimizer | best rate | at best | {' | '.join(f'at {f} x best' for f in LARGE)} |",
        f"|{'---|' * (3 + len(LARGE))}",
    ]
    for contender, beyond in large.items():
        best = tuned[contender].best
        at_best = min(loss for _, loss in tuned[contender].losses)
        cells = [f"{loss:.3f}" for _, loss in beyond.losses]
        rows.append(f"| {contender.title} | {best['lr']:.3g} | {at_best:.3f} | {' | '.join(cells)} |")
    return "\n".join([*rows, ""])
