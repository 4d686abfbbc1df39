"""The optimizer and the schedule that a Trainer would train with: the baseline."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer

SAME = {"linear": "linear", "cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"}
"""Schedules of transformers that are, but for the first step of a warm-up, ours: theirs takes it with rate 0."""


def known_schedule(trainer: Any) -> str | None:
    """Our name of the trainer's schedule; None where it is another, or of the user's own making."""
    kind = str(getattr(trainer.args.lr_scheduler_type, "value", trainer.args.lr_scheduler_type))
    own = trainer.lr_scheduler is not None or overridden(
        trainer, "create_scheduler", "create_optimizer_and_scheduler"
    )
    return None if own or trainer.args.lr_scheduler_kwargs else SAME.get(kind)


def warmup(trainer: Any, steps: int) -> int:
    """Steps of warm-up in a run of `steps`."""
    return min(int(trainer.args.get_warmup_steps(steps)), steps - 1)


def overridden(trainer: Any, *names: str) -> bool:
    """Whether one of these methods is the user's, not transformers' own."""
    return not set(names).isdisjoint(own_methods(trainer))


def own_methods(trainer: Any) -> list[str]:
    """Methods of Trainer's that a class outside transformers overrides."""
    classes = type(trainer).__mro__
    base = next(c for c in classes if c.__module__ == "transformers.trainer" and c.__name__ == "Trainer")
    ours = [c for c in classes if issubclass(c, base) and not c.__module__.startswith("transformers.")]
    return sorted({n for c in ours for n, v in vars(c).items() if callable(v) and hasattr(base, n)})


def make(trainer: Any, model: nn.Module, steps: int) -> Any:
    """A fresh optimizer over `model` as the trainer makes it; with its scheduler where that is not one of ours.

    Args:
        trainer: is left as it is.
        model: whose parameters it holds.
        steps: optimizer steps of the real run.
    """
    ready = known_schedule(trainer) is not None
    if trainer.optimizer is not None:
        optimizer, scheduler = _again(trainer.optimizer, trainer.lr_scheduler, model)
        if scheduler is not None or ready:
            return (optimizer, scheduler) if scheduler is not None else merged(optimizer)
    else:
        optimizer, scheduler = None, None
    maker = copy.copy(trainer)
    maker.model = maker.model_wrapped = model
    maker.optimizer, maker.lr_scheduler, maker._created_lr_scheduler = optimizer, None, False
    if ready:
        maker.create_optimizer()
        return merged(bare(maker.optimizer))
    if overridden(trainer, "create_optimizer_and_scheduler"):
        maker.create_optimizer_and_scheduler(num_training_steps=steps)
    else:
        maker.create_optimizer()
        maker.create_scheduler(num_training_steps=steps)
    return bare(maker.optimizer), maker.lr_scheduler


def merged(optimizer: Optimizer) -> Optimizer:
    """The same with one group, where its groups differ in nothing: Trainer's two, unless there is weight decay.

    Optimizers whose step depends on the grouping do not come from a Trainer with equal groups.
    """
    first, *rest = ({k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups)
    if rest and all(other == first for other in rest):
        optimizer.param_groups[0]["params"] = [p for g in optimizer.param_groups for p in g["params"]]
        del optimizer.param_groups[1:]
    optimizer.param_groups[:] = [g for g in optimizer.param_groups if g["params"]]
    return optimizer


def bare(optimizer: Any) -> Any:
    """The optimizer inside Accelerate's wrapper, which is an Optimizer too."""
    return optimizer.optimizer if type(optimizer).__name__ == "AcceleratedOptimizer" else optimizer


def _again(optimizer: Any, scheduler: Any, model: nn.Module) -> tuple[Any, Any]:
    """Copies of the user's optimizer, at its initial rates and without state, and of its scheduler.

    The parameters and the modules that they hold are the very ones.
    """
    own = bare(optimizer)
    shared: dict[int, Any] = {id(x): x for x in (*model.modules(), *model.parameters(), *model.buffers())}
    shared |= {id(p): p for g in own.param_groups for p in g["params"]}
    if own is not optimizer:
        shared[id(optimizer)] = fresh = copy.deepcopy(own, shared)
    else:
        fresh = copy.deepcopy(own, shared)
    fresh.state.clear()
    if scheduler is None:
        return fresh, None
    inner = getattr(scheduler, "scheduler", scheduler)  # Accelerate's wrapper has one
    following = copy.deepcopy(inner, shared)
    # What a scheduler leaves on its optimizer's step, to see that it is called, and a copy lacks.
    step = partial(fresh.step)
    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    fresh.step = step
    return fresh, following
