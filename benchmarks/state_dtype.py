"""What does bfloat16 state cost in final loss? One command, from the root of the repository:

    python -m benchmarks.state_dtype

Adan and SGD-SaI on two examples, state in float32 and in bfloat16, from the same start on the same batches for each
seed. The learning rate is the best of a few for float32 state, on a seed that is not among the others. The table
is printed and appended to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import importlib
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any

import torch

from autoopt.optim.adan import Adan
from autoopt.optim.sgd_sai import SGDSaI
from benchmarks.results import append, heading, machine
from benchmarks.table import T_95

SEEDS, TUNING_SEED = (4001, 4002, 4003, 4004), 4000
STEPS = {"char_gpt": 200, "digits_mlp": 1000}
DECAY = 0.01
MAKERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], tuple[float, ...]]] = {
    "Adan": (Adan, (3e-3, 1e-2, 3e-2)),
    "SGD-SaI": (SGDSaI, (1e-2, 3e-2, 1e-1)),
}
"""The optimizer and the learning rates to choose from."""


@dataclass(frozen=True)
class Line:
    """A row: final validation losses, seed by seed."""

    example: str
    optimizer: str
    lr: float
    single: list[float]
    half: list[float]


def final_loss(
    example: Any,
    make: Callable[..., torch.optim.Optimizer],
    lr: float,
    dtype: torch.dtype,
    seed: int,
    steps: int,
) -> float:
    """Validation loss after `steps` steps with a warm-up of a tenth, then linearly to 0."""
    torch.manual_seed(seed)
    model = example.build_model()
    optimizer = make(model.parameters(), lr=lr, weight_decay=DECAY, state_dtype=dtype)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min(1.0, 10 * (n + 1) / steps) * (1 - n / steps)
    )
    for batch in islice(chain.from_iterable(repeat(example.train_dataloader())), steps):
        optimizer.zero_grad()
        example.loss(model, batch).backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        # Weighted by the batches' sizes, of which the last is smaller.
        parts = [(len(batch[1]), example.loss(model, batch).item()) for batch in example.val_dataloader()]
    return sum(n * value for n, value in parts) / sum(n for n, _ in parts)


def interval(line: Line) -> tuple[float, float]:
    """Mean of (bfloat16 - float32) over the seeds, and half the width of its 95 % interval (Student's t)."""
    differences = [b - a for a, b in zip(line.single, line.half, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return statistics.mean(differences), T_95[len(differences) - 1] * error


def verdict(line: Line) -> str:
    """What the interval says."""
    mean, half = interval(line)
    if abs(mean) <= half:
        return "no difference seen"
    return "worse" if mean > 0 else "better"


def markdown(lines: list[Line]) -> str:
    """The table of RESULTS.md."""
    head = "| example | optimizer | lr | float32 state | bfloat16 state | difference (95 %) | bfloat16 is |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *map(_row, lines)]) + "\n"


def _row(line: Line) -> str:
    mean, half = interval(line)
    means = [f"{statistics.mean(v):.4f} ± {statistics.stdev(v):.4f}" for v in (line.single, line.half)]
    cells = (line.example, line.optimizer, f"{line.lr:g}", *means, f"{mean:+.4f} ± {half:.4f}", verdict(line))
    return f"| {' | '.join(cells)} |"


def measure(name: str, optimizer: str) -> Line:
    """One row."""
    example = importlib.import_module(f"examples.{name}.model")
    make, rates = MAKERS[optimizer]
    steps = STEPS[name]

    def run(lr: float, dtype: torch.dtype, seed: int) -> float:
        return final_loss(example, make, lr, dtype, seed, steps)

    lr = min(rates, key=lambda rate: run(rate, torch.float32, TUNING_SEED))
    losses = [[run(lr, dtype, seed) for seed in SEEDS] for dtype in (torch.float32, torch.bfloat16)]
    return Line(name, optimizer, lr, *losses)


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.state_dtype", description=__doc__).parse_args()
    torch.set_num_threads(1)
    begin, lines = time.monotonic(), []
    for name in STEPS:
        for optimizer in MAKERS:
            lines.append(measure(name, optimizer))
            print(markdown(lines[-1:]), flush=True)
    told = ", ".join(f"{name} {steps} steps" for name, steps in STEPS.items())
    append(
        heading("Dtype of the state", "python -m benchmarks.state_dtype")
        + f"One thread on {machine()}; {time.monotonic() - begin:.0f} s in all. {told}. Final validation loss, mean ± "
        f"standard deviation over {len(SEEDS)} seeds; the difference is paired by seed (same start, same batches). "
        "The learning rate is the best of three for float32 state on another seed.\n\n"
        + markdown(lines)
        + "\n"
    )


if __name__ == "__main__":
    main()
