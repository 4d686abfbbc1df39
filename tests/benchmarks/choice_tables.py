"""Small tables with known surfaces, in the format that is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autoopt.optim import registry
from benchmarks.choice.surface import Surface

INITIAL = 2.0
STEPS = 800
Loss = Callable[[float, int], float | None]
"""(log10 of the rate over the optimizer's start, steps) -> loss; None: diverges."""


def bowl(floor: float, centre: float = 0.0, drift: float = 0.0, edge: float = math.inf) -> Loss:
    """A parabola in log rate whose bottom falls with the steps, and moves by `drift` decades per halving."""

    def loss(x: float, steps: int) -> float | None:
        halvings = math.log2(STEPS / steps)
        if x > edge + drift * halvings:
            return None
        return floor * 1.5**halvings * (1 + 2 * (x - centre - drift * halvings) ** 2)

    return loss


def row(
    name: str, rate: float, steps: int, seed: int, loss: float | None, seconds: float = 0.01
) -> dict[str, Any]:
    return {
        "workload": "toy",
        "optimizer": name,
        "settings": {**({"weight_decay": 0.05}), "lr": rate},
        "steps": steps,
        "length_fraction": steps / STEPS,
        "seed": seed,
        "loss": loss,
        "initial_loss": INITIAL,
        "metric": None,
        "diverged": loss is None,
        "seconds": seconds * steps * (0.5 if loss is None else 1.0),
        "startup_seconds": 0.0,
        "evaluate_seconds": 0.0,
        "steps_done": steps // 2 if loss is None else steps,
        "curve": [(0.1, 0.5 * (INITIAL + (loss or INITIAL))), (1.0, loss or INITIAL)],
    }


def rates(name: str) -> list[float]:
    start = registry.get(name).start()["lr"]
    return [float(f"{start * 10 ** (i / 2):.3g}") for i in range(-3, 4)]


def rows(
    losses: Mapping[str, Loss], noise: Sequence[float] = (), parts: Sequence[int] = (8, 4, 2, 1)
) -> list[dict[str, Any]]:
    """A whole table.

    Args:
        losses: of each optimizer.
        noise: relative deviations of the seeds 1, 2, ... at full length, alternating over rates.
        parts: the lengths are the full one divided by these.
    """
    found = []
    for name, loss in losses.items():
        start = registry.get(name).start()["lr"]
        for number, rate in enumerate(rates(name)):
            x = math.log10(rate / start)
            for part in parts:
                found.append(row(name, rate, STEPS // part, 0, loss(x, STEPS // part)))
            for seed, part in enumerate(noise, 1):
                whole = loss(x, STEPS)
                found.append(row(name, rate, STEPS, seed, whole and whole * (1 + part * (-1) ** number)))
    return found


def surface(losses: Mapping[str, Loss], noise: Sequence[float] = (), name: str = "toy") -> Surface:
    return Surface(name, rows(losses, noise))


EASY = {"adamw": bowl(0.3), "sgd": bowl(0.4, 0.5), "muon": bowl(0.1, -0.5), "lion": bowl(0.35)}
TRAP = {"adamw": bowl(0.1, 0.5, 0.25, edge=0.75), "sgd": bowl(0.15), "muon": bowl(0.12)}
"""AdamW's best rate at an eighth of the length diverges at the full one."""
