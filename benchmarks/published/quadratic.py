"""AdaHessian on an ill-conditioned quadratic, against Adam and SGD (Yao et al. 2021, arXiv 2006.00719, section 4).

1/2 x'Ax with eigenvalues from 1 to 1e4: A diagonal, where z * (Hz) is the Hessian itself; in rotated blocks of
ten neighbouring eigenvalues; and rotated as a whole, where the diagonal knows next to nothing of the eigenvalues.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from autoopt.optim.adahessian import AdaHessian
from benchmarks.published.progress import Progress

SIZE, CONDITION = 100, 1e4
TARGET, LIMIT = 1e-6, 2000
"""Loss as a share of the first one that counts as solved, and the steps that there are for it."""
RATES = tuple(10 ** (k / 4) for k in range(-20, 5))
"""1e-5 to 10, the same for all three."""
STARTS = (1, 2, 3, 4, 5)

Make = Callable[[list[nn.Parameter], float, int], torch.optim.Optimizer]
"""Parameters, learning rate, seed."""


def _adahessian(params: list[nn.Parameter], lr: float, seed: int) -> torch.optim.Optimizer:
    generator = torch.Generator().manual_seed(seed)
    return AdaHessian(params, lr=lr, hessian="double_backward", generator=generator)


OPTIMIZERS: dict[str, Make] = {
    "SGD(momentum 0.9)": lambda params, lr, _: torch.optim.SGD(params, lr=lr, momentum=0.9),
    "Adam": lambda params, lr, _: torch.optim.Adam(params, lr=lr),
    "AdaHessian": _adahessian,
}


@dataclass(frozen=True)
class Descent:
    """Steps until the target (None: not within the limit), and the loss then, as a share of the first."""

    steps: int | None
    loss: float

    def key(self) -> tuple[float, float]:
        """Smaller is better."""
        return (math.inf if self.steps is None else self.steps, self.loss)


def matrices() -> dict[str, Tensor]:
    """The three problems, in float64."""
    eigenvalues = torch.logspace(0, math.log10(CONDITION), SIZE, dtype=torch.float64)
    blocks = [_rotated(part, seed) for seed, part in enumerate(eigenvalues.split(10))]
    return {
        "diagonal": torch.diag(eigenvalues),
        "rotated in blocks of 10": torch.block_diag(*blocks),
        "rotated": _rotated(eigenvalues, 0),
    }


def _rotated(eigenvalues: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    n = len(eigenvalues)
    rotation = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    return rotation @ torch.diag(eigenvalues) @ rotation.T


def descend(matrix: Tensor, make: Make, lr: float, seed: int, limit: int = LIMIT) -> Descent:
    """From a normal start at a constant rate, until the target, the limit, or a loss that has exploded."""
    generator = torch.Generator().manual_seed(seed)
    x = nn.Parameter(torch.randn(len(matrix), generator=generator, dtype=torch.float64))
    optimizer = make([x], lr, seed)
    exact = isinstance(optimizer, AdaHessian)

    def closure() -> Tensor:
        # The gradient by hand for the first-order ones; AdaHessian differentiates the loss by itself.
        loss = 0.5 * (x @ matrix @ x) if exact else 0.5 * (x.detach() @ matrix @ x.detach())
        if not exact:
            x.grad = matrix @ x.detach()
        return loss

    first = share = 0.0
    for step in range(limit + 1):
        loss = float(optimizer.step(closure))  # the loss before this step
        first = first or loss
        share = loss / first
        if share <= TARGET:
            return Descent(step, share)
        if not share < 1e6:
            return Descent(None, math.inf)
    return Descent(None, share)


def tune(matrix: Tensor, make: Make) -> float:
    """The best rate of the grid on start 0; a run that is slower than the best so far is cut short."""
    best, limit = (Descent(None, math.inf), RATES[0]), LIMIT
    for lr in RATES:
        found = descend(matrix, make, lr, 0, limit)
        if found.key() < best[0].key():
            best = (found, lr)
            limit = found.steps or limit
    return best[1]


def measure(kept: Path | None = None) -> str:  # noqa: ARG001 - quick enough to be done again
    """The table and what it says."""
    problems = matrices()
    progress = Progress("quadratic", len(problems) * len(OPTIMIZERS))
    rows = [
        f"{SIZE} dimensions, eigenvalues 1 to {CONDITION:g}; constant rate, the best of {len(RATES)} (1e-5 to "
        f"10) on start 0; then {len(STARTS)} other starts: median (smallest to largest) of the steps to "
        f"{TARGET:g} of the first loss, at most {LIMIT}.",
        "",
        "| A | optimizer | rate | steps | loss left, share of the first |",
        "|---|---|---|---|---|",
    ]
    said = []
    for problem, matrix in problems.items():
        medians = {}
        for name, make in OPTIMIZERS.items():
            lr = tune(matrix, make)
            found = [descend(matrix, make, lr, seed) for seed in STARTS]
            medians[name] = statistics.median(math.inf if run.steps is None else run.steps for run in found)
            rows.append(f"| {problem} | {name} | {lr:.3g} | {_steps(found)} | {_left(found)} |")
            progress.add(1, f"{problem}, {name}: {_steps(found)}")
        said.append(f"{problem}: {_verdict(medians)}")
    return "\n".join(
        [*rows, "", "AdaHessian beside Adam and SGD, by the medians: " + "; ".join(said) + ".", ""]
    )


def _steps(found: list[Descent]) -> str:
    steps = [run.steps for run in found if run.steps is not None]
    if len(steps) < len(found):
        return f"not reached in {len(found) - len(steps)} of {len(found)}"
    return f"{statistics.median(steps):g} ({min(steps)} to {max(steps)})"


def _left(found: list[Descent]) -> str:
    return f"{statistics.median(run.loss for run in found):.1e}"


def _verdict(medians: dict[str, float]) -> str:
    ours = medians["AdaHessian"]
    parts = []
    for name in ("Adam", "SGD(momentum 0.9)"):
        if math.isinf(ours):
            parts.append(f"it does not arrive ({name} {'neither' if math.isinf(medians[name]) else 'does'})")
        elif math.isinf(medians[name]):
            parts.append(f"{name} does not arrive, it does")
        else:
            parts.append(f"{name} takes {medians[name] / ours:.2g} times its steps")
    return ", ".join(parts)
