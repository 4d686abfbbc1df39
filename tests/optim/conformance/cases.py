"""Every optimizer of the table in the forms in which it can be asked for, and one way to drive them all."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from autoopt.optim import groups, registry
from autoopt.optim.build import build
from autoopt.optim.catalog import TABLE
from autoopt.optim.spec import Need, OptimSpec
from autoopt.training import set_mode

OWN = ("muon", "adan", "adahessian", "sgd_sai")

VARIANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("sgd", "foreach", {"foreach": True}),
    ("sgd", "fused", {"fused": True}),
    ("adamw", "foreach", {"foreach": True}),
    ("adamw", "fused", {"fused": True}),
    ("adagrad", "fused", {"fused": True}),
    ("adan", "foreach", {"foreach": True}),
    ("adan", "loop", {"foreach": False}),
    ("adan", "fused", {"fused": True}),
    ("adan", "clipped", {"max_grad_norm": 1.0, "no_prox": True}),
    ("sgd_sai", "foreach", {"foreach": True}),
    ("sgd_sai", "loop", {"foreach": False}),
    ("sgd_sai", "fused", {"fused": True}),
    ("sgd_sai", "normalized", {"normalize": True}),
    ("sgd_sai", "bare", {"momentum": 0.0}),
    ("adahessian", "differences", {"hessian": "finite_difference"}),
    ("adahessian", "lazy", {"update_each": 3}),
)
"""(optimizer, suffix, constructor arguments) beside the defaults; one that the class does not take is left out."""


@dataclass(frozen=True)
class Case:
    """One optimizer with constructor arguments of its own."""

    name: str
    spec: OptimSpec
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def second_order(self) -> bool:
        """Whether it takes the loss as a closure, as the training loop gives it."""
        return Need.SECOND_ORDER in self.spec.needs

    @property
    def takes(self) -> set[str]:
        """The names of the constructor's arguments."""
        return set(inspect.signature(registry.load_class(self.spec)).parameters)

    def make(self, params: Iterable[Any], **over: Any) -> Any:
        """By the class itself, over tensors, named parameters or groups, ready to train."""
        arguments = {**self.spec.defaults, **self.extra, **over}
        if self.second_order:
            arguments.setdefault("generator", torch.Generator().manual_seed(4))
        optimizer = registry.load_class(self.spec)(params, **arguments)
        set_mode(optimizer, training=True)
        return optimizer

    def build(self, model: nn.Module, **over: Any) -> Any:
        """As trials and the generated script build it, with the model's parameter groups, ready to train."""
        optimizer = build(self.spec, groups.split(model), {**self.spec.start(), **self.extra, **over})
        set_mode(optimizer, training=True)
        return optimizer

    def step(self, optimizer: Any, loss: Callable[[], Tensor]) -> float:
        """One step of training as the training loop takes it; the loss before it."""
        if self.second_order:
            return float(optimizer.step(loss).detach())
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return float(value.detach())

    def drive(
        self, optimizer: Any, params: Sequence[Tensor], grads: Iterable[Sequence[Tensor | None]]
    ) -> None:
        """Steps along given gradients; None is no gradient."""
        for step in grads:
            if self.second_order:
                optimizer.step(quadratic(params, step))
                continue
            for p, g in zip(params, step, strict=True):
                p.grad = None if g is None else g.clone()
            optimizer.step()


def _cases() -> tuple[Case, ...]:
    found = []
    for spec in TABLE:
        found.append(Case(spec.name, spec))
        for name, suffix, extra in VARIANTS:
            if name == spec.name:
                case = Case(f"{name}-{suffix}", spec, extra)
                if extra.keys() <= case.takes:
                    found.append(case)
    return tuple(found)


CASES = _cases()


def quadratic(
    params: Sequence[Tensor], grads: Sequence[Tensor | None], sign: float = 1.0
) -> Callable[[], Tensor]:
    """A loss whose gradient is `grads` where the parameters are now, and whose curvature is 2."""
    given = [(p, p.detach().clone(), g) for p, g in zip(params, grads, strict=True) if g is not None]

    def loss() -> Tensor:
        terms = [(p * g.conj()).real.sum() + (p - q).abs().square().sum() for p, q, g in given]
        return sign * torch.stack(terms).sum()

    return loss


def net(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """A small net with hidden matrices, biases and a normalization."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 32), nn.Tanh(), nn.LayerNorm(32), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 1)
    )
    return model.to(dtype)


def regression(
    model: nn.Module, rows: slice = slice(None), dtype: torch.dtype = torch.float32
) -> Callable[[], Tensor]:
    """The mean squared error of a small regression, on some of its 64 rows."""
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    y = x[:, :1] + 0.5 * x[:, 1:2].sin()
    return lambda: (model(x[rows]) - y[rows]).square().mean()


SHAPES = ((), (3,), (4, 5), (2, 3, 2, 2))


def same(left: Iterable[Tensor], right: Iterable[Tensor]) -> bool:
    """Whether all are equal to the bit."""
    return all(torch.equal(p, q) for p, q in zip(left, right, strict=True))


def close(left: Iterable[Tensor], right: Iterable[Tensor], relative: float = 1e-9) -> bool:
    """Whether all are equal to rounding."""
    pairs = zip(left, right, strict=True)
    return all(torch.allclose(p, q, rtol=relative, atol=relative * 1e-2) for p, q in pairs)


def finite(tensors: Iterable[Tensor]) -> bool:
    """Whether there is no NaN and no infinity."""
    return all(bool(t.isfinite().all()) for t in tensors)


def copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The values as they are now."""
    return [t.detach().clone() for t in tensors]
