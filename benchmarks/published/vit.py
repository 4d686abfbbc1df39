"""SGD-SaI keeps up with AdamW on a vision transformer with half the state (Xu et al. 2024, arXiv 2412.11768,
tables 1 and 2), and its ratio r is close to sqrt(n) in every tensor."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

from autoopt.optim.sgd_sai import SGDSaI
from autoopt.records import TrialResult
from autoopt.workload import Workload, load
from benchmarks.published.paired import difference
from benchmarks.published.trials import Bench, Contender, Tuned, arm, grid, shown, trainer

MODEL = Path(__file__).with_name("vit_model.py")
STEPS, DECAY = 600, 0.05
TUNING, SEEDS = (0,), (3001, 3002, 3003, 3004, 3005)
LONGER, LONG_SEEDS = 3, SEEDS[:3]
"""The same rates for so many times the steps: is a gap one of the method, or of a run that is too short for it?"""
ADAMW = Contender("AdamW", "adamw", STEPS, grid((5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2), weight_decay=[DECAY]))
SAI = Contender(
    "SGD-SaI", "sgd_sai", STEPS, grid((2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2), weight_decay=[DECAY])
)


def measure(kept: Path | None = None) -> str:
    """Tables and what they say."""
    longer = {c: replace(c, steps=LONGER * STEPS) for c in (ADAMW, SAI)}
    work = 2 * LONGER * STEPS * len(LONG_SEEDS) + sum(
        c.steps * (len(c.grid) * len(TUNING) + len(SEEDS)) for c in (ADAMW, SAI)
    )
    workload = load(str(MODEL))
    try:
        bench = Bench("vit", trainer(workload), work, kept)
        tuned = {c: bench.tune(c, TUNING) for c in (ADAMW, SAI)}
        results = {c: bench.score(c, tuned[c].best, SEEDS) for c in (ADAMW, SAI)}
        long = {c: bench.score(longer[c], tuned[c].best, LONG_SEEDS) for c in (ADAMW, SAI)}
        spread = ratios(workload)
    finally:
        workload.close()
    return "\n".join([_table(tuned, results), _long(long), _rates(tuned), _ratio(spread), ""])


def ratios(workload: Workload) -> list[float]:
    """r / sqrt(n) of every tensor of more than one element, from the first batch of each seed."""
    found = []
    for seed in SEEDS:
        model = workload.start(seed, STEPS)
        # Without a bound, so that nothing hides what was measured.
        optimizer = SGDSaI(model.parameters(), max_ratio=None)
        workload.loss(model, next(workload.batches(seed))).backward()
        optimizer.step()
        sizes = ((optimizer.state[p]["ratio"].item(), p.numel()) for p in model.parameters() if p.numel() > 1)
        found += [ratio / n**0.5 for ratio, n in sizes]
    return found


def _table(tuned: dict[Contender, Tuned], results: dict[Contender, list[TrialResult]]) -> str:
    rows = [
        f"Each tuned over {len(ADAMW.grid)} learning rates on seed {TUNING[0]}, then {STEPS} "
        f"steps on {len(SEEDS)} other seeds: mean ± standard deviation. State: bytes of all state tensors.",
        "",
        "| optimizer | best settings | validation loss | accuracy | state |",
        "|---|---|---|---|---|",
    ]
    for contender, found in results.items():
        edge = " (edge of the grid)" if tuned[contender].at_edge() else ""
        loss = str(arm(found)).split(";")[0]
        hits = [result.metric for result in found if result.metric is not None]
        accuracy = f"{statistics.fmean(hits):.4f} ± {statistics.stdev(hits):.2g}" if len(hits) > 1 else "-"
        settings = shown(tuned[contender].best) + edge
        rows.append(f"| {contender.title} | {settings} | {loss} | {accuracy} | {found[0].state_bytes} |")
    return "\n".join([*rows, "", _verdict(results), ""])


def _long(results: dict[Contender, list[TrialResult]]) -> str:
    losses = "; ".join(f"{c.title} {str(arm(found)).split(';')[0]}" for c, found in results.items())
    head = f"{LONGER} times the steps at the same rates, {len(LONG_SEEDS)} seeds, validation loss: {losses}."
    return f"{head} {_verdict(results)}\n"


def _verdict(results: dict[Contender, list[TrialResult]]) -> str:
    loss = difference([r.loss for r in results[SAI]], [r.loss for r in results[ADAMW]])
    hits = difference([r.metric for r in results[SAI]], [r.metric for r in results[ADAMW]])
    ours, theirs = (results[c][0].state_bytes or 0 for c in (SAI, ADAMW))
    share = f"State: {ours / theirs:.3f} of AdamW's." if theirs else ""
    if loss is None or hits is None:
        return f"A run diverged, so there is no interval. {share}"
    holds = "holds" if loss.verdict != "higher" and hits.verdict != "lower" else "does not hold"
    return (
        f"Within noise of AdamW: {holds} here. SGD-SaI minus AdamW, seed by seed, with the 95 % interval: "
        f"loss {loss}, {loss.verdict}; accuracy {hits}, {hits.verdict}. {share}"
    )


def _rates(tuned: dict[Contender, Tuned]) -> str:
    rows = ["| optimizer | tuning: learning rate: loss |", "|---|---|"]
    for contender, found in tuned.items():
        cells = ", ".join(f"{hyper['lr']:.3g}: {loss:.3f}" for hyper, loss in found.losses)
        rows.append(f"| {contender.title} | {cells} |")
    return "\n".join([*rows, ""])


def _ratio(found: list[float]) -> str:
    low, median, high = min(found), statistics.median(found), max(found)
    return (
        f"r / sqrt(n) over the {len(found)} tensors of {len(SEEDS)} seeds: {low:.3f} to {high:.3f}, "
        f"median {median:.3f}."
    )
