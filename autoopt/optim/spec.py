"""What autoopt knows about an optimizer, as frozen data. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from autoopt import options
from autoopt.errors import UsageError


class Need(StrEnum):
    """What an optimizer asks of the training loop."""

    SECOND_ORDER = "second-order gradient"
    CLOSURE = "closure"
    TRAIN_EVAL_MODE = "train/eval mode of the optimizer"
    MATRICES_ONLY = "matrices only (the rest goes to a companion)"
    OWN_SCHEDULE = "its own schedule (no decay from outside)"
    ONE_RATE = "one learning rate for all parameters"


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

    def __contains__(self, value: object) -> bool:
        """Whether a number lies in the range, both ends included."""
        return isinstance(value, int | float) and self.low <= value <= self.high


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
    """Distribution that provides it, and from which version on: "torch>=2.9"."""
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

        for key in self.space:
            if key in options.NAMES:
                raise ValueError(f"{self.name}: {key} is the training's, not an optimizer's")
            if key not in self.start():
                raise ValueError(f"{self.name}: {key} has a range but no default")

    @property
    def distribution(self) -> str:
        """The name to install: "torch" of "torch>=2.9"."""
        return self.package.partition(">=")[0]

    @property
    def min_version(self) -> str:
        """The oldest version of the distribution that has it; empty if any has."""
        return self.package.partition(">=")[2]

    def flat(self) -> dict[str, float]:
        """Every numeric default by its flat name; flags and `None` left out.

        >>> spec = OptimSpec("x", "X", "m:X", "p", {"lr": 1, "betas": (0.9, 0.99)}, {"lr": Range(0.1, 1)}, 2)
        >>> spec.flat()
        {'lr': 1.0, 'beta1': 0.9, 'beta2': 0.99}
        """
        values: dict[str, float] = {}
        for key, value in self.defaults.items():
            if key == "betas":
                values.update({f"beta{i}": float(beta) for i, beta in enumerate(value, 1)})
            elif isinstance(value, int | float) and not isinstance(value, bool):
                values[key] = float(value)
        return values

    def start(self) -> dict[str, float]:
        """The defaults of what can be searched, learning rate first: where a search begins."""
        values = self.flat()
        return {key: values[key] for key in ("lr", *self.space) if key in values and key in self.space}

    def arguments(self, hyper: Mapping[str, float]) -> dict[str, Any]:
        """Constructor arguments: the defaults with `hyper` laid over them.

        >>> spec = OptimSpec("x", "X", "m:X", "p", {"lr": 1, "betas": (0.9, 0.99)}, {"lr": Range(0.1, 1)}, 2)
        >>> spec.arguments({"lr": 0.5, "beta2": 0.95})
        {'lr': 0.5, 'betas': (0.9, 0.95)}
        """
        arguments = dict(self.defaults)
        for key, value in hyper.items():
            if key.startswith("beta") and key[4:].isdigit():
                betas = list(arguments.get("betas", ()))
                if not 1 <= int(key[4:]) <= len(betas):
                    raise UsageError(f"{self.name} has no {key}.", f"It has {', '.join(self.flat())}.")
                betas[int(key[4:]) - 1] = value
                arguments["betas"] = tuple(betas)
            else:
                arguments[key] = value
        return arguments
