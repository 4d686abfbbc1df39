"""Adan: adaptive Nesterov momentum (Xie et al. 2022, arXiv 2208.06677, algorithm 1)."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from autoopt.optim._adan_kernel import AdanKernel, run_compiled, split
from autoopt.optim._base import (
    BaseOptimizer,
    Closure,
    check,
    check_betas,
    check_fused,
    clip_factor,
    needs_tensors,
    readable,
    run_closure,
)
from autoopt.optim._blocks import Row, compute_dtype, real, reals, update
from autoopt.optim.compiled import library

_MOMENTS = ("exp_avg", "exp_avg_diff", "exp_avg_sq")


class Adan(BaseOptimizer):
    r"""Adam with Nesterov momentum written through the difference of successive gradients.

    With gradient g, previous gradient g', d = g - g' (0 at a parameter's first gradient), t = 1, 2, ...
    counted for each parameter, and all products element-wise:

    .. math::
        m &\leftarrow \beta_1 m + (1-\beta_1) g \\
        v &\leftarrow \beta_2 v + (1-\beta_2) d \\
        n &\leftarrow \beta_3 n + (1-\beta_3) (g + \beta_2 d)^2 \\
        p &\leftarrow \Big(p - \frac{\eta}{\sqrt{n/(1-\beta_3^t)} + \epsilon}
              \Big[\frac{m}{1-\beta_1^t} + \frac{\beta_2 v}{1-\beta_2^t}\Big]\Big) / (1 + \eta\lambda)

    (arXiv 2208.06677, algorithm 1; the betas here are one minus the paper's.) With `no_prox` the decay is
    AdamW's: p is multiplied by 1 - lr * weight_decay before the step instead of the division after it.

    State: m, v, n and g', each of the parameter's shape: 16 bytes per float32 parameter, twice AdamW's. Half
    precision parameters keep float32 state unless `state_dtype` says otherwise. A step passes over the six
    tensors once, in blocks that stay in the cache; p.grad is never changed.

    When: large batches, vision transformers, diffusion, short training from scratch, when twice AdamW's
    state fits. It wants 5 to 10 times AdamW's learning rate from scratch (2 to 4 times for fine-tuning),
    weight decay 0.02, and a warm-up. ViT and ResNet on ImageNet: lr 1.5e-2 at batch 2048; ConvNeXt and MAE:
    betas[2] = 0.9; Transformer-XL: betas (0.9, 0.9, 0.999); GPT-2 345M: lr 2.5e-3, betas[2] = 0.95. Tune
    betas[2] first, then betas[0]; betas[1] is robust.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate, a float or a one-element tensor.
        betas: decay of m, v and n per step, each in [0, 1).
        eps: added to the denominator, in the gradient's unit.
        weight_decay: lambda, decoupled from the gradient.
        max_grad_norm: gradients are scaled by min(1, max_grad_norm / (norm + eps)), with the Euclidean norm
            of all gradients of all groups and shards; 0 does not clip. With one optimizer for each parameter the
            norm is that parameter's alone: then clip elsewhere.
        no_prox: AdamW's form of weight decay.
        foreach: None takes the fastest way, which equals the others to float32 rounding; True batches small
            tensors, False goes one by one, both with the reference's bits.
        maximize: ascend instead of descend.
        capturable: keep the step count on the parameter's device and never read it, as graph capture needs.
        differentiable: let autograd run through the step (parameters must not be leaves).
        state_dtype: dtype of the four state tensors; bfloat16 halves them for float32 parameters.

    Raises:
        ValueError: a hyperparameter outside its range.
        RuntimeError: a sparse gradient; no compiler for `fused`, or parameters that it does not take.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> optimizer = Adan(layer.parameters(), lr=1e-2, weight_decay=0.02)
        >>> layer(torch.ones(4, 2)).square().mean().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_grad_norm: float = 0.0,
        no_prox: bool = False,
        *,
        foreach: bool | None = None,
        fused: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        check("lr", lr, 0.0)
        check("eps", eps, 0.0)
        check_betas(betas, 3)
        check("weight_decay", weight_decay, 0.0)
        check("max_grad_norm", max_grad_norm, 0.0)
        check_fused(fused, foreach=foreach, differentiable=differentiable, capturable=capturable)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "max_grad_norm": max_grad_norm,
            "no_prox": no_prox,
            "foreach": foreach,
            "fused": fused,
            "maximize": maximize,
            "capturable": capturable,
            "differentiable": differentiable,
            "state_dtype": state_dtype,
        }
        super().__init__(params, defaults)

    def restart(self) -> None:
        """Zeroes moments and step counts (algorithm 1's restart); the next gradient is again a first one."""
        for state in self.state.values():
            for key in _MOMENTS:
                state[key].zero_()
            state["step"].zero_()
            state.pop("prev_grad", None)

    def step(self, closure: Closure | None = None) -> Any:
        """Takes one step.

        Args:
            closure: clears the gradients, computes loss and gradients, returns the loss.

        Returns:
            What the closure returned, or None.
        """
        loss = run_closure(closure)
        differentiable = self.defaults["differentiable"]
        with contextlib.nullcontext() if differentiable else torch.no_grad():
            self._refuse_gradients()
            norm = self._gradient_norm() if any(g["max_grad_norm"] > 0 for g in self.param_groups) else None
            for group in self.param_groups:
                clip = None
                if norm is not None and group["max_grad_norm"] > 0:
                    clip = clip_factor(group["max_grad_norm"], norm, group["eps"])
                if needs_tensors(group):
                    for p, g in self._with_gradient(group):
                        self._step_with_tensors(p, g, group, clip)
                else:
                    self._step_with_floats(group, clip)
        return loss

    def _state_of(self, p: Tensor, group: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """The parameter's state, and whether this is its first gradient (since a restart)."""
        state = self.state[p]
        if not state:
            device = p.device if group["capturable"] else torch.device("cpu")
            state["step"] = torch.zeros((), dtype=torch.float32, device=device)
            for key in _MOMENTS:
                state[key] = self._new_state(p, group["state_dtype"])
        first = "prev_grad" not in state
        if first:
            state["prev_grad"] = self._new_state(p, group["state_dtype"])
        return state, first

    def _step_with_floats(self, group: dict[str, Any], clip: Tensor | None) -> None:
        # Parameters that share a step count, a device and dtypes share their scalars and their batches.
        alike: dict[tuple[Any, ...], list[Row]] = {}
        steps: list[Tensor] = []
        for p, g in self._with_gradient(group):
            state, first = self._state_of(p, group)
            steps.append(state["step"])
            m, prev = state["exp_avg"], state["prev_grad"]
            tensors = reals((p, g, m, state["exp_avg_diff"], state["exp_avg_sq"], prev))
            key = (steps[-1].item() + 1, first, p.device, p.dtype, m.dtype, prev.dtype)
            alike.setdefault(key, []).append(Row(tensors))
        if group["fused"]:
            for rows in alike.values():
                library.require(rows)  # before the count: a refused step was none
        if steps:
            torch._foreach_add_(steps, 1)
        for (t, first, device, *_), rows in alike.items():
            factor = readable(clip, device)
            if group["fused"]:
                run_compiled(rows, group, t, first, factor)
                continue
            fast, rest = split(rows, group)
            for part, quick in ((fast, True), (rest, False)):
                kernel = AdanKernel(group, t, first, factor, quick)
                update(part, kernel, written=(0, 2, 3, 4, 5), together=group["foreach"] is not False)

    def _step_with_tensors(self, p: Tensor, g: Tensor, group: dict[str, Any], clip: Tensor | None) -> None:
        """The same with tensor scalars and no in-place arithmetic, for autograd, capture and compilers."""
        state, first = self._state_of(p, group)
        b1, b2, b3 = group["betas"]
        lr, decay = group["lr"], group["weight_decay"]
        target, g = real(p), real(g)
        m, v, n, prev = (real(state[k]) for k in (*_MOMENTS, "prev_grad"))
        dtype = compute_dtype(p.dtype)
        # A copy where autograd keeps it: the parameter itself is overwritten below.
        x, g = target.to(dtype, copy=group["differentiable"]), g.to(dtype)
        g = -g if group["maximize"] else g
        g = g if clip is None else g * clip.to(g.device, dtype)
        step = state["step"] + 1
        # The count is float32: powers of it in the parameter's precision.
        rest_m, rest_v, rest_n = (_rest(b, step.to(dtype)) for b in (b1, b2, b3))
        d = torch.zeros_like(g) if first else g - prev.to(dtype)
        new_m = m.to(dtype) * b1 + g * (1 - b1)
        new_v = v.to(dtype) * b2 + d * (1 - b2)
        new_n = n.to(dtype) * b3 + (g + b2 * d).square() * (1 - b3)
        denominator = new_n.sqrt() / rest_n.sqrt() + group["eps"]
        move = (new_m * (lr / rest_m) + new_v * (lr * b2 / rest_v)) / denominator
        x = x * (1 - lr * decay) - move if group["no_prox"] else (x - move) / (1 + lr * decay)
        if group["differentiable"]:
            # New tensors, so that what autograd has kept of the last step stays as it was.
            new = dict(zip((*_MOMENTS, "prev_grad"), (new_m, new_v, new_n, g), strict=True))
            for key, value in new.items():
                value = value.to(real(state[key]).dtype)
                state[key] = torch.view_as_complex(value) if p.is_complex() else value
            state["step"] = step
        else:
            for old, value in zip((m, v, n, prev), (new_m, new_v, new_n, g), strict=True):
                old.copy_(value)
            state["step"].copy_(step)
        target.copy_(x)


def _rest(beta: Any, step: Tensor) -> Tensor:
    """1 - beta^step, to the last digits also where beta is close to 1."""
    if isinstance(beta, Tensor):
        return 1 - beta**step
    return -torch.expm1(step * math.log(beta)) if beta > 0 else torch.ones_like(step)
