"""What a trial is scored by: the mean validation loss, and the user's metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from autoopt.errors import UserCodeError, WorkloadError
from autoopt.workload.context import positional
from autoopt.workload.data import samples
from autoopt.workload.seeding import RngState

if TYPE_CHECKING:
    from autoopt.workload.contract import Contract
    from autoopt.workload.validation import Batches
    from autoopt.workload.workload import Workload


@dataclass(frozen=True)
class Score:
    """`loss` is the mean validation loss over samples, of a language model over tokens; `metric` is what METRIC names."""

    loss: float
    metric: float | None = None
    batches: int = 0


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def quiet_rng() -> Iterator[None]:
    """What happens inside draws from the global generators without a trace."""
    state = RngState()
    try:
        yield
    finally:
        state.restore()


def scalar(value: Any, name: str) -> Tensor:
    """The scalar tensor in what a loss function returned (itself, or its "loss").

    Raises WorkloadError: no tensor, no scalar, no floating point, or no gradient while gradients are on.
    """
    if isinstance(value, Mapping):
        if "loss" not in value:
            raise WorkloadError(f"{name} returned a dict without 'loss'.", 'Return {"loss": loss, ...}.')
        value = value["loss"]
    if not isinstance(value, Tensor):
        kind = "None" if value is None else f"a {type(value).__name__}"
        raise WorkloadError(f"{name} returned {kind}, not a tensor.", "Return the loss as a scalar tensor.")
    if value.numel() != 1:
        raise WorkloadError(
            f"{name} returned a tensor of shape {list(value.shape)}, not a scalar.",
            'Average it, e.g. loss.mean(), or reduction="mean".',
        )
    if not value.is_floating_point():
        raise WorkloadError(f"{name} returned a tensor of {value.dtype}.", "Return a floating-point loss.")
    if torch.is_grad_enabled() and not value.requires_grad:
        raise WorkloadError(
            f"{name} returned a tensor that no trainable parameter has part in.",
            "Compute it from the model that is passed in, without detach(), .item() or torch.no_grad().",
        )
    return value.reshape(())


def check_metric(metric: tuple[str, str] | None, given: Contract) -> None:
    """Raises WorkloadError for a METRIC that nothing computes."""
    computed = (given.evaluate, given.validate, given.score)
    if metric is not None and metric[0] != "loss" and computed == (None, None, None):
        raise WorkloadError(
            f"{given.label}: METRIC names {metric[0]!r}, and there is no evaluate() that computes it.",
            f'Write evaluate(model, batches) returning {{"{metric[0]}": ...}}, or leave METRIC out.',
        )


def check_without_batches(metric: tuple[str, str] | None, given: Contract) -> None:
    """Raises WorkloadError for a METRIC that would be computed on validation batches, of which there are none."""
    if metric is None or metric[0] == "loss" or (given.evaluate is not None and _alone(given.evaluate)):
        return
    raise WorkloadError(
        f"{given.label}: METRIC names {metric[0]!r}, and there are no validation batches to compute it on.",
        "Write val_dataloader(), or evaluate(model) with no other argument if it brings its own data.",
    )


def can_be_shared(given: Contract) -> bool:
    """Whether processes may score a part of the batches each: the mean loss is all that is asked for."""
    return given.evaluate is None and given.validate is None and given.score is None


def _alone(evaluate: Callable[..., Any]) -> bool:
    """Whether it takes the model only, and so has data of its own."""
    return positional(evaluate) == 1


def _arguments(given: Contract, model: nn.Module, batches: Batches) -> tuple[Any, ...]:
    assert given.evaluate is not None
    return (model,) if _alone(given.evaluate) else (model, batches)


def metric_alone(workload: Workload, model: nn.Module, loss: float) -> float | None:
    """See `Workload.metric_alone`."""
    evaluate, metric = workload.contract.evaluate, workload.metric
    if metric is None or metric[0] == "loss":
        return None if metric is None else loss
    assert evaluate is not None  # checked when the file was loaded
    with torch.no_grad():
        return _metric(workload.code("evaluate()", evaluate, model), metric)


def score(workload: Workload, model: nn.Module, batches: Batches) -> Score:
    """Mean loss over `batches`, weighted by samples or tokens, and the metric. The model is in eval mode."""
    if not workload.eval_needs_grad:
        try:
            with torch.no_grad():
                return _score(workload, model, batches)
        except UserCodeError as error:
            if not _wants_grad(error):
                raise
        workload.eval_needs_grad = True
    with torch.enable_grad():
        return _score(workload, model, batches)


def _wants_grad(error: UserCodeError) -> bool:
    return isinstance(error.__cause__, RuntimeError) and "does not require grad" in str(error.__cause__)


def _score(workload: Workload, model: nn.Module, batches: Batches) -> Score:
    given, metric = workload.contract, workload.metric
    if given.validate is not None:
        return _validated(workload, model, batches)
    losses: list[Tensor] = []
    weights: list[int] = []
    logged: list[dict[str, float]] = []
    for index, batch in enumerate(batches):
        if given.score is not None:
            value, values = workload.code("compute_metrics()", given.score, model, batch, index)
            logged.append(values)
        else:
            value = workload.loss(model, batch)
        losses.append(
            value.detach().double().cpu() if value.device.type == "mps" else value.detach().double()
        )
        weights.append(given.weigh(model, batch) if given.weigh is not None else samples(batch) or 1)
    if batches.shared is not None:
        weighted = float(sum(value * weight for value, weight in zip(losses, weights, strict=True)))
        weighted, counted, number = batches.shared(weighted, sum(weights), len(losses))
        loss = weighted / (counted or 1)
        return Score(loss, loss if metric is not None else None, int(number))
    total = sum(weights) or 1  # batches of which no label counts have a loss of no weight
    loss = float(sum(value * (weight / total) for value, weight in zip(losses, weights, strict=True)))
    found: float | None = None
    if metric is not None and metric[0] == "loss":
        found = loss
    elif given.evaluate is not None:
        found = _metric(
            workload.code("evaluate()", given.evaluate, *_arguments(given, model, batches)), metric
        )
    elif given.score is not None:
        ended = workload.code("compute_metrics()", given.score_end) if given.score_end is not None else {}
        means = _means(logged, weights) | ended
        found = _named(means, metric, "the Trainer computes") if metric is not None else None
    return Score(loss, found, len(losses))


def _validated(workload: Workload, model: nn.Module, batches: Batches) -> Score:
    """By Lightning's own validation."""
    given, metric = workload.contract, workload.metric
    assert given.validate is not None
    loss, logged = workload.code("validation", given.validate, model, batches, workload.precision)
    found: float | None = None
    if metric is not None and metric[0] == "loss":
        found = loss
    elif given.evaluate is not None:
        found = _metric(workload.code("evaluate()", given.evaluate, model, batches), metric)
    elif metric is not None:
        found = _named(logged, metric, "the validation logs")
    return Score(loss, found, len(batches))


def _means(logged: list[dict[str, float]], weights: list[int]) -> dict[str, float]:
    sums: dict[str, tuple[float, int]] = {}
    for values, weight in zip(logged, weights, strict=True):
        for name, value in values.items():
            before = sums.get(name, (0.0, 0))
            sums[name] = (before[0] + value * weight, before[1] + weight)
    return {name: value / weight for name, (value, weight) in sums.items()}


def _metric(returned: Any, metric: tuple[str, str] | None) -> float | None:
    if isinstance(returned, Mapping):
        return None if metric is None else _named(returned, metric, "evaluate() returned")
    try:
        value = float(returned)
    except (TypeError, ValueError) as error:
        kind = "None" if returned is None else f"a {type(returned).__name__}"
        raise WorkloadError(
            f"evaluate() returned {kind}.", "Return a number or a dict of numbers."
        ) from error
    return None if metric is None and math.isnan(value) else value


def _named(values: Mapping[str, Any], metric: tuple[str, str], subject: str) -> float:
    name = metric[0]
    if name not in values:
        have = ", ".join(map(str, values)) or "nothing"
        raise WorkloadError(
            f"METRIC names {name!r}, but {subject} {have}.", "Correct METRIC or add that value."
        )
    return float(values[name])
