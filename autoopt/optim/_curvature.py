"""The part of a second-order optimizer that gets the Hessian's diagonal out of a training step."""

from __future__ import annotations

import contextlib
import logging
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.optimizer import ParamsT

from autoopt.optim._base import BaseOptimizer, Closure, run_closure, total_norm
from autoopt.optim._blocks import HALVES, compute_dtype, real
from autoopt.optim._difference import Buffers, RandomState, full_precision
from autoopt.optim._hessian import Average, exact_products, obstacle, probe, shared_generator, smooth_
from autoopt.optim._scaling import unscale

Method = Literal["double_backward", "finite_difference"]
Pairs = list[tuple[Tensor, Tensor]]

_log = logging.getLogger(__name__)
_KEPT = ("module", "scaler", "generator", "reason", "_method")


class CurvatureOptimizer(BaseOptimizer):
    """An optimizer whose update takes D, the absolute diagonal of the Hessian, from time to time.

    Its groups have the options `hessian`, `update_each`, `n_samples`, `fd_step`, `block`, `bound_step`, and
    `taken`, the count of steps; all but `block` and `bound_step` are read from the first group.
    """

    def __init__(
        self,
        params: ParamsT,
        defaults: dict[str, Any],
        *,
        module: nn.Module | None,
        scaler: torch.amp.GradScaler | None,
        generator: torch.Generator | None,
    ) -> None:
        hessian = defaults["hessian"]
        self.module = module
        self.scaler = scaler
        self.generator = generator
        self.reason = ""
        """Why "auto" uses differences; empty while it does not."""
        self._method: Method | None = None if hessian == "auto" else hessian
        self._graph_offered = False
        self._inspected = False
        super().__init__(params, {**defaults, "taken": 0})
        if hessian == "auto" and any(isinstance(p, DTensor) for p in self._all_params()):
            self._use_differences("sharded parameters have no second derivative")
        elif hessian == "auto" and isinstance(module, nn.parallel.DistributedDataParallel):
            self._use_differences("DistributedDataParallel's gradients carry no graph")

    @abstractmethod
    def _update(self, diagonals: dict[Tensor, Tensor] | None) -> None:
        """Moves the parameters by their gradients; `diagonals` (local, real) where D was refreshed."""

    # --- what a training loop asks ---

    @property
    def hessian_due(self) -> bool:
        """Whether the coming step refreshes D."""
        first = self.param_groups[0]
        return bool(first["taken"] % first["update_each"] == 0)

    @property
    def create_graph(self) -> bool:
        """Whether the coming step's backward must keep a graph: the argument of `loss.backward`."""
        wanted = self.hessian_due and self._method != "finite_difference"
        self._graph_offered = self._graph_offered or wanted
        return wanted

    @contextlib.contextmanager
    def graph_context(self) -> Iterator[None]:
        """For loss and backward of a step with graph: attention by its differentiable kernel.

        It also silences torch's warning about the cycle between parameter and gradient, which `step` breaks.
        """
        if not (self.hessian_due and self._method != "finite_difference"):
            yield
            return
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
            warnings.filterwarnings("ignore", message="Using backward.. with create_graph=True")
            yield

    def step(self, closure: Closure | None = None) -> Any:
        """Takes one step; see the class for what is valid in which mode.

        Args:
            closure: clears the gradients, computes the loss, and gradients unless it leaves that to the
                optimizer; returns the loss.

        Returns:
            What the closure returned at its first evaluation, or None.
        """
        return self._step(closure)

    # Tracing would follow neither the second differentiation nor the closure's second run.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _step(self, closure: Closure | None) -> Any:
        loss = None
        diagonals: dict[Tensor, Tensor] | None = None
        try:
            if closure is not None:
                loss, diagonals = self._with_closure(closure)
            elif self.hessian_due and not self._idle():
                diagonals = self._exact(self._pairs())
            else:
                self._refuse_sparse()
        finally:
            self._graph_offered = False
            for p in self._all_params():
                if p.grad is not None:
                    p.grad = p.grad.detach()  # breaks the cycle parameter - gradient - graph - parameter
        with torch.no_grad():
            if not unscale(self.scaler, self, list((diagonals or {}).values())):
                self._update(diagonals)
                for group in self.param_groups:
                    group["taken"] += 1
        return loss

    def _idle(self) -> bool:
        # A step at rate 0 only makes the state: torch's distributed checkpoint takes one, without a closure.
        return all(isinstance(g["lr"], float | int) and g["lr"] == 0 for g in self.param_groups)

    def _all_params(self) -> Iterator[Tensor]:
        for group in self.param_groups:
            yield from group["params"]

    def _pairs(self) -> Pairs:
        self._refuse_sparse()
        return [pair for group in self.param_groups for pair in self._with_gradient(group)]

    # --- one evaluation of the closure ---

    def _with_closure(self, closure: Closure) -> tuple[Any, dict[Tensor, Tensor] | None]:
        if not self.hessian_due:
            loss = self._evaluate(closure, graph=False)
            self._refuse_sparse()
            return loss, None
        if self._method == "finite_difference":
            return self._by_differences(closure)
        if self._method == "double_backward":
            return self._by_double_backward(closure)
        # "auto", at its first refresh: try the exact way; what the attempt moved is put back if it fails.
        state, buffers = self._random_state(), Buffers(self.module)
        drawn = None if self.generator is None else self.generator.get_state()
        try:
            result = self._by_double_backward(closure)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # what torch raises for a missing second derivative
            self._use_differences(str(error).splitlines()[0])
        else:
            self._method = "double_backward"
            return result
        state.restore()
        buffers.restore()
        if self.generator is not None and drawn is not None:
            self.generator.set_state(drawn)
        return self._by_differences(closure)

    def _use_differences(self, reason: str) -> None:
        self._method = "finite_difference"
        self.reason = reason
        _log.warning("%s takes the Hessian by differences of gradients: %s", type(self).__name__, reason)

    def _evaluate(self, closure: Closure, *, graph: bool) -> Any:
        """Runs the closure, and takes the gradients if it did not."""
        params = list(self._all_params())
        for p in params:
            p.grad = None
        loss = run_closure(closure)
        if isinstance(loss, Tensor) and loss.requires_grad and all(p.grad is None for p in params):
            active = [p for p in params if p.requires_grad]
            total = loss if self.scaler is None else self.scaler.scale(loss)
            grads = torch.autograd.grad(total, active, create_graph=graph, allow_unused=True)
            for p, g in zip(active, grads, strict=True):
                p.grad = g
            self._graph_offered = graph
        return loss

    def _random_state(self) -> RandomState:
        return RandomState({p.device for p in self._all_params()})

    # --- the exact way ---

    def _by_double_backward(self, closure: Closure) -> tuple[Any, dict[Tensor, Tensor]]:
        with self.graph_context():
            loss = self._evaluate(closure, graph=True)
            diagonals = self._exact(self._pairs())
        return (loss.detach() if isinstance(loss, Tensor) else loss), diagonals

    def _exact(self, pairs: Pairs) -> dict[Tensor, Tensor]:
        if self._method == "finite_difference":
            why = f" Reason: {self.reason}." if self.reason else ""
            raise RuntimeError(
                "AdaHessian by finite differences needs step(closure) at this step, with a closure that "
                f"computes loss and gradients.{why}"
            )
        params, grads = [p for p, _ in pairs], [g for _, g in pairs]
        if grads and not self._graph_offered and not any(g.requires_grad for g in grads):
            raise RuntimeError(
                "the gradients carry no graph. Call loss.backward(create_graph=optimizer.create_graph), or "
                'use hessian="finite_difference" with step(closure).'
            )
        if not self._inspected and (found := obstacle(grads)) is not None:
            raise RuntimeError(f'{found}. Use hessian="finite_difference" with step(closure).')
        self._inspected = True
        samples = self.param_groups[0]["n_samples"]
        average = Average(samples)
        for i in range(samples):
            probes = self._probes(params)
            average.add(probes, exact_products(params, grads, probes, keep_graph=i + 1 < samples))
        return self._smooth(params, average)

    def _probes(self, params: Sequence[Tensor]) -> list[Tensor]:
        if self.generator is None:
            self.generator = shared_generator()
        wanted = set(params)
        drawn = {}
        for p in self._all_params():
            if p.requires_grad:
                z = probe(p, self.generator)  # for all, so that the draws do not depend on who has a gradient
                if p in wanted:
                    drawn[p] = z
        return [drawn[p] for p in params]

    def _smooth(self, params: Sequence[Tensor], average: Average) -> dict[Tensor, Tensor]:
        blocks = {p: group["block"] for group in self.param_groups for p in group["params"]}
        return {p: smooth_(d, p, blocks[p]) for p, d in zip(params, average.diagonals(), strict=True)}

    # --- by differences ---

    def _by_differences(self, closure: Closure) -> tuple[Any, dict[Tensor, Tensor]]:
        devices = {p.device for p in self._all_params()}
        first = self.param_groups[0]
        with full_precision(self.module, devices):
            random_state = self._random_state()
            loss = self._evaluate(closure, graph=False)
            # A view may lie in a buffer that the next backward overwrites (DDP's buckets).
            base = [(p, g.detach().clone() if g._is_view() else g.detach()) for p, g in self._pairs()]
            params = [p for p, _ in base]
            self._refuse_halves(params)
            kept = [p.detach().clone() for p in params]
            buffers = Buffers(self.module)
            size = _step_size(params, first["fd_step"])
            average = Average(first["n_samples"])
            for _ in range(first["n_samples"]):
                probes = self._probes(params)
                after = self._random_state()
                try:
                    _shift(params, probes, size)
                    random_state.restore()
                    self._evaluate(closure, graph=False)
                finally:
                    _restore(params, kept)
                    buffers.restore()
                    after.restore()
                average.add(probes, [_quotient(p, g, size, first["bound_step"]) for p, g in base])
            for p in self._all_params():
                p.grad = None
            for p, g in base:
                p.grad = g
        return loss, self._smooth(params, average)

    def _refuse_halves(self, params: Sequence[Tensor]) -> None:
        for p in params:
            if p.dtype in HALVES:
                raise RuntimeError(
                    f"AdaHessian by finite differences needs float32 parameters, not {p.dtype}: the "
                    "perturbation would be rounded away. Keep them in float32 and compute under autocast."
                )

    # --- state ---

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **{key: self.__dict__[key] for key in _KEPT}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_graph_offered", False)
        self.__dict__.setdefault("_inspected", False)

    def state_dict(self) -> dict[str, Any]:
        """torch's, and the state of the probes' generator, so that a resumed run draws the same probes."""
        state: dict[str, Any] = super().state_dict()
        if self.generator is not None:
            state["generator"] = self.generator.get_state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state to the bit, that of the generator included."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "generator"})
        if "generator" in state_dict:
            if self.generator is None:
                self.generator = torch.Generator()
            self.generator.set_state(state_dict["generator"].cpu())


@torch.no_grad()
def _step_size(params: Sequence[Tensor], fraction: float) -> Tensor:
    """e: a fraction of the parameters' root mean square; a power of two, so that p + e z rounds less."""
    count = sum(p.numel() * (2 if p.is_complex() else 1) for p in params)
    rms = total_norm(params) / max(count, 1) ** 0.5
    size = fraction * torch.where(rms > 0, rms, torch.ones_like(rms))
    return torch.exp2(torch.log2(size).round())


@torch.no_grad()
def _shift(params: Sequence[Tensor], probes: Sequence[Tensor], size: Tensor) -> None:
    for p, z in zip(params, probes, strict=True):
        target = real(p)
        target.add_(real(z) * size.to(target))


@torch.no_grad()
def _restore(params: Sequence[Tensor], kept: Sequence[Tensor]) -> None:
    for p, copy in zip(params, kept, strict=True):
        p.copy_(copy)  # p + e z - e z is not p to the bit


@torch.no_grad()
def _quotient(p: Tensor, g: Tensor, size: Tensor, zero_noise: bool) -> Tensor:
    """(gradient now - g) / size; differences within the rounding of the gradient count as no curvature."""
    if p.grad is None:
        return torch.zeros_like(g)
    now, before = real(p.grad).to(compute_dtype(g.dtype)), real(g)
    difference = now - before
    if zero_noise:
        noise = 8 * torch.finfo(difference.dtype).eps
        level = noise * torch.maximum(before.abs(), before.square().mean().sqrt())
        difference = torch.where(difference.abs() > level, difference, torch.zeros_like(difference))
    return difference.div_(size.to(difference))
