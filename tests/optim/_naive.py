"""Adan, SGD-SaI and AdaHessian straight from their formulas: one element after the other, in Python's floats.

A parameter is the flat list of its numbers (complex ones: real and imaginary parts in turn); a parameter without
gradient has None in its place. Every parameter has its own hyperparameters, as those of its group. Nothing here
is clever: it is what the optimizers are compared with.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

Numbers = list[float]
Gradients = Sequence[Numbers | None]
Hyper = dict[str, Any]
Store = Callable[[float], float]
"""How a parameter's number is kept: rounded to a narrow type, or as it is."""


def as_it_is(x: float) -> float:
    return x


def to_bfloat16(x: float) -> float:
    """The nearest number with 8 significant bits, the even one of two; by way of float32."""
    bits: int = struct.unpack("<I", struct.pack("<f", x))[0]
    bits += 0x7FFF + (bits >> 16 & 1)
    rounded: float = struct.unpack("<f", struct.pack("<I", bits & 0xFFFF0000))[0]
    return rounded


def norm_of(grads: Gradients) -> float:
    return math.sqrt(math.fsum(x * x for g in grads if g is not None for x in g))


class Adan:
    def __init__(self, params: list[Numbers], hypers: Sequence[Hyper], store: Store = as_it_is) -> None:
        defaults: Hyper = {
            "lr": 1e-3,
            "betas": (0.98, 0.92, 0.99),
            "eps": 1e-8,
            "weight_decay": 0.0,
            "max_grad_norm": 0.0,
            "no_prox": False,
            "maximize": False,
        }
        self.params = params
        self.hypers = [{**defaults, **h} for h in hypers]
        self.store = store
        self.restart()

    def restart(self) -> None:
        self.t = [0 for _ in self.params]
        self.m = [[0.0 for _ in p] for p in self.params]
        self.v = [[0.0 for _ in p] for p in self.params]
        self.n = [[0.0 for _ in p] for p in self.params]
        self.previous: list[Numbers | None] = [None for _ in self.params]

    def step(self, grads: Gradients, rate: float = 1.0) -> None:
        norm = norm_of(grads)
        for i, g in enumerate(grads):
            if g is None:
                continue
            h = self.hypers[i]
            b1, b2, b3 = h["betas"]
            lr, eps, decay, limit = h["lr"] * rate, h["eps"], h["weight_decay"], h["max_grad_norm"]
            p, m, v, n = self.params[i], self.m[i], self.v[i], self.n[i]
            c = min(1.0, limit / (norm + eps)) if limit > 0 else 1.0
            if h["maximize"]:
                c = -c
            g = [c * x for x in g]
            previous = self.previous[i] or g
            self.t[i] += 1
            t = self.t[i]
            for j in range(len(p)):
                d = g[j] - previous[j]
                u = g[j] + b2 * d
                m[j] = b1 * m[j] + (1 - b1) * g[j]
                v[j] = b2 * v[j] + (1 - b2) * d
                n[j] = b3 * n[j] + (1 - b3) * u * u
                den = math.sqrt(n[j]) / math.sqrt(1 - b3**t) + eps
                move = lr / (1 - b1**t) * m[j] / den + lr * b2 / (1 - b2**t) * v[j] / den
                if h["no_prox"]:
                    p[j] = self.store(p[j] * (1 - lr * decay) - move)
                else:
                    p[j] = self.store((p[j] - move) / (1 + lr * decay))
            self.previous[i] = g


class SGDSaI:
    def __init__(self, params: list[Numbers], hypers: Sequence[Hyper], store: Store = as_it_is) -> None:
        defaults: Hyper = {
            "lr": 1e-2,
            "momentum": 0.9,
            "eps": 1e-8,
            "weight_decay": 1e-2,
            "normalize": False,
            "max_ratio": 10.0,
            "maximize": False,
        }
        self.params = params
        self.hypers = [{**defaults, **h} for h in hypers]
        self.store = store
        self.r = [0.0 for _ in params]
        """0: not measured yet."""
        self.m: list[Numbers | None] = [None for _ in params]

    def step(self, grads: Gradients, rate: float = 1.0) -> None:
        for i, g in enumerate(grads):
            if g and self.r[i] == 0 and all(math.isfinite(x) for x in g) and any(x != 0 for x in g):
                self.r[i] = ratio(g, self.hypers[i]["eps"], self.hypers[i]["max_ratio"])
        for i, g in enumerate(grads):
            if g is None:
                continue
            h = self.hypers[i]
            lr, mu = h["lr"] * rate, h["momentum"]
            p, r = self.params[i], self.r[i]
            keep = 1 - lr * h["weight_decay"]
            if r == 0:
                p[:] = [self.store(x * keep) for x in p]
                continue
            if h["normalize"]:
                r = r / max(self.r)
            if h["maximize"]:
                g = [-x for x in g]
            m = self.m[i] or list(g)
            for j in range(len(p)):
                m[j] = mu * m[j] + (1 - mu) * g[j]
                p[j] = self.store(p[j] * keep - lr * r * m[j])
            self.m[i] = m


def ratio(g: Numbers, eps: float = 1e-8, max_ratio: float | None = None) -> float:
    """SGD-SaI's r of a first gradient."""
    n = len(g)
    if n == 1:
        return 1.0
    mean = math.fsum(g) / n
    std = math.sqrt(math.fsum((x - mean) ** 2 for x in g) / (n - 1))
    r = norm_of([g]) / (std + eps)
    return r if max_ratio is None else min(r, max_ratio * math.sqrt(n))


Sample = tuple[Sequence[Numbers], Gradients]
"""A probe z and the product H z, for every parameter; None where a parameter has no gradient."""


class AdaHessian:
    def __init__(
        self,
        params: list[Numbers],
        hypers: Sequence[Hyper],
        shapes: Sequence[tuple[int, ...]],
        update_each: int = 1,
        n_samples: int = 1,
        store: Store = as_it_is,
    ) -> None:
        defaults: Hyper = {
            "lr": 0.15,
            "betas": (0.9, 0.999),
            "eps": 1e-4,
            "weight_decay": 0.0,
            "hessian_power": 1.0,
            "block": None,
            "bound_step": True,
            "max_grad_norm": 0.0,
            "maximize": False,
        }
        self.params = params
        self.hypers = [{**defaults, **h} for h in hypers]
        self.shapes = shapes
        self.update_each = update_each
        self.n_samples = n_samples
        self.store = store
        self.taken = 0
        self.t = [0 for _ in params]
        self.m = [[0.0 for _ in p] for p in params]
        self.h = [[0.0 for _ in p] for p in params]
        self.d: list[Numbers | None] = [None for _ in params]

    def step(self, grads: Gradients, sample: Callable[[], Sample], rate: float = 1.0) -> None:
        if self.taken % self.update_each == 0:
            self._refresh(grads, [sample() for _ in range(self.n_samples)])
        self.taken += 1
        norm = norm_of(grads)
        for i, g in enumerate(grads):
            if g is None:
                continue
            h = self.hypers[i]
            b1, b2 = h["betas"]
            lr, decay, limit = h["lr"] * rate, h["weight_decay"], h["max_grad_norm"]
            c = min(1.0, limit / (norm + 1e-6)) if limit > 0 else 1.0
            if h["maximize"]:
                c = -c
            p, d = self.params[i], self.d[i]
            if d is None:  # its first gradient comes between two refreshes
                if not h["bound_step"]:
                    continue
                d = [0.0 for _ in p]
            self.t[i] += 1
            t = self.t[i]
            for j in range(len(p)):
                x = c * g[j]
                curvature = abs(x) if h["bound_step"] and d[j] == 0 else d[j]
                self.m[i][j] = b1 * self.m[i][j] + (1 - b1) * x
                self.h[i][j] = b2 * self.h[i][j] + (1 - b2) * curvature**2
                root = math.sqrt(self.h[i][j]) / math.sqrt(1 - b2**t)
                den = root ** h["hessian_power"] + h["eps"]
                p[j] = self.store(p[j] - lr * (self.m[i][j] / (1 - b1**t) / den + decay * p[j]))

    def _refresh(self, grads: Gradients, samples: Sequence[Sample]) -> None:
        for i, g in enumerate(grads):
            if g is None:
                continue
            mean = [0.0 for _ in g]
            for z, hz in samples:
                product = hz[i]
                assert product is not None
                for j in range(len(g)):
                    mean[j] += z[i][j] * product[j] / len(samples)
            self.d[i] = averaged([abs(x) for x in mean], self.shapes[i], self.hypers[i]["block"])


def averaged(values: Numbers, shape: tuple[int, ...], block: int | str | None) -> Numbers:
    """Means over AdaHessian's blocks, each repeated over its block: all of them are runs of neighbours."""
    if isinstance(block, int):
        run = block
    elif len(shape) in (3, 4, 5):
        run = math.prod(shape[2:])
    elif len(shape) == 2 and block == "row":
        run = shape[1]
    else:
        run = 1
    return [math.fsum(values[j // run * run :][:run]) / run for j in range(len(values))]
