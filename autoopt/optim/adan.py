"""Adan: adaptive Nesterov momentum (Xie et al. 2022, arXiv 2208.06677, algorithm 1)."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from autoopt.optim._base import (
    BaseOptimizer,
    Closure,
    check,
    check_betas,
    clip_factor,
    host,
    needs_tensors,
    readable,
    run_closure,
)
from autoopt.optim._blocks import Row, compute_dtype, real, update

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
            of all gradients of all groups and shards; 0 does not clip.
        no_prox: AdamW's form of weight decay.
        foreach: batch small tensors into one call (None: where all are plain tensors); False goes one by one.
            Both give the same bits.
        maximize: ascend instead of descend.
        capturable: keep the step count on the parameter's device and never read it, as graph capture needs.
        differentiable: let autograd run through the step (parameters must not be leaves).
        state_dtype: dtype of the four state tensors; bfloat16 halves them for float32 parameters.

    Raises:
        ValueError: a hyperparameter outside its range.
        RuntimeError: a sparse gradient.

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
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "max_grad_norm": max_grad_norm,
            "no_prox": no_prox,
            "foreach": foreach,
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
            self._refuse_sparse()
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
        for p, g in self._with_gradient(group):
            state, first = self._state_of(p, group)
            state["step"] += 1
            tensors = tuple(real(t) for t in (p, g, *(state[k] for k in _MOMENTS), state["prev_grad"]))
            key = (state["step"].item(), first, p.device, *(t.dtype for t in tensors))
            alike.setdefault(key, []).append(Row(tensors))
        for (t, first, device, *_), rows in alike.items():
            kernel = _Kernel(group, t, first, readable(clip, device))
            update(rows, kernel, written=(0, 2, 3, 4, 5), together=group["foreach"] is not False)

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
        d = torch.zeros_like(g) if first else g - prev.to(dtype)
        new_m = m.to(dtype) * b1 + g * (1 - b1)
        new_v = v.to(dtype) * b2 + d * (1 - b2)
        new_n = n.to(dtype) * b3 + (g + b2 * d).square() * (1 - b3)
        denominator = new_n.sqrt() / (1 - b3**step).sqrt() + group["eps"]
        move = (new_m * (lr / (1 - b1**step)) + new_v * (lr * b2 / (1 - b2**step))) / denominator
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


class _Kernel:
    """Adan on a batch of (p, g, m, v, n, previous g), with the last as scratch.

    The order of operations is the reference's, for equal bits: m's term before v's, sqrt(n) / sqrt(1 - b3^t)
    as a division, lr * b2 / (1 - b2^t) as one scalar.
    """

    def __init__(self, group: dict[str, Any], t: float, first: bool, clip: float | Tensor | None) -> None:
        self.b1, self.b2, self.b3 = (host(b) for b in group["betas"])
        lr = host(group["lr"])
        self.eps = group["eps"]
        self.no_prox = group["no_prox"]
        self.first = first
        self.clip = clip
        self.maximize = group["maximize"]
        self.step_m = lr / (1.0 - self.b1**t)
        self.step_v = lr * self.b2 / (1.0 - self.b2**t)
        self.root = math.sqrt(1.0 - self.b3**t)
        self.decay = lr * group["weight_decay"]

    def __call__(self, batch: list[Row]) -> None:
        if len(batch) == 1:
            self._one(*batch[0].tensors)
        else:
            self._many(*(list(column) for column in zip(*(row.tensors for row in batch), strict=True)))

    def _one(self, p: Tensor, g: Tensor, m: Tensor, v: Tensor, n: Tensor, prev: Tensor) -> None:
        if self.maximize:
            g = -g
        if self.clip is not None:
            g = g * self.clip
        d = prev.zero_() if self.first else torch.sub(g, prev, out=prev)
        m.mul_(self.b1).add_(g, alpha=1 - self.b1)
        v.mul_(self.b2).add_(d, alpha=1 - self.b2)
        u = d.mul_(self.b2).add_(g)
        n.mul_(self.b3).addcmul_(u, u, value=1 - self.b3)
        denominator = torch.sqrt(n, out=prev).div_(self.root).add_(self.eps)
        if self.no_prox:
            p.mul_(1 - self.decay)
        p.addcdiv_(m, denominator, value=-self.step_m)
        p.addcdiv_(v, denominator, value=-self.step_v)
        if self.decay and not self.no_prox:
            p.div_(1 + self.decay)
        prev.copy_(g)

    def _many(
        self,
        p: list[Tensor],
        g: list[Tensor],
        m: list[Tensor],
        v: list[Tensor],
        n: list[Tensor],
        prev: list[Tensor],
    ) -> None:
        if self.maximize:
            g = list(torch._foreach_neg(g))
        if self.clip is not None:
            g = list(torch._foreach_mul(g, self.clip))
        if self.first:
            torch._foreach_zero_(prev)
        else:
            torch._foreach_sub_(prev, g)  # -d: a sign costs no rounding, an operation more would cost time
        torch._foreach_mul_(m, self.b1)
        torch._foreach_add_(m, g, alpha=1 - self.b1)
        torch._foreach_mul_(v, self.b2)
        torch._foreach_add_(v, prev, alpha=-(1 - self.b2))
        torch._foreach_mul_(prev, -self.b2)
        torch._foreach_add_(prev, g)
        torch._foreach_mul_(n, self.b3)
        torch._foreach_addcmul_(n, prev, prev, value=1 - self.b3)
        denominator = list(torch._foreach_sqrt(n))
        torch._foreach_div_(denominator, self.root)
        torch._foreach_add_(denominator, self.eps)
        if self.no_prox:
            torch._foreach_mul_(p, 1 - self.decay)
        torch._foreach_addcdiv_(p, m, denominator, value=-self.step_m)
        torch._foreach_addcdiv_(p, v, denominator, value=-self.step_v)
        if self.decay and not self.no_prox:
            torch._foreach_div_(p, 1 + self.decay)
        torch._foreach_copy_(prev, g)
