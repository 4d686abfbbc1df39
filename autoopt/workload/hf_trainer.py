"""A `transformers.Trainer` held to the contract: its loaders, its `compute_loss` and its optimizer, in our loop.

transformers is never imported from here: only when the user's code has imported it can there be a Trainer.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.data import IterableDataset

from autoopt.errors import WorkloadError
from autoopt.workload import hf_batches, hf_limits, hf_metrics, hf_optimizer
from autoopt.workload.context import Context
from autoopt.workload.data import samples


def is_trainer(value: Any) -> bool:
    """Whether `value` is a `transformers.Trainer`."""
    module = sys.modules.get("transformers.trainer")
    return module is not None and isinstance(value, module.Trainer)


def find(module: ModuleType, label: str) -> Any:
    """The one Trainer of a file; None without one. Raises WorkloadError when there are several."""
    found = {id(v): (n, v) for n, v in vars(module).items() if is_trainer(v)}
    if len(found) > 1:
        names = ", ".join(name for name, _ in found.values())
        raise WorkloadError(f"{label} has {len(found)} Trainers: {names}.", "Give the target as FILE:NAME.")
    return next((value for _, value in found.values()), None)


class Adapter:
    """Calls a Trainer's methods under the contract's names.

    All is done on a shallow copy, so that what a Trainer writes into itself is not written into the user's.

    Args:
        trainer: the user's; its model is trained in place unless it has a model_init.
        label: what errors call it.

    Raises:
        WorkloadError: it needs what a trial cannot do.
    """

    def __init__(self, trainer: Any, label: str) -> None:
        hf_limits.refuse(trainer, label)
        self.label = label
        self.notes = hf_limits.notes(trainer)
        self.rebuildable = trainer.model_init is not None
        self.trainer = own = copy.copy(trainer)
        for name, value in vars(own).items():
            if type(value) in (dict, list, set):
                setattr(own, name, copy.copy(value))
        own.log = lambda *_, **__: None  # a compute_loss that logs would write into the user's run
        own.is_in_train = True
        self._lists = [
            (value, list(value))
            for name, value in vars(own.accelerator).items()
            if name in ("_dataloaders", "_models", "_optimizers", "_schedulers")
        ]
        self._modules: dict[int, tuple[nn.Module, dict[str, Any]]] = {}
        self._ready: nn.Module | None = None
        self._neftune: Any = None
        self._held: Any = None
        self.validation: Literal["own", "held_out"] = "own"
        self._train_set = trainer.train_dataset
        self.metric = hf_metrics.named(trainer)
        self._predictions = hf_metrics.Predictions(own, self.metric[0]) if self.metric else None
        self._split()

    # --- data ------------------------------------------------------------------------------------------

    def _split(self) -> None:
        """Holds validation data out of the training set where there is none, by index."""
        trainer = self.trainer
        if trainer.eval_dataset is not None or hf_optimizer.overridden(trainer, "get_eval_dataloader"):
            return
        if hf_optimizer.overridden(trainer, "get_train_dataloader"):
            return
        found = hf_batches.shares(self._train_set)
        if found is None:
            return
        trainer.train_dataset, self._held = found
        self.validation = "held_out"
        self.notes.append("No eval_dataset: a tenth of train_dataset is held out for validation.")

    def train_dataloader(self) -> Any:
        """The trainer's own loader, in an order that a seed decides."""
        loader = hf_batches.plain(self.trainer.get_train_dataloader())
        accumulate = self.trainer.args.gradient_accumulation_steps
        if accumulate == 1:
            return loader
        with suppress(TypeError):
            left = len(loader) % accumulate
            if left and len(loader) > accumulate:
                self.notes.append(
                    f"A Trainer ends an epoch with a step of {left} instead of {accumulate} batches; here a step's "
                    "batches go on into the next epoch."
                )
        return hf_batches.Steps(loader, self._items, accumulate)

    @property
    def val_dataloader(self) -> Callable[[], Any] | None:
        """The trainer's own validation loader; None where there is none, nor can be."""
        trainer = self.trainer
        if self._held is not None:
            return lambda: hf_batches.plain(trainer.get_eval_dataloader(self._held))
        if isinstance(trainer.eval_dataset, dict):
            return self._one_of_several
        if trainer.eval_dataset is None and not hf_optimizer.overridden(trainer, "get_eval_dataloader"):
            return None
        return lambda: hf_batches.plain(trainer.get_eval_dataloader())

    def _one_of_several(self) -> Any:
        """The validation set that the metric names; else the first."""
        names = [str(name) for name in self.trainer.eval_dataset]
        wanted = self.metric[0] if self.metric else ""
        name = next((n for n in names if wanted.startswith(f"{n}_")), names[0])
        if len(names) > 1:
            self.notes.append(f"Of the {len(names)} validation sets {name!r} is used.")
        return hf_batches.plain(self.trainer.get_eval_dataloader(name))

    def _items(self, batches: list[Any]) -> Any:
        """Labels that count in all of `batches`, as the trainer counts them; None where it does not."""
        trainer = self.trainer
        return trainer.get_batch_samples(iter(batches), len(batches), trainer.args.device)[1]

    # --- training --------------------------------------------------------------------------------------

    def build(self) -> nn.Module:
        """Another model of model_init, or the trainer's own."""
        if not self.rebuildable:
            model = self.trainer.model
            for module in model.modules():
                self._modules.setdefault(id(module), (module, dict(vars(module))))
        else:
            model = self.trainer.call_model_init()
            if getattr(model, "config", None) is not None:
                model.config.use_cache = self.trainer.args.use_cache
        assert isinstance(model, nn.Module)
        return model

    def prepare(
        self, model: nn.Module, context: Callable[[], Context], per_epoch: int | None, accumulate: int
    ) -> None:
        """What `Trainer.train` does to a model before the first step, and a state in which no step is taken."""
        trainer, now = self.trainer, context()
        trainer.model = trainer.model_wrapped = model
        trainer.state = copy.copy(trainer.state)
        trainer.state.global_step, trainer.state.epoch = 0, 0.0
        trainer.state.max_steps = now.total_steps
        trainer.state.num_train_epochs = math.ceil(now.total_steps / per_epoch) if per_epoch else 1
        trainer.current_gradient_accumulation_steps = accumulate
        if self._ready is not model:
            self._ready = model
            self._checkpoint(model)
            if trainer.neftune_noise_alpha is not None:
                from transformers.integrations.neftune import activate_neftune

                noise = trainer.neftune_noise_alpha
                self._neftune = activate_neftune(model, noise, trainer.accelerator)  # type: ignore[no-untyped-call]

    def _checkpoint(self, model: Any) -> None:
        """Recomputes activations in the backward pass, where the arguments say so."""
        args = self.trainer.args
        if getattr(args, "activation_checkpointing", False):
            options = dict(args.activation_checkpointing_kwargs or {})
            every, offload = options.pop("every_n_layers", 1), options.pop("offload", False)
            model.activation_checkpointing_enable(
                activation_checkpointing_kwargs=options or None, every_n_layers=every, offload=offload
            )
        elif getattr(args, "gradient_checkpointing", False):  # transformers before 5
            model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs
            )

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """`compute_loss`, scaled so that the mean over a step's batches is the step's loss in a Trainer."""
        trainer = self.trainer
        if isinstance(batch, hf_batches.MicroBatch):
            inputs, items, of = batch.inputs, batch.items, batch.of
        else:
            inputs, of = batch, 1
            items = self._items([batch])
        trainer.current_gradient_accumulation_steps = of
        loss: Tensor = trainer.compute_loss(model, inputs, num_items_in_batch=items)
        return loss * of if of > 1 and hf_batches.is_scaled(trainer, items) else loss

    def after_step(self, model: nn.Module, ctx: Context) -> None:  # noqa: ARG002
        """Counts the step where a compute_loss may look for it."""
        self.trainer.state.global_step = ctx.step

    def configure_optimizers(self, model: nn.Module, ctx: Context) -> Any:
        """Today's optimizer, and its scheduler where it is none of ours."""
        return hf_optimizer.make(self.trainer, model, ctx.real_steps)

    # --- validation ------------------------------------------------------------------------------------

    def weigh(self, model: nn.Module, batch: Any) -> int:  # noqa: ARG002
        """What a batch's loss is a mean over: labels that count, or else samples."""
        items = self._items([batch])
        return int(items) if items is not None else samples(batch) or 1

    @property
    def score(self) -> Callable[[nn.Module, Any, int], tuple[Tensor, dict[str, float]]] | None:
        """Loss and predictions of a batch, where a metric is compared."""
        return self._predictions.score if self._predictions else None

    @property
    def score_end(self) -> Callable[[], dict[str, float]] | None:
        """The metrics."""
        return self._predictions.end if self._predictions else None

    # --- settings --------------------------------------------------------------------------------------

    def constants(self) -> dict[str, Any]:
        """The contract's constants, of TrainingArguments."""
        args = self.trainer.args
        steps = self._steps()
        found: dict[str, Any] = {
            "STEPS": steps,
            "ACCUMULATE": args.gradient_accumulation_steps,
            "CLIP": args.max_grad_norm if args.max_grad_norm else None,
            "PRECISION": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        }
        if (kind := hf_optimizer.known_schedule(self.trainer)) is not None:
            found["SCHEDULE"] = kind
            found["WARMUP"] = hf_optimizer.warmup(self.trainer, steps) / steps
        if self.metric is not None:
            found["METRIC"] = self.metric
        return found

    def _steps(self) -> int:
        """Of the real run, which trains on what is held out here too."""
        args = self.trainer.args
        if args.max_steps > 0:
            return int(args.max_steps)
        whole = self._train_set if self._held is not None else self.trainer.train_dataset
        if isinstance(whole, IterableDataset):
            raise WorkloadError(
                f"{self.label} has a train_dataset without a length.", "Set max_steps in TrainingArguments."
            )
        other = copy.copy(self.trainer)
        other.train_dataset = whole
        per_epoch = max(1, math.ceil(len(other.get_train_dataloader()) / args.gradient_accumulation_steps))
        steps: int = math.ceil(args.num_train_epochs * per_epoch)
        return max(1, steps)

    def release(self) -> None:
        """The user's model and accelerator as they were; hooks and weights are the guard's matter."""
        if self._neftune is not None:
            self._neftune.remove()
        for module, before in self._modules.values():
            module.__dict__.clear()
            module.__dict__.update(before)
        for live, before_list in self._lists:
            live[:] = before_list
