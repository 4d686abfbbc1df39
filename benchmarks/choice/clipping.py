"""Where clipping helps, how that could be told before the first trial, and at which norm. From the root:

    python -m benchmarks.choice.clipping                       # all workloads, printed
    python -m benchmarks.choice.clipping --only elman --record # one, added to benchmarks/RESULTS.md

Each workload without its own CLIP: gradient norms of the calibration's steps (at rate 0, as a profile takes them) and of
a whole run; then whole runs clipped at multiples of the calibration's median norm. AdamW and SGD at the best rate
of the tables (or of a few rates here, unclipped), and at three times that.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from autoopt.records import Flags, TrialResult, TrialSpec
from autoopt.trials.execute import execute
from autoopt.workload import Workload, load
from benchmarks import results
from benchmarks.choice import rows

COMMAND = "python -m benchmarks.choice.clipping"
HERE = Path(__file__).parent
SPIKY = {
    "elman": ("elman", ()),
    "outliers": ("outliers", ()),
    **{f"outliers_{size}": ("outliers", (str(size),)) for size in (3, 10, 30, 100)},
}
"""name -> (file, its arguments): labels wrong by other sizes."""
TABLED = ("recurrent", "gpt", "vit", "deep", "conv", "regression", "pinn", "autoencoder")
MULTIPLES = (0.5, 1.0, 2.0, 5.0)
_RATES = {"adamw": (1e-3, 3e-3, 1e-2), "sgd": (1e-3, 1e-2, 1e-1)}
"""Where no table tells the best."""


@dataclass(frozen=True)
class Line:
    """One optimizer at one rate on one workload; losses are means over seeds, None where a run diverged."""

    workload: str
    optimizer: str
    rate: float
    calibration: list[float]
    norms: list[float]
    plain: float | None
    clipped: dict[float, float | None]


def main() -> None:
    flags = _flags()
    torch.set_num_threads(1)
    begin, found = time.monotonic(), list[Line]()
    for name in flags.only:
        found += list(measured(name, flags.seeds))
        print(_table(found[-4:]), flush=True)
    told = f"{COMMAND} --only {' '.join(flags.only)} --seeds {flags.seeds}"
    text = f"{results.machine()}; {time.monotonic() - begin:.0f} s.\n\n{_table(found)}\n"
    if flags.record:
        results.append(results.heading("Clipping", told) + text)
    else:
        print(text)


def measured(name: str, seeds: int) -> Iterator[Line]:
    """The lines of a workload."""
    file, arguments = SPIKY.get(name, (name, ()))
    folder = HERE / ("spiky" if name in SPIKY else "workloads")
    workload = load(str(folder / f"{file}.py"), arguments, flags=Flags())
    try:
        first = _calibration(workload)
        middle = statistics.median(first)
        for optimizer in ("adamw", "sgd"):
            best = _best_rate(name, optimizer, workload)
            for rate in (best, 3 * best):
                norms: list[float] = []
                plain = _mean(_runs(workload, optimizer, rate, 0.0, seeds, norms))
                clipped = {k: _mean(_runs(workload, optimizer, rate, k * middle, seeds)) for k in MULTIPLES}
                yield Line(name, optimizer, rate, first, norms, plain, clipped)
    finally:
        workload.close()


def _best_rate(name: str, optimizer: str, workload: Workload) -> float:
    if name not in SPIKY:
        full = [
            r
            for r in rows.read(rows.TABLES / f"{name}.json.gz")
            if r["optimizer"] == optimizer and r["length_fraction"] == 1 and r["loss"] is not None
        ]
        return float(min(full, key=lambda r: r["loss"])["settings"]["lr"])
    losses = {rate: _mean(_runs(workload, optimizer, rate, 0.0, 1)) or math.inf for rate in _RATES[optimizer]}
    return min(losses, key=lambda rate: losses[rate])


def _calibration(workload: Workload) -> list[float]:
    """Gradient norms at the initial weights, of as many batches as a profile's calibration takes."""
    model, norms = workload.start(0, 100), list[float]()
    batches = workload.batches(0)
    for _ in range(13):
        model.zero_grad(set_to_none=True)
        workload.loss(model, next(batches)).backward()
        norms.append(_norm(model))
    batches.close()
    return norms


def _runs(
    workload: Workload, optimizer: str, rate: float, clip: float, seeds: int, norms: list[float] | None = None
) -> Iterator[float | None]:
    """Final losses; `norms` gets the gradient norms of every step."""
    after = workload.after_step

    def watched(model: torch.nn.Module) -> None:
        if norms is not None:
            norms.append(_norm(model))
        after(model)

    workload.after_step = watched  # type: ignore[method-assign]
    for seed in range(seeds):
        spec = TrialSpec(
            id=1,
            stage="race 1",
            optimizer=optimizer,
            hyper={"lr": rate, "clip": clip},
            steps=workload.settings.steps,
            seed=seed,
        )
        result = next(item for item in execute(workload, spec) if isinstance(item, TrialResult))
        yield result.loss
    workload.after_step = after  # type: ignore[method-assign]


def _norm(model: torch.nn.Module) -> float:
    return math.sqrt(
        sum(float(p.grad.double().square().sum()) for p in model.parameters() if p.grad is not None)
    )


def _mean(losses: Iterator[float | None]) -> float | None:
    found = list(losses)
    kept = [x for x in found if x is not None]
    return statistics.fmean(kept) if len(kept) == len(found) else None


def _ratio(norms: list[float]) -> str:
    finite = [n for n in norms if math.isfinite(n)]
    shown = f"{max(finite) / statistics.median(finite):.3g}"
    return shown if len(finite) == len(norms) else shown + " and not finite"


def _table(found: list[Line]) -> str:
    head = " | ".join(f"at {k:g}x" for k in MULTIPLES)
    lines = [
        f"| workload | optimizer | rate | median norm at first | largest / median at first | median norm, whole run | "
        f"largest / median, whole run | not clipped | {head} |",
        "|---" * (8 + len(MULTIPLES)) + "|",
    ]
    for x in found:
        cells = [
            x.workload,
            x.optimizer,
            f"{x.rate:.3g}",
            f"{statistics.median(x.calibration):.3g}",
            _ratio(x.calibration),
        ]
        cells += [f"{statistics.median(x.norms):.3g}", _ratio(x.norms), _loss(x.plain)]
        lines.append(f"| {' | '.join([*cells, *(_loss(v) for v in x.clipped.values())])} |")
    return "\n".join(lines)


def _loss(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.4g}"


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[*SPIKY, *TABLED], choices=[*SPIKY, *TABLED])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--record", action="store_true", help="add to benchmarks/RESULTS.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
