"""What our optimizers share: argument checks, gradients, clipping, and a state that survives a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from autoopt.optim._blocks import HALVES, compute_dtype, norm, real

Closure = Callable[[], Any]


def check(name: str, value: Any, low: float, high: float = float("inf")) -> None:
    """Raises ValueError unless low <= value < high, where value is a number or a one-element tensor."""
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"{name} as a tensor must have one element, it has {value.numel()}")
        return  # its value may live on a device: reading it would wait for that device
    if not low <= value < high:
        until = "" if high == float("inf") else f" and below {high:g}"
        raise ValueError(f"{name} must be at least {low:g}{until}, not {value}")


def check_betas(betas: tuple[Any, ...], count: int) -> None:
    """Raises ValueError unless there are `count` betas, each at least 0 and below 1."""
    if len(betas) != count:
        raise ValueError(f"betas must have {count} values, not {len(betas)}")
    for i, beta in enumerate(betas):
        check(f"betas[{i}]", beta, 0.0, 1.0)


def check_fused(fused: bool | None, **others: bool | None) -> None:
    """Raises ValueError where `fused` meets an option that asks for another way."""
    for name, value in others.items():
        if fused and value:
            raise ValueError(f"fused=True and {name}=True exclude each other")


class BaseOptimizer(Optimizer):
    """torch.optim.Optimizer whose checkpoints keep each state tensor's own dtype."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state to the bit.

        torch casts state to the parameter's dtype: that would round the float32 state of bfloat16 weights.
        """
        seen: dict[str, Any] = {}

        # As the last hook it sees what torch is about to load, other hooks' changes included.
        def remember(_: Optimizer, final: dict[str, Any]) -> None:
            seen.update(final)

        handle = self.register_load_state_dict_pre_hook(remember)
        try:
            self._loading = seen
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
            del self._loading

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                group.setdefault(key, value)  # saved before there was this option
        loading: dict[str, Any] | None = self.__dict__.get("_loading")
        if loading is None:
            return
        names = [name for group in loading["param_groups"] for name in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for name, p in zip(names, params, strict=True):
            for key, value in loading["state"].get(name, {}).items():
                if isinstance(value, Tensor) and value.dtype != self.state[p][key].dtype:
                    device = self.state[p][key].device
                    self.state[p][key] = value.to(device=device, copy=True)

    def _with_gradient(self, group: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """(parameter, gradient) of a group, in order, without those that have no gradient."""
        for p in group["params"]:
            g = p.grad
            if g is not None:
                if isinstance(g, DTensor) and isinstance(p, DTensor) and g.placements != p.placements:
                    g = g.redistribute(p.device_mesh, p.placements)
                yield p, g

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters, as torch does."""
        super().add_param_group(param_group)
        for options in (self.defaults, self.param_groups[-1]):
            if isinstance(options.get("state_dtype"), torch.dtype):
                # By name: a checkpoint of sharded models takes numbers and strings.
                options["state_dtype"] = str(options["state_dtype"]).removeprefix("torch.")

    def _refuse_gradients(self) -> None:
        # Before anything is changed, so that a caught error leaves the parameters as they were.
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.grad.is_meta:
                    raise RuntimeError(
                        f"{type(self).__name__} cannot step on the meta device: its tensors have no values. "
                        "Call model.to_empty(device=...) and load or draw the weights first."
                    )
                if p.grad is not None and p.grad.is_sparse:
                    raise RuntimeError(
                        f"{type(self).__name__} does not support sparse gradients. Build the embedding with "
                        "sparse=False, or give its parameters to torch.optim.SparseAdam."
                    )

    def _gradient_norm(self) -> Tensor:
        """Euclidean norm of all gradients of all groups and shards: 0-d, on the first gradient's device."""
        return total_norm([g for group in self.param_groups for _, g in self._with_gradient(group)])

    @staticmethod
    def _new_state(p: Tensor, name: str | None) -> Tensor:
        """Zeros like `p`, in float32 for half-precision parameters unless a dtype is asked for by name."""
        dtype = None if name is None else getattr(torch, name)
        if dtype is None:
            dtype = torch.float32 if p.dtype in HALVES else p.dtype
        elif p.is_complex():
            dtype = dtype.to_complex()
        return torch.zeros_like(p, dtype=dtype, memory_format=torch.preserve_format)


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all tensors together, over all shards: 0-d, on the first one's device."""
    norms: list[Tensor] = []
    for t in tensors:
        dtype = compute_dtype(t.dtype)
        if isinstance(t, DTensor):
            # The sharded tensor's own norm sums over the ranks; a local shard's would be too small.
            whole: Any = torch.linalg.vector_norm(t, dtype=dtype)
            norms.append(whole.full_tensor())
        else:
            norms.append(norm(real(t)))
    if not norms:
        return torch.zeros(())
    dtype = torch.float64 if any(n.dtype == torch.float64 for n in norms) else torch.float32
    total: Tensor = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device, dtype) for n in norms]))
    return total


def run_closure(closure: Closure | None) -> Any:
    """The closure's result, evaluated with gradients on; None without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def host(value: Any) -> float:
    """A hyperparameter as a float: reads CPU tensors, which costs no wait."""
    return float(value.item()) if isinstance(value, Tensor) else float(value)


def needs_tensors(group: dict[str, Any]) -> bool:
    """Whether scalars stay tensors: for autograd, graph capture, compilers, or to not wait for a device."""
    lr = group["lr"]
    on_device = isinstance(lr, Tensor) and lr.device.type != "cpu"
    asked = group["differentiable"] or group.get("capturable", False)
    return bool(asked or on_device or torch.compiler.is_compiling())


def clip_factor(limit: float, norm: Tensor, eps: float) -> Tensor:
    """min(1, limit / (norm + eps)), 0-d."""
    return (limit / (norm + eps)).clamp(max=1.0)


def readable(factor: Tensor | None, device: torch.device) -> float | Tensor | None:
    """A factor for tensors on a device: read where that is free, None where it changes nothing."""
    if factor is None:
        return None
    if factor.device.type == "cpu":
        value = factor.item()
        return None if value == 1.0 else value
    return factor.to(device)
