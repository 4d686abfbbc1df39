"""Which parameters share a learning rate and a weight decay.

Weight decay pulls towards zero, which means nothing for a bias or for the gain of a normalization, and
punishes the rows of an embedding that a batch does not even touch. So each parameter has a kind:

    bias        named so: `bias`, `bias_ih_l0`, `in_proj_bias`
    norm        of a normalization layer; any other vector or scalar too (gains of LayerScale, gates)
    embedding   of an embedding layer, tied to one, or a bare parameter named like one (`pos_emb`)
    matrix      a hidden matrix: two-dimensional and not of the output layer; Muon's share
    weight      all else: convolution kernels, the output layer
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from autoopt.errors import UsageError, WorkloadError
from autoopt.records import GroupRecord

Kind = Literal["bias", "norm", "embedding", "matrix", "weight"]
NO_DECAY = ("bias", "norm", "embedding")

_NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
_NORM_NAME = re.compile(r"Norm(\dd)?$")
_BIAS_NAME = re.compile(r"(^|_)bias(_|$)")
_EMBEDDING_NAME = re.compile(r"emb|(^|_)token(s?)$")
_HEAD_NAME = re.compile(r"(^|_)(head|classifier|logits|unembed)(s?)($|_)")


@dataclass(frozen=True)
class Group:
    """Parameters with one multiplier of the base rate and one of the weight decay."""

    label: str
    names: tuple[str, ...]
    params: tuple[nn.Parameter, ...]
    lr_scale: float = 1.0
    decay_scale: float = 1.0
    matrices: bool = False
    """All are hidden matrices, which Muon takes."""


def kinds(model: nn.Module) -> dict[str, Kind]:
    """The kind of each trainable parameter, by its first name, in the model's order.

    >>> net = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    >>> kinds(net)["0.weight"], kinds(net)["1.weight"], kinds(net)["2.weight"]
    ('matrix', 'norm', 'weight')
    """
    embeddings = {
        id(p)
        for m in model.modules()
        if isinstance(m, nn.Embedding | nn.EmbeddingBag)
        for p in m.parameters(recurse=False)
    }
    heads = _head_parameters(model)
    owners = {id(p): m for m in model.modules() for p in m.parameters(recurse=False)}
    found: dict[str, Kind] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if is_lazy(parameter):
            raise WorkloadError(
                f"The parameter {name} has no shape yet.",
                "Run one batch through the model in build_model() before you return it.",
            )
        found[name] = (
            "embedding"
            if id(parameter) in embeddings
            else _kind(name, parameter, owners[id(parameter)], is_head=id(parameter) in heads)
        )
    return found


def _kind(name: str, parameter: nn.Parameter, owner: nn.Module, *, is_head: bool) -> Kind:
    # A parametrized tensor is called `parametrizations.bias.original`; its own name is the one before.
    parts = [part for part in name.split(".") if not re.fullmatch(r"parametrizations|original\d*", part)]
    own = parts[-1]
    if _BIAS_NAME.search(own):
        return "bias"
    if isinstance(owner, _NORMS) or _NORM_NAME.search(type(owner).__name__):
        return "norm"
    if own != "weight" and _EMBEDDING_NAME.search(own):
        return "embedding"
    if parameter.ndim < 2:
        return "norm"
    if parameter.ndim == 2 and min(parameter.shape) > 1 and not is_head:
        return "matrix"
    return "weight"


def _head_parameters(model: nn.Module) -> set[int]:
    """Ids of the output layer's parameters: called a head, or else the last linear layer."""
    linear = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    heads = [m for name, m in linear if _HEAD_NAME.search(name.rpartition(".")[2])]
    heads += [m for _, m in linear[-1:] if not heads]
    return {id(p) for m in heads for p in m.parameters()}


def split(
    model: nn.Module, *, no_decay: Sequence[str] = NO_DECAY, user: Optimizer | None = None
) -> list[Group]:
    """Groups of the trainable parameters: each once, in a fixed order, without empty groups.

    With the user's own optimizer only what it holds is trained. If it has several groups, they are kept as
    multipliers: with lr_i, wd_i of group i,

        lr_scale_i = lr_i / lr of the group with the most parameters,   decay_scale_i = wd_i / max_j wd_j

    and replace our rule of what is decayed (unless none of theirs has a decay, which says nothing).

    Args:
        model: on any device; frozen parameters are left out.
        no_decay: kinds that get no weight decay, of "bias", "norm", "embedding".
        user: the optimizer of the user's `configure_optimizers`.

    Raises:
        WorkloadError: nothing to train, or the user's optimizer holds tensors that are not the model's.

    >>> [(g.label, g.names) for g in split(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))]
    [('matrices', ('0.weight',)), ('weights', ('1.weight',)), ('no decay', ('0.bias', '1.bias'))]
    """
    unknown = sorted(set(no_decay) - set(NO_DECAY))
    if unknown:
        near = get_close_matches(unknown[0], NO_DECAY, n=1, cutoff=0.0)
        raise UsageError(f"no_decay has no kind {unknown[0]!r}.", f"Did you mean {near[0]}?")
    found = kinds(model)
    if not found:
        raise WorkloadError(
            "The model has no trainable parameters.", "Set requires_grad_(True) on what is to be trained."
        )
    named = {name: p for name, p in model.named_parameters() if name in found}
    if user is None:
        return _by_kind(named, found, no_decay, "", 1.0, None)
    theirs = _user_names(user, {id(p): n for n, p in named.items()})
    if not any(theirs):
        raise WorkloadError(
            "Your optimizer holds no trainable parameter.",
            "Set requires_grad_(True) on what configure_optimizers() is to train.",
        )
    sized = [sum(named[name].numel() for name in names) for names in theirs]
    rates = [float(g.get("initial_lr", g["lr"])) for g in user.param_groups]
    # A group with rate 0 is held still on purpose; it cannot be the unit of the others.
    unit = rates[max(range(len(rates)), key=lambda i: (rates[i] > 0, sized[i]))]
    decays = [float(g.get("weight_decay", 0.0)) for g in user.param_groups]
    several = len(user.param_groups) > 1
    groups: list[Group] = []
    for i, names in enumerate(theirs):
        prefix = str(user.param_groups[i].get("name", f"group {i}")) + ": " if several else ""
        scale = rates[i] / unit if several and unit > 0 else 1.0
        decay = decays[i] / max(decays) if several and max(decays) > 0 else None
        wanted = {name: named[name] for name in named if name in names}
        groups += _by_kind(wanted, found, no_decay, prefix, scale, decay)
    return groups


def _user_names(user: Optimizer, names: dict[int, str]) -> list[set[str]]:
    theirs: list[set[str]] = []
    for group in user.param_groups:
        outside = [p for p in group["params"] if p.requires_grad and id(p) not in names]
        if outside:
            raise WorkloadError(
                f"Your optimizer holds {len(outside)} tensors that are not parameters of the model, "
                "so that trials cannot start from the same weights.",
                "Make them part of the module that build_model() returns.",
            )
        theirs.append({names[id(p)] for p in group["params"] if id(p) in names})
    return theirs


def _by_kind(
    named: dict[str, nn.Parameter],
    found: dict[str, Kind],
    no_decay: Sequence[str],
    prefix: str,
    lr_scale: float,
    decay_scale: float | None,
) -> list[Group]:
    """Splits into matrices, other weights and what is not decayed; a given `decay_scale` holds for all."""
    parts: dict[str, list[str]] = {"matrices": [], "weights": [], "no decay": []}
    for name in named:
        kind = found[name]
        bare = decay_scale is None and kind in no_decay
        parts["no decay" if bare else "matrices" if kind == "matrix" else "weights"].append(name)
    return [
        Group(
            label=prefix + label,
            names=tuple(names),
            params=tuple(named[name] for name in names),
            lr_scale=lr_scale,
            decay_scale=(0.0 if label == "no decay" else 1.0) if decay_scale is None else decay_scale,
            matrices=label == "matrices",
        )
        for label, names in parts.items()
        if names
    ]


def as_param_groups(groups: Iterable[Group], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups as an optimizer takes them.

    Each dictionary has "params", "lr" and "weight_decay" (scaled), and for who comes later "lr_scale"
    (a schedule multiplies it in), "label" and "matrices" (Muon's share).
    """
    return [
        {
            "params": list(group.params),
            "lr": lr * group.lr_scale,
            "weight_decay": weight_decay * group.decay_scale,
            "lr_scale": group.lr_scale,
            "label": group.label,
            "matrices": group.matrices,
        }
        for group in groups
    ]


def param_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float | None = None,
    *,
    no_decay: Sequence[str] = NO_DECAY,
    user: Optimizer | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups of a model as an optimizer takes them: `split`, then `as_param_groups`.

    Args:
        model: on any device; frozen parameters are left out.
        lr: base learning rate.
        weight_decay: base weight decay; `None` for an optimizer that takes none, whose groups are not given one.
        no_decay, user: as in `split`.

    Raises:
        WorkloadError, UsageError: as in `split`.

    >>> net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    >>> [(g["lr"], g["weight_decay"], len(g["params"])) for g in param_groups(net, lr=0.1, weight_decay=0.01)]
    [(0.1, 0.01, 1), (0.1, 0.01, 1), (0.1, 0.0, 2)]
    """
    groups = as_param_groups(split(model, no_decay=no_decay, user=user), lr, weight_decay or 0.0)
    if weight_decay is None:
        for group in groups:
            del group["weight_decay"]
    return groups


def records(groups: Iterable[Group]) -> list[GroupRecord]:
    """What a report says about the groups."""
    return [
        GroupRecord(
            label=group.label,
            tensors=len(group.params),
            parameters=sum(p.numel() for p in group.params),
            lr_scale=group.lr_scale,
            decay_scale=group.decay_scale,
        )
        for group in groups
    ]
