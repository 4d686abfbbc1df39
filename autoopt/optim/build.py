"""From a description, groups and hyperparameters to a living optimizer; and what its state weighs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from autoopt.errors import OptimizerUnavailable, UsageError
from autoopt.optim.groups import Group, as_param_groups
from autoopt.optim.registry import load_class
from autoopt.optim.spec import Need, OptimSpec


def build(spec: OptimSpec, groups: Sequence[Group], hyper: Mapping[str, float]) -> Optimizer:
    """The optimizer of `spec` over `groups`, with `hyper` laid over the defaults.

    Every parameter group carries its scaled "lr" and "weight_decay", and "lr_scale" for a schedule.

    Args:
        spec: from `registry.get`.
        groups: from `groups.split`.
        hyper: flat numbers, e.g. {"lr": 1e-3, "beta2": 0.95}.

    Raises:
        OptimizerUnavailable: the package is missing, or this optimizer cannot serve this model.
        UsageError: a hyperparameter that it does not take, or a value that it refuses.

    >>> from torch import nn
    >>> from autoopt.optim import groups, registry
    >>> optimizer = build(registry.get("adamw"), groups.split(nn.Linear(2, 2)), {"lr": 0.1})
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.1, 0.1]
    """
    class_ = load_class(spec)
    _check_groups(spec, groups)
    arguments = spec.arguments(hyper)
    _check_arguments(spec, class_, arguments)
    param_groups = as_param_groups(groups, arguments["lr"], arguments.get("weight_decay", 0.0))
    if "weight_decay" not in arguments:
        for group in param_groups:
            del group["weight_decay"]
    # Each group has its own decay, so the constructor is not given one: Prodigy would print a line about it.
    rest = {key: value for key, value in arguments.items() if key != "weight_decay"}
    try:
        return class_(param_groups, **rest)
    except ValueError as error:
        shown = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise UsageError(
            f"{spec.name} refuses {shown}: {error}", "Change the value that it names."
        ) from error


def _check_groups(spec: OptimSpec, groups: Sequence[Group]) -> None:
    if Need.MATRICES_ONLY in spec.needs and not any(group.matrices for group in groups):
        raise OptimizerUnavailable(
            f"{spec.name} has nothing to do: the model has no hidden matrix.",
            "Use adamw, which is what would remain of it.",
        )
    if Need.ONE_RATE in spec.needs and len({group.lr_scale for group in groups if group.lr_scale}) > 1:
        raise OptimizerUnavailable(
            f"{spec.name} takes one learning rate for all parameters, and your groups have several.",
            "Leave it out, or give all groups of configure_optimizers() the same rate.",
        )


def _check_arguments(spec: OptimSpec, class_: type[Optimizer], arguments: Mapping[str, Any]) -> None:
    takes = inspect.signature(class_).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        takes_any = spec.flat().keys() | takes.keys() | spec.defaults.keys()
    else:
        takes_any = set(takes)
    for key in arguments:
        if key in takes_any:
            continue
        if key in spec.defaults:
            raise OptimizerUnavailable(
                f"{spec.name} cannot be used: the installed {spec.distribution} does not know {key!r}.",
                f"Update it with `pip install --upgrade {spec.distribution}`.",
            )
        near = get_close_matches(key, [*spec.flat(), *takes], n=2)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"It takes {', '.join(spec.flat())}."
        raise UsageError(f"{spec.name} takes no {key!r}.", hint)


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of the tensors in an optimizer's state, each storage once, the parameters' own not at all.

    Counts nested containers, tensors made of tensors (quantized, distributed: the local part), and optimizers
    inside the optimizer. Most optimizers make their state at the first step: before it this is 0.
    """
    return sum(tensor.untyped_storage().nbytes() for tensor in state_storages(optimizer))


def state_storages(optimizer: Optimizer) -> list[Tensor]:
    """A tensor for each storage in an optimizer's state; the parameters' own are left out."""
    seen = {
        _storage(inner)
        for group in optimizer.param_groups
        for parameter in group["params"]
        for inner in plain(parameter)
    }
    found = []
    for tensor in _state_tensors(optimizer, set()):
        for inner in plain(tensor):
            if _storage(inner) not in seen:
                seen.add(_storage(inner))
                found.append(inner)
    return found


def _state_tensors(value: Any, visited: set[int]) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Optimizer):
        if id(value) not in visited:
            visited.add(id(value))
            yield from _state_tensors(list(value.state.values()), visited)
            yield from _state_tensors([v for v in vars(value).values() if _holds_optimizer(v)], visited)
    elif isinstance(value, Mapping):
        yield from _state_tensors(list(value.values()), visited)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _state_tensors(item, visited)


def _holds_optimizer(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(isinstance(item, Optimizer) for item in value)
    return isinstance(value, Optimizer)


def plain(tensor: Tensor) -> Iterable[Tensor]:
    """The tensors with memory of their own that a tensor subclass is made of, or the tensor itself."""
    if tensor.layout is torch.sparse_coo:  # momentum of sparse gradients
        yield from (tensor._indices(), tensor._values())
        return
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        yield tensor
        return
    for name in flatten()[0]:
        part = getattr(tensor, name)
        if isinstance(part, Tensor):  # a distributed tensor names its mesh too
            yield from plain(part)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
