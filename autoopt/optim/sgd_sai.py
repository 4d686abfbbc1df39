"""SGD-SaI: momentum SGD with one rate per tensor, set once (Xu et al. 2024, arXiv 2412.11768)."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.optim.optimizer import ParamsT

from autoopt.optim._base import (
    BaseOptimizer,
    Closure,
    check,
    check_fused,
    host,
    needs_tensors,
    run_closure,
)
from autoopt.optim._blocks import Row, compute_dtype, norm, real, reals, update
from autoopt.optim._sgd_sai_kernel import SaiKernel, run_compiled


class SGDSaI(BaseOptimizer):
    r"""Momentum SGD with its rate scaled, tensor by tensor, by the first gradient's signal-to-noise ratio.

    With a tensor's first gradient g_1 of n elements, measured once and kept:

    .. math::
        r = \frac{\lVert g_1 \rVert_2}{\mathrm{std}(g_1) + \epsilon}
          \approx \sqrt{(n-1) + n\,(\mathrm{mean}/\mathrm{std})^2}

    and then at every step, with m = g at the first:

    .. math::
        m &\leftarrow \mu m + (1-\mu) g \\
        p &\leftarrow (1 - \eta\lambda)\, p - \eta\, r\, m

    (arXiv 2412.11768, algorithm 1.) The standard deviation is the unbiased one. The paper divides every r by
    the largest of them, its code does not: `normalize=True` gives the paper's form, with
    lr(code) = lr(paper) / max r.

    r is measured at the first gradient that is finite and not all zero; until then a tensor only decays. A
    tensor of one element has r = 1, and r is at most `max_ratio` * sqrt(n): healthy gradients stay far below,
    while nearly equal elements (std close to 0) would make the first steps explode.

    State: m of the parameter's shape, and the number r: 4 bytes per float32 parameter, half of AdamW's
    (ViT-S/16 0.08 GiB against 0.17, GPT-2 XL 5.93 against 11.86, Llama-2-7B 25.15 against 49.48; the paper's
    figure). With momentum 0 only r. A step passes over p, g and m once, in blocks that stay in the cache.

    When: memory decides, for transformers as for conv nets. Ranges that work: lr 1e-4 to 3e-1, with
    `normalize` 1e-2 to 30; momentum 0.9; weight decay as for AdamW.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate, a float or a one-element tensor.
        momentum: mu, in [0, 1).
        eps: added to the standard deviation, in the gradient's unit.
        weight_decay: lambda, decoupled from the gradient.
        normalize: divide every r by the largest one (of this optimizer's parameters: with one optimizer for each
            parameter every r is 1).
        max_ratio: bound of r / sqrt(n); None does not bound.
        foreach: None takes the fastest way, which equals the others to rounding; True batches small tensors,
            False goes one by one, with the same bits.
        fused: True takes one pass over memory, compiled at the first use on a machine (a second, with the C
            compiler that is found; kept on disk), for parameters on the CPU; equal to the others to rounding.
            None and False never compile.
        maximize: ascend instead of descend.
        differentiable: let autograd run through the step, r excepted (parameters must not be leaves).
        state_dtype: dtype of m; None is the parameter's, float32 for half precision parameters.

    Raises:
        ValueError: a hyperparameter outside its range.
        RuntimeError: a sparse gradient; no compiler for `fused`, or parameters that it does not take.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> optimizer = SGDSaI(layer.parameters(), lr=1e-2)
        >>> layer(torch.ones(4, 2)).square().mean().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        momentum: float = 0.9,
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        normalize: bool = False,
        max_ratio: float | None = 10.0,
        foreach: bool | None = None,
        fused: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        check("lr", lr, 0.0)
        check("momentum", momentum, 0.0, 1.0)
        check("eps", eps, 0.0)
        check("weight_decay", weight_decay, 0.0)
        check_fused(fused, foreach=foreach, differentiable=differentiable)
        if max_ratio is not None and max_ratio < 1:
            raise ValueError(f"max_ratio must be at least 1 (r is about sqrt(n)) or None, not {max_ratio}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "eps": eps,
            "weight_decay": weight_decay,
            "normalize": normalize,
            "max_ratio": max_ratio,
            "foreach": foreach,
            "fused": fused,
            "maximize": maximize,
            "differentiable": differentiable,
            "state_dtype": state_dtype,
        }
        super().__init__(params, defaults)

    def step(self, closure: Closure | None = None) -> Any:
        """Takes one step.

        Args:
            closure: clears the gradients, computes loss and gradients, returns the loss; called once.

        Returns:
            What the closure returned, or None.
        """
        loss = run_closure(closure)
        with contextlib.nullcontext() if self.defaults["differentiable"] else torch.no_grad():
            self._refuse_gradients()
            unknown = [
                (p, g, group)
                for group in self.param_groups
                for p, g in self._with_gradient(group)
                if not self.state[p].get("measured")
            ]
            started = self._measure(unknown) if unknown else {}
            largest = self._largest() if any(g["normalize"] for g in self.param_groups) else None
            for group in self.param_groups:
                rows: list[tuple[Tensor, Tensor]] = []
                on_device = largest is not None and group["normalize"] and largest.device.type != "cpu"
                tensors = needs_tensors(group) or on_device
                for p, g in self._with_gradient(group):
                    if tensors or (p in started and p.device.type != "cpu"):
                        self._step_with_tensors(p, g, group, largest, started.get(p))
                    else:
                        rows.append((p, g))
                self._step_with_floats(rows, group, largest, started)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """torch's, of tensors only: that r is known is seen from it."""
        state: dict[str, Any] = super().state_dict()
        state["state"] = {
            name: {key: value for key, value in entry.items() if key != "measured"}
            for name, entry in state["state"].items()
        }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for entry in self.state.values():
            if "ratio" in entry:
                entry["measured"] = bool(entry["ratio"].item() > 0)
                if entry["measured"]:
                    entry["ratio"] = entry["ratio"].cpu()  # loading a state puts it on the parameter's device

    # A compiled step calls this only while there is something to measure.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _measure(self, unknown: list[tuple[Tensor, Tensor, dict[str, Any]]]) -> dict[Tensor, Tensor]:
        """Measures r where it is not known yet; never waits for a device.

        A measured r lies on the CPU. On a device it stays there until a copy of it has arrived in the
        background; in the meantime the device itself decides (0 means: not measured).

        Returns:
            For each of the parameters whether its r was measured at this very step, 0-d boolean.
        """
        started = {}
        arriving: dict[Tensor, _Arrival] = self.__dict__.setdefault("_arriving", {})
        with torch.no_grad():
            for p, g, group in unknown:
                state = self.state[p]
                arrival = arriving.get(p)
                if arrival is not None and arrival.ready():
                    del arriving[p]
                    if arrival.value.item() > 0:
                        state["ratio"], state["measured"] = arrival.value, True
                        continue
                fresh = _ratio(g, group["eps"], group["max_ratio"])
                if not state:
                    state["ratio"] = torch.zeros_like(fresh)
                    if group["momentum"]:
                        state["momentum_buffer"] = self._new_state(p, group["state_dtype"])
                before = state["ratio"]
                state["ratio"] = torch.where(before == 0, fresh, before)
                started[p] = (before == 0) & (fresh != 0)
                if fresh.device.type == "cpu":
                    state["measured"] = bool(state["ratio"].item() > 0)
                else:
                    state["measured"] = False
                    if p not in arriving:
                        arriving[p] = _Arrival(state["ratio"])
        return started

    def _largest(self) -> Tensor | None:
        """The largest r measured so far, over all groups."""
        ratios = [self.state[p]["ratio"] for g in self.param_groups for p in g["params"] if p in self.state]
        if not ratios:
            return None
        device = next((r.device for r in ratios if r.device.type != "cpu"), ratios[0].device)
        return torch.stack([r.to(device, torch.float64) for r in ratios]).max()

    def _buffer(self, p: Tensor, group: dict[str, Any]) -> tuple[Tensor, bool]:
        """The momentum buffer, and whether it is new: momentum may be switched on in mid-run."""
        state = self.state[p]
        new = "momentum_buffer" not in state
        if new:
            state["momentum_buffer"] = self._new_state(p, group["state_dtype"])
        return state["momentum_buffer"], new

    def _step_with_floats(
        self,
        pairs: list[tuple[Tensor, Tensor]],
        group: dict[str, Any],
        largest: Tensor | None,
        started: dict[Tensor, Tensor],
    ) -> None:
        if not pairs:
            return  # and a compiled step reads no number from a tensor
        lr = host(group["lr"])
        over = host(largest) if largest is not None and group["normalize"] else 1.0
        # torch's fused kernel goes through memory as it lies, whatever the strides.
        quick = (
            group["foreach"] is None and not group["fused"] and all(p.device.type == "cpu" for p, _ in pairs)
        )
        alike: dict[tuple[Any, ...], list[Row]] = {}
        for p, g in pairs:
            ratio = self.state[p]["ratio"].item() / (over or 1.0)
            if ratio == 0:  # no signal yet: a gradient without a scale must not enter, it may even be NaN
                real(p).mul_(1 - lr * group["weight_decay"])
                continue
            tensors: tuple[Tensor, ...] = (p, g)
            new = False
            if group["momentum"]:
                buffer, new = self._buffer(p, group)
                new = new or p in started
                tensors = (p, g, buffer)
            tensors = reals(tensors)
            fast = quick and all(t.is_contiguous() for t in tensors)
            key = (new, fast, p.device, p.dtype, tensors[-1].dtype)
            alike.setdefault(key, []).append(Row(tensors, -lr * ratio))
        for (new, fast, *_), rows in alike.items():
            if group["fused"]:
                run_compiled(rows, group, new)
                continue
            written = (0, 2) if group["momentum"] else (0,)
            update(rows, SaiKernel(group, new, fast), written=written, together=group["foreach"] is not False)

    def _step_with_tensors(
        self, p: Tensor, g: Tensor, group: dict[str, Any], largest: Tensor | None, started: Tensor | None
    ) -> None:
        """The same with tensor scalars, for autograd, compilers, and while only the device knows r."""
        state, mu, lr = self.state[p], group["momentum"], group["lr"]
        target, g = real(p), real(g)
        dtype = compute_dtype(p.dtype)
        ratio = state["ratio"].to(p.device, dtype)
        # A copy where autograd keeps it: the parameter itself is overwritten below.
        x, g = target.to(dtype, copy=group["differentiable"]), (-g if group["maximize"] else g).to(dtype)
        if started is not None:
            g = torch.where(ratio > 0, g, torch.zeros_like(g))  # until it is measured, NaN may be in it
        m = g
        if mu:
            buffer, new = self._buffer(p, group)
            old = g if new else real(buffer).to(dtype)
            m = mu * (old if started is None else torch.where(started, g, old)) + (1 - mu) * g
            if group["differentiable"]:
                kept = m.to(real(buffer).dtype)
                state["momentum_buffer"] = torch.view_as_complex(kept) if p.is_complex() else kept
            else:
                real(buffer).copy_(m)
        if largest is not None and group["normalize"]:
            ratio = ratio / torch.where(largest > 0, largest, 1.0).to(ratio)
        target.copy_(x * (1 - lr * group["weight_decay"]) - lr * ratio * m)


def _ratio(g: Tensor, eps: float, max_ratio: float | None) -> Tensor:
    """r of a gradient, 0-d in at least float32; 0 if the gradient is zero or not finite."""
    values = real(g)
    values = values.to(compute_dtype(values.dtype))
    n = g.numel() * (2 if g.is_complex() else 1)
    if n == 0:
        return values.new_zeros(())
    if isinstance(g, DTensor):
        mean = _total(values.sum(), g) / n
        size = _total(values.square().sum(), g).sqrt()
        std = (_total((values - mean).square().sum(), g) / max(n - 1, 1)).sqrt()
    else:
        size = norm(values)
        std = values.std() if n > 1 else values.new_zeros(())
    ratio = torch.ones_like(size) if n == 1 else size / (std + eps)
    if max_ratio is not None:
        ratio = ratio.clamp(max=max_ratio * math.sqrt(n))
    return torch.where(size.isfinite() & (size > 0), ratio, torch.zeros_like(ratio))


def _total(value: Tensor, like: DTensor) -> Tensor:
    """The sum over the shards of `like`, counting replicas once."""
    placements = [Partial() if isinstance(kind, Shard) else Replicate() for kind in like.placements]
    total: Tensor = DTensor.from_local(value, like.device_mesh, placements).full_tensor()
    return total


class _Arrival:
    """A number on its way from a device to the host, copied in the background."""

    def __init__(self, value: Tensor) -> None:
        self.value = torch.empty((), dtype=value.dtype, pin_memory=True)
        self.value.copy_(value, non_blocking=True)
        self._done = torch.Event(value.device)
        self._done.record(torch.accelerator.current_stream(value.device))

    def ready(self) -> bool:
        """Whether `value` holds it."""
        return bool(self._done.query())
