"""Groups of parameters that come as a foreign training loop has them: a module, bare parameters, or groups of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from autoopt.errors import WorkloadError
from autoopt.optim.groups import NO_DECAY, Group, split

_WAY_OUT = (
    "Give it a module, module.parameters(), module.named_parameters(), or a list of groups, each a dictionary with "
    '"params".'
)


def groups_of(given: Any, *, no_decay: Sequence[str] = NO_DECAY, lr_scale: float = 1.0) -> list[Group]:
    """Groups of what an optimizer is asked for.

    A module is split as in `groups.split`. Of bare parameters only shapes are known: vectors (biases, gains of norms) get
    no weight decay, and none counts as a hidden matrix, so that Muon has nothing to take. Groups are kept: their "lr" and
    "weight_decay" count as multiples, of the rate of the group with the most parameters and of the largest decay.

    Args:
        given: an `nn.Module`, parameters, (name, parameter) pairs, or dictionaries with "params".
        no_decay: kinds that get no weight decay; of bare parameters "bias" and "norm" both mean vectors.
        lr_scale: multiple of the rate for all of them, e.g. 4 for a discriminator that learns faster.

    Raises:
        WorkloadError: nothing to train in it, something else in it, or "lr" in some groups only.

    >>> [(g.label, len(g.params)) for g in groups_of(nn.Linear(3, 2).parameters())]
    [('weights', 1), ('no decay', 1)]
    >>> weights = [torch.zeros(2, 2, requires_grad=True), torch.zeros(2, 2, requires_grad=True)]
    >>> slow = [{"params": [weights[0]], "lr": 0.1}, {"params": [weights[1]], "lr": 0.05}]
    >>> [(g.label, g.lr_scale) for g in groups_of(slow)]
    [('group 0: weights', 1.0), ('group 1: weights', 0.5)]
    """
    if isinstance(given, nn.Module):
        found = split(given, no_decay=no_decay)
    else:
        items: list[Any] = [given] if isinstance(given, torch.Tensor | Mapping) else _listed(given)
        if items and all(isinstance(item, Mapping) for item in items):
            found = _of_groups(items, no_decay)
        else:
            found = _by_shape(_parameters(items), "", 1.0, None, no_decay)
    if not found:
        raise WorkloadError(
            "make_optimizer() was given no trainable parameter.",
            "Generators can be read once only; and what is to be trained needs requires_grad=True.",
        )
    return [replace(group, lr_scale=group.lr_scale * lr_scale) for group in found]


def _listed(given: Any) -> list[Any]:
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise WorkloadError(f"make_optimizer() was given a {type(given).__name__}.", _WAY_OUT)
    return list(given)


def _parameters(items: Sequence[Any]) -> list[tuple[str, nn.Parameter]]:
    """(name, parameter) of those that train, each once."""
    found: dict[int, tuple[str, Any]] = {}
    for number, item in enumerate(items):
        name, value = item if isinstance(item, tuple) and len(item) == 2 else (f"parameter {number}", item)
        if not isinstance(value, torch.Tensor):
            raise WorkloadError(
                f"make_optimizer() was given a {type(value).__name__} among its parameters.", _WAY_OUT
            )
        if value.requires_grad:
            found.setdefault(id(value), (str(name), value))
    return list(found.values())


def _of_groups(items: Sequence[Mapping[str, Any]], no_decay: Sequence[str]) -> list[Group]:
    for number, item in enumerate(items):
        if "params" not in item:
            raise WorkloadError(f'Group {number} that make_optimizer() was given has no "params".', _WAY_OUT)
    named = [_parameters(_listed(_one_or_more(item["params"]))) for item in items]
    scales = _multiples(items, "lr", named)
    decays = _multiples(items, "weight_decay", named)
    several = len(items) > 1
    found: list[Group] = []
    for number, parameters in enumerate(named):
        label = str(items[number].get("name", f"group {number}")) + ": " if several else ""
        scale, decay = (scales[number], decays[number]) if several else (None, None)
        found += _by_shape(parameters, label, 1.0 if scale is None else scale, decay, no_decay)
    return found


def _one_or_more(params: Any) -> Any:
    return [params] if isinstance(params, torch.Tensor) else params


def _multiples(
    items: Sequence[Mapping[str, Any]], key: str, named: Sequence[Sequence[tuple[str, nn.Parameter]]]
) -> list[float | None]:
    """Each group's value over the unit: of rates that of the largest group, of decays the largest; None: not given."""
    have = [key in item for item in items]
    if not any(have):
        return [None] * len(items)
    if not all(have):
        raise WorkloadError(
            f'Of the groups that make_optimizer() was given only some have "{key}".',
            f'Give "{key}" in all of them, since it counts in relation to the others, or in none.',
        )
    values = [float(item[key]) for item in items]
    if key == "lr":
        sizes = [sum(p.numel() for _, p in parameters) for parameters in named]
        unit = values[max(range(len(values)), key=lambda i: (values[i] > 0, sizes[i]))]
    else:
        unit = max(values)
    return [value / unit if unit > 0 else None for value in values]


def _by_shape(
    named: Sequence[tuple[str, nn.Parameter]],
    prefix: str,
    lr_scale: float,
    decay_scale: float | None,
    no_decay: Sequence[str],
) -> list[Group]:
    vectors = bool({"bias", "norm"} & set(no_decay)) and decay_scale is None
    parts = {
        "weights": [item for item in named if not (vectors and item[1].ndim < 2)],
        "no decay": [item for item in named if vectors and item[1].ndim < 2],
    }
    return [
        Group(
            label=prefix + label,
            names=tuple(name for name, _ in members),
            params=tuple(parameter for _, parameter in members),
            lr_scale=lr_scale,
            decay_scale=(0.0 if label == "no decay" else 1.0) if decay_scale is None else decay_scale,
        )
        for label, members in parts.items()
        if members
    ]
