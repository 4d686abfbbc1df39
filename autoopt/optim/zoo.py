"""Any optimizer of three large collections, described by its constructor's signature."""

from __future__ import annotations

import importlib
import inspect
from difflib import get_close_matches
from typing import Any

from autoopt.errors import OptimizerUnavailable, UnknownOptimizer
from autoopt.optim.spec import Need, OptimSpec, Range

PACKAGES: dict[str, tuple[str, ...]] = {
    "pytorch_optimizer": ("pytorch_optimizer",),
    "torchao": ("torchao.optim", "torchao.prototype.low_bit_optim"),  # moved in torchao 0.9
    "bitsandbytes": ("bitsandbytes.optim",),
}
"""Prefix of a name -> modules where its class may be."""

LR_DECADES = 2.0
"""The range of the learning rate reaches so far to both sides of the constructor's default."""


def describe(name: str) -> OptimSpec:
    """`package:Class` as an OptimSpec, with the signature's defaults and a generic search space.

    The number of state tensors is unknown before a step is taken; 2, Adam's, is assumed.

    Raises:
        UnknownOptimizer: no such package here, or no such class in it.
        OptimizerUnavailable: the package is not installed, or the class needs more than parameters.
    """
    prefix, _, attribute = name.partition(":")
    if prefix not in PACKAGES:
        raise UnknownOptimizer(
            f"There is no optimizer {name!r}: {prefix!r} is not a known collection.",
            f"Write package:Class with one of {', '.join(PACKAGES)}.",
        )
    module = _module(prefix, name)
    class_ = getattr(module, attribute, None)
    if not _is_optimizer(class_):
        known = sorted(key for key, value in vars(module).items() if _is_optimizer(value))
        near = get_close_matches(attribute, known, n=3, cutoff=0.5)
        raise UnknownOptimizer(
            f"{prefix} has no optimizer {attribute!r}.",
            f"Did you mean {' or '.join(near)}?" if near else f"It has {', '.join(known)}.",
        )
    return _from_signature(name, f"{module.__name__}:{attribute}", prefix, class_)


def _module(prefix: str, name: str) -> Any:
    problem: ImportError | None = None
    for candidate in PACKAGES[prefix]:
        try:
            return importlib.import_module(candidate)
        except ImportError as error:
            problem = problem or error
    raise OptimizerUnavailable(
        f"{name} cannot be used: {problem}.", f"Install it with `pip install {prefix}`, or leave it out."
    )


def _is_optimizer(value: Any) -> bool:
    from torch.optim import Optimizer

    return isinstance(value, type) and issubclass(value, Optimizer)


def _from_signature(name: str, target: str, package: str, class_: Any) -> OptimSpec:
    parameters = list(inspect.signature(class_).parameters.values())[1:]
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    missing = [p.name for p in named if p.default is p.empty and p.name != "lr"]
    takes = {p.name: p.default for p in named}
    if missing or "lr" not in takes:
        reason = f"needs {', '.join(missing)}" if missing else "takes no learning rate"
        raise OptimizerUnavailable(
            f"{name} cannot be built from a model's parameters alone: it {reason}.",
            "Wrap it in a class of your own and add that by the entry point `autoopt.optimizers`.",
        )
    rate = takes["lr"] if isinstance(takes["lr"], int | float) and takes["lr"] > 0 else 1e-3
    defaults: dict[str, Any] = {"lr": float(rate)}
    space = {"lr": Range(rate / 10**LR_DECADES, rate * 10**LR_DECADES)}
    betas = takes.get("betas")
    if isinstance(betas, tuple | list) and all(isinstance(b, float) and 0 < b < 1 for b in betas):
        defaults["betas"] = tuple(betas)
        space |= {f"beta{i}": _around(beta) for i, beta in enumerate(betas, 1)}
    if isinstance(takes.get("weight_decay"), int | float):
        # A default of 0 is no starting point in a logarithmic range.
        defaults["weight_decay"] = min(max(float(takes["weight_decay"]), 1e-3), 0.5)
        space["weight_decay"] = Range(1e-4, 0.5)
    return OptimSpec(
        name=name,
        title=target.partition(":")[2],
        target=target,
        package=package,
        defaults=defaults,
        space=space,
        state_tensors=2,
        needs=_needs(class_, takes),
        summary=f"Of {package}; described by its constructor.",
    )


def _around(beta: float) -> Range:
    """A factor of ten in 1 - beta to both sides, kept above a half."""
    return Range(max(0.5, 1 - 10 * (1 - beta)), 1 - (1 - beta) / 10, "one_minus_log")


def _needs(class_: Any, takes: dict[str, Any]) -> frozenset[Need]:
    needs = set()
    if callable(getattr(class_, "train", None)) and callable(getattr(class_, "eval", None)):
        needs.add(Need.TRAIN_EVAL_MODE)
        if "schedulefree" in class_.__name__.lower():
            needs.add(Need.OWN_SCHEDULE)
    if any("hessian" in key for key in takes):
        needs.add(Need.SECOND_ORDER)
    closure = inspect.signature(class_.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        needs.add(Need.CLOSURE)
    return frozenset(needs)
