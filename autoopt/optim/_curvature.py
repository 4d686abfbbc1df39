"""The part of a second-order optimizer that gets the Hessian's diagonal out of a training step."""

from __future__ import annotations

import base64
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

from autoopt.optim._base import BaseOptimizer, Closure, host, run_closure
from autoopt.optim._difference import Buffers, RandomState, TorchState, full_precision, is_compiled
from autoopt.optim._hessian import (
    Average,
    apart,
    draw,
    exact_products,
    in_group,
    leaves,
    obstacle,
    shared_generator,
    signed,
    smooth_,
)
from autoopt.optim._quotient import Displacement, quotients, refuse_halves, step_size
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
        self._other_leaves = False
        """Whether the loss also depends on leaves that are no parameters."""
        self._taken = False
        """Whether the optimizer took the last gradients itself, without a backward by the closure."""
        super().__init__(params, {**defaults, "taken": 0, "generator_state": ""})
        if hessian == "auto" and any(isinstance(p, DTensor) for p in self._all_params()):
            self._use_differences("sharded parameters have no second derivative")
        elif hessian == "auto" and isinstance(module, nn.parallel.DistributedDataParallel):
            self._use_differences("DistributedDataParallel's gradients carry no graph")
        elif hessian == "auto" and in_group():
            self._use_differences("gradients that are averaged over processes carry no graph")

    @abstractmethod
    def _state_of(self, p: Tensor) -> dict[str, Any]:
        """The parameter's state, made where there is none yet."""

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
        if closure is None and self._only_makes_state():
            for group in self.param_groups:
                for p, _ in self._with_gradient(group):
                    self._state_of(p)
            return None
        loss = None
        diagonals: dict[Tensor, Tensor] | None = None
        try:
            if closure is not None:
                loss, diagonals = self._with_closure(closure)
            elif self.hessian_due:
                diagonals = self._exact(self._pairs())
            else:
                self._refuse_gradients()
        finally:
            self._graph_offered = False
            held = [(p, p.grad.detach()) for p in self._all_params() if p.grad is not None]
            if self._taken:
                self._taken = False
                held = list(zip([p for p, _ in held], apart([g for _, g in held]), strict=True))
            for p, g in held:
                p.grad = g  # breaks the cycle parameter - gradient - graph - parameter
        with torch.no_grad():
            if not unscale(self.scaler, self, list((diagonals or {}).values())):
                self._update(diagonals)
                for group in self.param_groups:
                    group["taken"] += 1
        return loss

    def _only_makes_state(self) -> bool:
        # torch's distributed checkpoint takes a step at rate 0 with zeros for gradients, so that a fresh
        # optimizer has the tensors to read into. Nothing is counted: the run may as well begin here.
        return (
            not self.state
            and all(host(group["lr"]) == 0 for group in self.param_groups)
            and not any(g.requires_grad for _, g in self._pairs())
        )

    def _all_params(self) -> Iterator[Tensor]:
        for group in self.param_groups:
            yield from group["params"]

    def _pairs(self) -> Pairs:
        self._refuse_gradients()
        return [pair for group in self.param_groups for pair in self._with_gradient(group)]

    # --- one evaluation of the closure ---

    def _with_closure(self, closure: Closure) -> tuple[Any, dict[Tensor, Tensor] | None]:
        if not self.hessian_due:
            loss = self._evaluate(closure, graph=False)
            self._refuse_gradients()
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
            # What a compiled backward says instead is about its own buffers.
            compiled = "a compiled model has no second derivative" if is_compiled(self.module) else ""
            self._use_differences(compiled or str(error).splitlines()[0])
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
        self._taken = False
        loss = run_closure(closure)
        if not isinstance(loss, Tensor):
            return loss
        if loss.requires_grad and all(p.grad is None for p in params):
            self._take(loss, [p for p in params if p.requires_grad], graph)
        return loss.detach()

    def _take(self, loss: Tensor, params: list[Tensor], graph: bool) -> None:
        total = loss if self.scaler is None else self.scaler.scale(loss)
        if not graph:
            # Not autograd.grad: DistributedDataParallel and FSDP work in the hooks of a backward pass. Theirs
            # is of the whole model; alone, the parameters of other optimizers stay as they are.
            torch.autograd.backward(total, inputs=None if in_group() else params)
            return
        if in_group():
            raise RuntimeError(
                "the exact Hessian of a loss is that of one process, and this is a group of them, which may "
                'average their gradients. Use hessian="finite_difference" with step(closure).'
            )
        grads = torch.autograd.grad(total, params, create_graph=True, allow_unused=True)
        for p, g in zip(params, grads, strict=True):
            p.grad = g
        self._graph_offered = True
        self._taken = True

    def _random_state(self) -> RandomState:
        return RandomState({p.device for p in self._all_params()})

    # --- the exact way ---

    def _by_double_backward(self, closure: Closure) -> tuple[Any, dict[Tensor, Tensor]]:
        with self.graph_context():
            loss = self._evaluate(closure, graph=True)
            diagonals = self._exact(self._pairs())
        return loss, diagonals

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
        if not self._inspected:
            known = set(self._all_params())
            self._other_leaves = any(leaf not in known for leaf in leaves(grads))
        self._inspected = True
        if self._other_leaves and not self._taken:
            # An input of a loss that differentiates by it got a gradient too, in a cycle with its graph.
            held = set(params)
            for leaf in leaves(grads):
                if leaf.grad is not None and leaf not in held:
                    leaf.grad = leaf.grad.detach()
        samples = self.param_groups[0]["n_samples"]
        average = Average(samples)
        for i in range(samples):
            probes = self._probes(params)
            products = exact_products(params, grads, probes, keep_graph=i + 1 < samples)
            average.add(signed(probes, products))
        return self._smooth(params, average)

    def _probes(self, params: Sequence[Tensor], size: float | Tensor = 1.0) -> list[Tensor]:
        if self.generator is None:
            self.generator = shared_generator()
        # For all, so that the draws do not depend on who has a gradient.
        every = [p for p in self._all_params() if p.requires_grad]
        drawn = dict(zip(every, draw(every, self.generator, size), strict=True))
        return [drawn[p] for p in params]

    def _smooth(self, params: Sequence[Tensor], average: Average) -> dict[Tensor, Tensor]:
        blocks = {p: group["block"] for group in self.param_groups for p in group["params"]}
        values = average.diagonals()
        if values:
            torch._foreach_abs_(values)
        return {p: smooth_(d, p, blocks[p]) for p, d in zip(params, values, strict=True)}

    # --- by differences ---

    def _by_differences(self, closure: Closure) -> tuple[Any, dict[Tensor, Tensor]]:
        devices = {p.device for p in self._all_params()}
        first = self.param_groups[0]
        with full_precision(self.module, devices):
            random_state = self._random_state()
            loss = self._evaluate(closure, graph=False)
            pairs = self._pairs()
            params = [p for p, _ in pairs]
            refuse_halves(params, self.module)
            # The next backward may overwrite the memory of a gradient that the closure took (DDP's buckets).
            base = [g.detach().clone() if g._is_view() else g.detach() for _, g in pairs]
            displacement, buffers = Displacement(params), Buffers(self.module)
            size = step_size(params, first["fd_step"])
            average = Average(first["n_samples"])
            for _ in range(first["n_samples"]):
                moves = self._probes(params, size)
                after = TorchState(devices)
                try:
                    displacement.apply(moves)
                    random_state.restore()
                    self._evaluate(closure, graph=False)
                finally:
                    displacement.undo()
                    buffers.restore()
                    after.restore()
                moved = dict(self._pairs())
                now = _apart([moved.get(p) for p in params])
                average.add(quotients(now, base, moves, zero_noise=first["bound_step"]))
            for p in self._all_params():
                p.grad = None
            for p, g in zip(params, base, strict=True):
                p.grad = g
        return loss, self._smooth(params, average)

    # --- state ---

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **{key: self.__dict__[key] for key in _KEPT}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_graph_offered", False)
        self.__dict__.setdefault("_inspected", False)
        self.__dict__.setdefault("_taken", False)
        self.__dict__.setdefault("_other_leaves", False)

    def state_dict(self) -> dict[str, Any]:
        """torch's, and the state of the probes' generator, so that a resumed run draws the same probes."""
        state: dict[str, Any] = super().state_dict()
        if self.generator is not None:
            # In a group, and as text, because that is what torch's distributed checkpoint keeps.
            numbers = bytes(self.generator.get_state().tolist())
            state["param_groups"][0]["generator_state"] = base64.b64encode(numbers).decode()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state to the bit, that of the generator included."""
        super().load_state_dict(state_dict)
        saved = self.param_groups[0]["generator_state"]
        for group in self.param_groups:
            group["generator_state"] = ""  # a checkpoint looks for the key here; it would be out of date
        if saved:
            if self.generator is None:
                self.generator = torch.Generator()
            self.generator.set_state(torch.tensor(list(base64.b64decode(saved)), dtype=torch.uint8))


def _apart(grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    found = iter(apart([g.detach() for g in grads if g is not None]))
    return [None if g is None else next(found) for g in grads]
