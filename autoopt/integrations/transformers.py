"""A recommendation trained by Hugging Face's Trainer.

Most optimizers need nothing from here: `trainer.optimizer, trainer.lr_scheduler = rec.build(trainer.model)`. Two kinds
need more than a Trainer does by itself. AdaHessian takes the loss as a closure, to differentiate it twice.
Schedule-free ones train other weights than those that are to be saved. `Recommended` does both, around the Trainer that
you have:

    class MyTrainer(Recommended, Trainer): ...

    MyTrainer(recommendation=rec, model=model, args=args, ...).train()
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autoopt import options
from autoopt.errors import UsageError
from autoopt.optim._curvature import CurvatureOptimizer
from autoopt.records import Recommendation
from autoopt.training import second_order, set_mode
from autoopt.workload import baseline, hf_batches, hf_optimizer

if TYPE_CHECKING:
    from transformers import Trainer

    _Base = Trainer
else:
    _Base = object


def build(rec: Recommendation, trainer: Any) -> tuple[Optimizer, Any]:
    """The recommended optimizer over the trainer's model, and its schedule.

    `rec.build(trainer.model)` gives the same, except that a recommendation from a file does not know your Trainer: where
    it keeps your parameter groups, your schedule or your optimizer, they are taken from this one.

    Args:
        rec: as made or loaded.
        trainer: the `transformers.Trainer` that is to train; it is left as it is.

    Raises:
        UsageError, WorkloadError: as `Recommendation.build`.
    """
    from autoopt.report import handover

    def own(model: nn.Module) -> Any:
        plain = copy.copy(trainer)
        plain.optimizer = plain.lr_scheduler = None
        plain._recommendation = None
        steps = rec.recommendation.steps
        found = hf_optimizer.make(plain, model, steps)
        optimizer, scheduler, more = baseline.parse(found, label="the Trainer", epoch_interval=False)
        return baseline.describe(optimizer, scheduler, more, steps=steps, steps_per_epoch=None)

    if not handover.remembers(rec) and rec.workload.baseline.source == "configure_optimizers":
        rec = rec.model_copy()  # so that another Trainer's stays its own
        handover.remember(rec, own)
    return rec.build(trainer.model)


def use(rec: Recommendation, trainer: Any) -> Any:
    """Gives a Trainer in hand the recommended optimizer, schedule and clipping; `trainer.train()` is next.

    Args:
        rec: as made or loaded.
        trainer: its `optimizer`, `lr_scheduler` and `args.max_grad_norm` are set.

    Returns:
        The same trainer.

    Raises:
        UsageError: it lacks what the optimizer needs (see `Recommended`).
    """
    if isinstance(trainer, Recommended):
        trainer._recommendation = rec
        trainer.optimizer = trainer.lr_scheduler = None
        return trainer
    if trainer.model_init is not None:
        raise UsageError(
            "A Trainer with model_init makes its model and its optimizer anew in train().", _way_out(trainer)
        )
    optimizer, scheduler = build(rec, trainer)
    if isinstance(optimizer, CurvatureOptimizer) or callable(getattr(optimizer, "train", None)):
        raise UsageError(
            f"{type(trainer).__name__} does not do what {type(optimizer).__name__} needs.", _way_out(trainer)
        )
    trainer.optimizer, trainer.lr_scheduler = optimizer, scheduler
    _clip(trainer, rec)
    return trainer


class Recommended(_Base):
    """A mixin before your Trainer class: it trains with what was recommended.

    Args:
        recommendation: its optimizer and schedule are made when `train()` asks for them, over the model that it then
            has (that of `model_init`, too); `args.max_grad_norm` becomes the recommended norm. None: the Trainer's
            own, or those passed as `optimizers`, with what they need.

    Raises:
        UsageError: AdaHessian with fp16, whose scaled gradients Accelerate unscales before there are any. Use bf16.

    Example:
        >>> class MyTrainer(Recommended, Trainer):  # doctest: +SKIP
        ...     pass
        >>> MyTrainer(recommendation=rec, model=model, args=args, train_dataset=data).train()  # doctest: +SKIP
    """

    def __init__(self, *args: Any, recommendation: Recommendation | None = None, **options: Any) -> None:
        self._recommendation = recommendation
        self._hooked: tuple[Optimizer, Any] | None = None
        self._step: list[tuple[Tensor | None, Any, Any, Any]] = []
        """Of each batch of the step to come: its loss with its graph, model, inputs and what it is divided by."""
        super().__init__(*args, **options)

    # --- what is trained with --------------------------------------------------------------------------

    def create_optimizer(self, *args: Any, **options: Any) -> Optimizer:
        """The recommended one, if none is there; ready to be given a closure."""
        if self.optimizer is None and self._recommendation is not None:
            self.optimizer, self.lr_scheduler = build(self._recommendation, self)
            _clip(self, self._recommendation)
        else:
            super().create_optimizer(*args, **options)
        found: Any = hf_optimizer.bare(self.optimizer)
        if isinstance(found, CurvatureOptimizer):
            self._ready(found)
        ready: Any = self.optimizer
        assert isinstance(ready, Optimizer)
        return ready

    def _ready(self, optimizer: CurvatureOptimizer) -> None:
        """Every step of it gets a closure, and clips by itself."""
        if self.args.fp16:
            raise UsageError(
                f"{type(optimizer).__name__} cannot be trained with fp16 here.", "Set bf16, or neither."
            )
        model: Any = self.model
        second_order(optimizer, model, self.args.max_grad_norm, None)
        if self._hooked is not None:
            self._hooked[1].remove()
        self._hooked = optimizer, optimizer.register_step_pre_hook(self._with_closure)

    # --- second order ----------------------------------------------------------------------------------

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """As a Trainer's; where the curvature is due, the backward pass is left to the optimizer."""
        optimizer: Any = hf_optimizer.bare(self.optimizer)
        if not isinstance(optimizer, CurvatureOptimizer) or not optimizer.hessian_due:
            found: Tensor = super().training_step(model, inputs, num_items_in_batch)
            return found
        model.train()
        inputs = self._prepare_inputs(inputs)
        if optimizer.param_groups[0]["hessian"] == "finite_difference" or optimizer.reason:
            # Both of its evaluations draw the same random numbers, so this one, for the log, is not one of them.
            with torch.no_grad():
                loss, kept = self._loss(model, inputs, num_items_in_batch), None
        else:
            with optimizer.graph_context():
                loss = kept = self._loss(model, inputs, num_items_in_batch)
        self._step.append((kept, model, inputs, num_items_in_batch))
        return loss.detach()

    def _loss(self, model: nn.Module, inputs: Any, items: Any) -> Tensor:
        """The part of a batch in the loss of its step."""
        with self.compute_loss_context_manager():
            loss: Any = self.compute_loss(model, copy.copy(inputs), num_items_in_batch=items)
        scale = 1 if hf_batches.is_scaled(self, items) else self.current_gradient_accumulation_steps
        found: Tensor = loss / scale
        return found

    def _with_closure(self, optimizer: CurvatureOptimizer, args: Any, options: Any) -> Any:  # noqa: ARG002
        """Gives a step that refreshes the curvature the loss of its batches."""
        step, self._step = self._step, []
        if not step:
            return None
        first = [True]

        def closure() -> Tensor:
            held, first[0] = first[0], False
            losses = [
                kept if held and kept is not None else self._loss(model, inputs, items)
                for kept, model, inputs, items in step
            ]
            return torch.stack(losses).sum()

        return (optimizer, closure), {}

    # --- two sets of weights ---------------------------------------------------------------------------

    def _inner_training_loop(self, *args: Any, **options: Any) -> Any:
        """Ends with the weights that are to be used."""
        self._step = []
        try:
            return super()._inner_training_loop(*args, **options)
        finally:
            if self.optimizer is not None:
                set_mode(self.optimizer, training=False)

    def _save_checkpoint(self, *args: Any, **options: Any) -> None:
        """Saves the weights that are to be used; the next step goes on with those that are trained."""
        if self.optimizer is not None:
            set_mode(self.optimizer, training=False)
        super()._save_checkpoint(*args, **options)


def _clip(trainer: Any, rec: Recommendation) -> None:
    """Sets the recommended norm of the gradient; a Trainer takes 0 for none."""
    trainer.args.max_grad_norm = options.applied(rec.recommendation.hyper, rec.settings).clip or 0.0


def _way_out(trainer: Any) -> str:
    name = type(trainer).__name__
    return f"Make it of class Mine(autoopt.integrations.transformers.Recommended, {name}) and pass recommendation=."
