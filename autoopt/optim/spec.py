"""What autoopt knows about an optimizer, as frozen data. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal


class Need(StrEnum):
    """What an optimizer asks of the training loop."""

    SECOND_ORDER = "second-order gradient"
    CLOSURE = "closure"
    TRAIN_EVAL_MODE = "train/eval mode of the optimizer"
    MATRICES_ONLY = "matrices only (the rest goes to a companion)"
    OWN_SCHEDULE = "its own schedule (no decay from outside)"


@dataclass(frozen=True)
class Range:
    """A search range. `scale` says in which coordinate the range is uniform.

    "log": log x; "linear": x; "one_minus_log": log (1 - x), for betas near one.
    """

    low: float
    high: float
    scale: Literal["log", "linear", "one_minus_log"] = "log"

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"an empty range: {self.low} to {self.high}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"a logarithmic range starts above 0, not at {self.low}")
        if self.scale == "one_minus_log" and self.high >= 1:
            raise ValueError(f"a range in 1 - x ends below 1, not at {self.high}")


@dataclass(frozen=True)
class OptimSpec:
    """One row of the table of optimizers.

    Hyperparameters are flat floats: "lr", "weight_decay", "momentum", "beta1" ... Names `betaN` set element
    N - 1 of the constructor argument `betas`; all others are the constructor's own names.
    """

    name: str
    title: str
    target: str
    """Import string "module:attribute"."""
    package: str
    """Distribution that provides it, for the message when it is missing."""
    defaults: Mapping[str, Any]
    """Constructor arguments (lr included) that hold unless searched."""
    space: Mapping[str, Range]
    """Search ranges by flat name; "lr" is always among them."""
    state_tensors: float
    """Full-size state tensors per parameter tensor."""
    needs: frozenset[Need] = field(default_factory=frozenset)
    paper: str = ""
    summary: str = ""

    def __post_init__(self) -> None:
        if "lr" not in self.space or "lr" not in self.defaults:
            raise ValueError(f"{self.name}: a learning rate needs a default and a range")

    def arguments(self, hyper: Mapping[str, float]) -> dict[str, Any]:
        """Constructor arguments: the defaults with `hyper` laid over them.

        >>> spec = OptimSpec("x", "X", "m:X", "p", {"lr": 1.0, "betas": (0.9, 0.99)}, {"lr": Range(0.1, 1)}, 2)
        >>> spec.arguments({"lr": 0.5, "beta2": 0.95})
        {'lr': 0.5, 'betas': (0.9, 0.95)}
        """
        arguments = dict(self.defaults)
        for key, value in hyper.items():
            if key.startswith("beta") and key[4:].isdigit():
                betas = list(arguments["betas"])
                betas[int(key[4:]) - 1] = value
                arguments["betas"] = tuple(betas)
            else:
                arguments[key] = value
        return arguments
