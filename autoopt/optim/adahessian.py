"""AdaHessian: Adam with the Hessian's diagonal in the denominator (Yao et al. 2021, arXiv 2006.00719)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import ParamsT

from autoopt.optim._adahessian_kernel import AdaHessianKernel, can_be_fast
from autoopt.optim._base import check, check_betas, clip_factor, readable
from autoopt.optim._blocks import Row, real, update
from autoopt.optim._curvature import CurvatureOptimizer
from autoopt.optim._hessian import Block, check_block


class AdaHessian(CurvatureOptimizer):
    r"""Adam whose denominator is the root mean square of the loss's curvature instead of the gradient's.

    With a probe z of independent signs, H z from a second differentiation, D = |H z| averaged over each
    convolution kernel's spatial dimensions, t counted for each parameter, and element-wise products:

    .. math::
        m &\leftarrow \beta_1 m + (1-\beta_1) g \\
        h &\leftarrow \beta_2 h + (1-\beta_2) D^2 \\
        p &\leftarrow p - \eta\Big(\frac{m/(1-\beta_1^t)}{(\sqrt{h/(1-\beta_2^t)})^k + \epsilon}
              + \lambda p\Big)

    (arXiv 2006.00719, algorithm 1, eq. 9 to 12.) The product comes from one of two methods:

    * "double_backward": the exact H z, a gradient of <g, z>. The loss must be differentiable twice: torch
      has no second derivative of fused attention, cuDNN's recurrent nets or compiled models, nor of a
      gradient that passed through DistributedDataParallel or FSDP. These are told. Not told is a custom
      autograd.Function whose backward detaches what it computes without being marked `once_differentiable`:
      it counts as linear, in "auto" too, so that its curvature is missing from D. Use differences there.
    * "finite_difference": (gradient at p + e z - gradient at p) / e on the same batch with the same random
      numbers. It needs gradients only, so it works everywhere, and float32 parameters. Both passes run with
      autocast off. The two methods have different best learning rates: tune them apart.

    How to drive it:

    * `optimizer.step(closure)`, valid with every method. The closure clears the gradients, computes the loss,
      calls `loss.backward(create_graph=optimizer.create_graph)` and returns the loss. For
      "finite_difference" a plain `loss.backward()` does. A closure that returns the loss without calling
      backward is the best for "double_backward": the gradients are then taken without a reference cycle
      ever being made. Clip by `max_grad_norm`, not in the closure.
    * `loss.backward(create_graph=optimizer.create_graph); optimizer.step()`, valid with "double_backward" and
      "auto", which then is exact or an error; valid with "finite_difference" on steps where `hessian_due` is
      False. Clipping in between is fine. Compute loss and backward inside `optimizer.graph_context()`
      where the model has attention.

    State: m and h, each of the parameter's shape: 8 bytes per float32 parameter, as AdamW; 4 more with
    update_each > 1, for the last D. During a step that refreshes D, one more copy for H z; the difference
    also holds a copy of parameters and gradients, the exact way the graph of the backward pass.

    Cost: about two training steps with either method, 1 + 1/j of one with update_each = j.

    When: ill-conditioned losses of moderate size. The authors' lr 0.15 for ResNets (1.5 times SGD's, 150
    times Adam's); 31 times Adam's for IWSLT14 with block 32, betas (0.9, 0.98). Weight decay is (SGD's) /
    lr. A warm-up of a few hundred steps. Ranges that work: lr 1e-3 to 1, eps 1e-4 to 1e-2, hessian_power
    0.5 to 1.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate, a float or a one-element tensor.
        betas: decay of m and h per step, each in [0, 1).
        eps: added to the denominator, in the curvature's unit to the power k.
        weight_decay: lambda, decoupled.
        hessian_power: k, in [0, 1].
        update_each: steps between fresh D; the last one is used in between.
        n_samples: probes whose z * (H z) is averaged before the absolute value.
        block: None, "row" (matrices: mean over the input dimension), or the length of runs of the flattened
            tensor over which D is averaged, within one shard. Per group.
        hessian: a method, or "auto": exact where the loss allows it, else, and in a group of processes, by
            differences; `reason` says why.
        fd_step: e, as a fraction of the parameters' root mean square (rounded to a power of two). Smooth nets
            are best at 1e-3 (error 0.1 to 0.2 %); the kinks of ReLU ask for less.
        bound_step: where the curvature is zero (a parameter that enters linearly), use D = |g|: Adam's step
            instead of one of lr/eps. False is the plain formula.
        max_grad_norm: clips the gradient, after H z, by its norm over all groups and shards; 0 does not.
        module: the model; its buffers (BatchNorm's statistics) are then moved once per step only, and
            autocast is switched off inside it for differences. Required where parameters are sharded: mixed
            precision that casts them is looked for in it, and refused.
        scaler: the GradScaler that scales the loss. The optimizer then divides gradients and H z by the scale
            and skips the step on overflow; call `optimizer.step(closure)` or `scaler.step(optimizer)`, and
            `scaler.update()` after it.
        generator: where the probes are drawn; its state is part of `state_dict`. In a process group the
            default is one seed for all ranks.
        foreach: batch small tensors into one call (None or True); False goes one by one, with the same bits.
        maximize: ascend instead of descend.

    Raises:
        ValueError: a hyperparameter outside its range; a block that does not divide a parameter or a shard.
        RuntimeError: a sparse gradient; no graph, no closure or no method where one is needed.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> optimizer = AdaHessian(layer.parameters(), module=layer)
        >>> loss = optimizer.step(lambda: layer(torch.ones(4, 2)).square().mean())
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.15,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        hessian_power: float = 1.0,
        *,
        update_each: int = 1,
        n_samples: int = 1,
        block: Block = None,
        hessian: Literal["double_backward", "finite_difference", "auto"] = "auto",
        fd_step: float = 1e-4,
        bound_step: bool = True,
        max_grad_norm: float = 0.0,
        module: nn.Module | None = None,
        scaler: torch.amp.GradScaler | None = None,
        generator: torch.Generator | None = None,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        check("lr", lr, 0.0)
        check("eps", eps, 0.0)
        check_betas(betas, 2)
        check("weight_decay", weight_decay, 0.0)
        check("max_grad_norm", max_grad_norm, 0.0)
        check("fd_step", fd_step, 1e-12)
        check("update_each", update_each, 1)
        check("n_samples", n_samples, 1)
        if not 0.0 <= hessian_power <= 1.0:
            raise ValueError(f"hessian_power must be between 0 and 1, not {hessian_power}")
        if hessian not in ("double_backward", "finite_difference", "auto"):
            raise ValueError(
                f'hessian must be "double_backward", "finite_difference" or "auto", not {hessian!r}'
            )
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "hessian_power": hessian_power,
            "update_each": update_each,
            "n_samples": n_samples,
            "block": block,
            "hessian": hessian,
            "fd_step": fd_step,
            "bound_step": bound_step,
            "max_grad_norm": max_grad_norm,
            "foreach": foreach,
            "maximize": maximize,
            "taken": 0,
        }
        self._curved: set[Tensor] = set()
        """Parameters whose last D has no zeros."""
        super().__init__(params, defaults, module=module, scaler=scaler, generator=generator)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters; a block that does not divide one of them, or its shards, is refused by name."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        index = len(self.param_groups) - 1
        names = group.get("param_names") or [
            f"parameter {i} of group {index}" for i in range(len(group["params"]))
        ]
        try:
            check_block(group["block"], zip(names, group["params"], strict=True))
        except ValueError:
            self.param_groups.pop()
            raise

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._curved = set()

    def _update(self, diagonals: dict[Tensor, Tensor] | None) -> None:
        if diagonals is not None:
            # Looked up once per refresh, and where reading the answer costs no wait.
            self._curved = {p for p, d in diagonals.items() if d.device.type == "cpu" and d.all()}
        norm = self._gradient_norm() if any(g["max_grad_norm"] > 0 for g in self.param_groups) else None
        for group in self.param_groups:
            clip = None
            if norm is not None and group["max_grad_norm"] > 0:
                clip = clip_factor(group["max_grad_norm"], norm, 1e-6)
            found = []
            for p, g in self._with_gradient(group):
                state = self._state_of(p)
                d = self._diagonal(p, group, diagonals)
                if d is not None:
                    found.append((p, g, state, d))
            if not found:
                continue
            steps = [state["step"] for _, _, state, _ in found]
            torch._foreach_add_(steps, torch.ones(()), alpha=1.0)  # a plain 1 would become a tensor for each
            power = group["hessian_power"]
            alike: dict[tuple[Any, ...], list[Row]] = {}
            for p, g, state, d in found:
                tensors: tuple[Tensor, ...] = (p, g, state["exp_avg"], state["exp_hessian_diag_sq"], d)
                if isinstance(p, DTensor) or p.is_complex():
                    tensors = tuple(map(real, tensors))
                fast = can_be_fast(tensors, power)
                key = (state["step"].item(), fast, p.device, *[t.dtype for t in tensors])
                alike.setdefault(key, []).append(Row(tensors, scale=0.0 if p in self._curved else 1.0))
            for (t, fast, device, *_), rows in alike.items():
                kernel = AdaHessianKernel(group, t, readable(clip, device), fast)
                update(rows, kernel, written=(0, 2, 3), together=group["foreach"] is not False)

    def _state_of(self, p: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[p]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = self._new_state(p, None)
            state["exp_hessian_diag_sq"] = self._new_state(p, None)
            if self.param_groups[0]["update_each"] > 1:
                state["hessian_diag"] = self._new_state(p, None)
        return state

    def _diagonal(
        self, p: Tensor, group: dict[str, Any], diagonals: dict[Tensor, Tensor] | None
    ) -> Tensor | None:
        """This step's D, from `diagonals` or from the last refresh; None where the parameter has none yet."""
        state = self.state[p]
        if diagonals is not None:
            if self.param_groups[0]["update_each"] > 1:
                if "hessian_diag" not in state:  # the option was changed during the run
                    state["hessian_diag"] = self._new_state(p, None)
                real(state["hessian_diag"]).copy_(diagonals[p])
            return diagonals[p]
        last: Tensor | None = state.get("hessian_diag")
        if group["bound_step"]:  # zeros, where the first gradient came between two refreshes: Adam's step
            return torch.zeros_like(real(state["exp_avg"])) if last is None else last
        return last if state["step"].item() > 0 else None  # the plain formula waits for a refresh
