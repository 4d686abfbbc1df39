"""Questions asked of a workload before trials: what will spoil a comparison, and which optimizers can be used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from autoopt.optim import build, groups, registry
from autoopt.optim._curvature import CurvatureOptimizer
from autoopt.optim.spec import Need, OptimSpec
from autoopt.workload.data import clone, digest

if TYPE_CHECKING:
    from autoopt.workload.workload import Workload

_COMPARED = 4
_SPARSE_CAPABLE = frozenset({"sgd", "adagrad"})
_HALVES = (torch.bfloat16, torch.float16)


def data_repeats(workload: Workload, seed: int) -> bool:
    """Whether the same seed gives the same first batches twice."""
    return _digests(workload, seed) == _digests(workload, seed)


def _digests(workload: Workload, seed: int) -> list[str]:
    batches = workload.batches(seed)
    try:
        return [digest(next(batches)) for _ in range(_COMPARED)]
    finally:
        batches.close()  # type: ignore[attr-defined]


def half_weights(model: nn.Module) -> str:
    """A warning for trainable weights in half precision; "" without them."""
    kinds = {
        str(p.dtype).removeprefix("torch.")
        for p in model.parameters()
        if p.requires_grad and p.dtype in _HALVES
    }
    if not kinds:
        return ""
    return (
        f"Trainable weights are {' and '.join(sorted(kinds))} without float32 masters: small updates are rounded "
        'away, which favours optimizers with large steps. Keep float32 weights and set PRECISION = "bf16".'
    )


def outside(loss: Tensor, model: nn.Module) -> list[Tensor]:
    """Tensors that the loss sends gradients to and that are no parameters of the model."""
    known = {id(p) for p in model.parameters()}
    found: list[Tensor] = []
    seen: set[Any] = set()
    stack: list[Any] = [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)  # only the nodes that accumulate a leaf's gradient have it
        if leaf is not None and id(leaf) not in known:
            found.append(leaf)
        stack.extend(function for function, _ in node.next_functions)
    return found


@contextmanager
def counting_autocast() -> Iterator[list[str]]:
    """Lists the device types of the autocast contexts that are entered inside."""
    entered: list[str] = []
    original = torch.autocast.__enter__

    def enter(self: torch.autocast) -> Any:
        if self._enabled:
            entered.append(self.device)
        return original(self)  # type: ignore[no-untyped-call]

    torch.autocast.__enter__ = enter  # type: ignore[method-assign]
    try:
        yield entered
    finally:
        torch.autocast.__enter__ = original  # type: ignore[method-assign]


def second_order(workload: Workload, model: nn.Module, batch: Any) -> str | None:
    """Why the loss cannot be differentiated twice, or None."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    try:
        with workload.autocast():
            loss = workload.loss(model, clone(batch))
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # advice on create_graph in user-registered functions; nothing is kept
            first = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
            total = [g.sum() for g in first if g is not None and g.requires_grad]
            if total:
                # Not autograd.grad: it leaves out the parts of the graph from which no parameter is reached, and
                # with them the nodes that stand for "cannot be differentiated again".
                torch.stack([t.float() for t in total]).sum().backward()  # type: ignore[no-untyped-call]
    except (torch.OutOfMemoryError, MemoryError):
        return "no memory for the second derivative"
    except RuntimeError as error:
        return f"the loss cannot be differentiated twice: {str(error).strip().splitlines()[0]}"
    finally:
        model.zero_grad(set_to_none=True)
    return None


def _not_in_a_trainer(workload: Workload) -> str | None:
    """Why Lightning's Trainer cannot give a second-order optimizer what it needs, or None."""
    if workload.accumulate > 1:
        return f"Lightning's Trainer hands an optimizer the last of the {workload.accumulate} batches of a step only"
    if workload.precision == "fp16":
        return "Lightning's Trainer scales the gradients of fp16 outside of the optimizer; bf16 works"
    return None


def unavailable(workload: Workload, model: nn.Module, batch: Any, sparse: bool) -> dict[str, str]:
    """Registry name -> why it cannot be used on this workload, of those that cannot."""
    reasons: dict[str, str] = {}
    user = workload.baseline(model)
    split = groups.split(model, user=user.optimizer if user.given else None)
    matrices = any(group.matrices for group in split)
    complex_weights = any(p.is_complex() for p in model.parameters() if p.requires_grad)
    rates = len({group.lr_scale for group in split if group.lr_scale})
    for name in registry.names():
        spec = registry.get(name)
        reason = registry.why_unavailable(spec)
        if reason is None and Need.MATRICES_ONLY in spec.needs and not matrices:
            reason = "the model has no hidden matrix"
        if reason is None and Need.ONE_RATE in spec.needs and rates > 1:
            reason = "it takes one learning rate, and the groups of configure_optimizers() have several"
        if reason is None and Need.SECOND_ORDER in spec.needs and workload.group.size > 1:
            reason = "it differentiates its gradients, and those that are averaged over processes cannot be"
        elif reason is None and Need.SECOND_ORDER in spec.needs:
            # Float32 weights can be differentiated by differences of gradients, where twice is not possible.
            halves = any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters())
            reason = second_order(workload, model, batch) if halves else None
        if reason is None and Need.SECOND_ORDER in spec.needs and workload.contract.lightning is not None:
            reason = _not_in_a_trainer(workload)
        if reason is None and sparse and name not in _SPARSE_CAPABLE:
            reason = "the gradients of Embedding(sparse=True) are sparse, which it does not take"
        if reason is None and complex_weights:
            reason = _refuses_complex(spec)
        if reason is not None:
            reasons[name] = reason
    return reasons


def _refuses_complex(spec: OptimSpec) -> str | None:
    """What an optimizer says of complex parameters, or None: many of PyTorch's take them, and no table says which."""
    toy = nn.Module()
    matrix, vector = (nn.Parameter(torch.ones(size, dtype=torch.cfloat)) for size in ((2, 2), (2,)))
    toy.register_parameter("matrix", matrix)
    toy.register_parameter("vector", vector)
    try:
        optimizer = build.build(spec, groups.split(toy), {"lr": spec.start()["lr"]})
        if callable(
            train := getattr(optimizer, "train", None)
        ):  # schedule-free ones keep two sets of weights
            train()
        for _ in range(2):  # the first step may only make the state
            if isinstance(optimizer, CurvatureOptimizer):
                optimizer.step(lambda: matrix.abs().square().sum() + vector.abs().square().sum())
            else:
                for parameter in toy.parameters():
                    parameter.grad = torch.ones_like(parameter)
                optimizer.step()
    except Exception as error:  # an optimizer of any package may fail in any way; what it says is the reason
        said = str(error).strip().splitlines() or [type(error).__name__]
        return f"it does not take the model's complex parameters: {said[0]}"
    return None
