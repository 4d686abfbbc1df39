"""The workload: the user's model, data and loss, held so that every trial starts from the same place."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from autoopt.errors import DeviceError, UserCodeError, WorkloadError
from autoopt.records import Flags, FrozenWeights, Settings, WorkloadReport
from autoopt.workload import baseline, contract, huggingface, scoring, settings
from autoopt.workload.alone import Alone
from autoopt.workload.boundary import UserCode
from autoopt.workload.checkpoint import Checkpoint
from autoopt.workload.contract import Contract, slip_of
from autoopt.workload.data import move, samples
from autoopt.workload.guard import Guard
from autoopt.workload.holdout import hold_out
from autoopt.workload.live import LiveModel
from autoopt.workload.loading import Project
from autoopt.workload.scoring import Score
from autoopt.workload.seeding import derive, seed_everything
from autoopt.workload.source import Source
from autoopt.workload.validation import Batches, Held

if TYPE_CHECKING:
    from autoopt.workload.baseline import UserOptimizer


class Workload:
    """What trains: made by `load` or `from_callables`.

    Args:
        given: the user's functions.
        code: the border to them.
        flags: what the command line overrides.
        device: "cpu", "cuda:0", ...
        target: what the user named.
        project: the imported file, taken out of the process by `close`.
        guard: puts the user's objects back at `close`.
        checkpoint: what trainings start from, in the place of initial weights.
        group: this process among those that train the model together; it trains alone unless given.

    Raises:
        DeviceError: the device is not there.
        WorkloadError: something of the contract is missing or unusable.
    """

    def __init__(
        self,
        given: Contract,
        code: UserCode,
        flags: Flags,
        device: str,
        target: str,
        project: Project | None = None,
        guard: Guard | None = None,
        checkpoint: Checkpoint | None = None,
        group: Alone | None = None,
    ) -> None:
        self.group = group or Alone()
        self.contract, self.code, self.flags, self.target = given, code, flags, target
        self.device = _device(device)
        self.project, self.guard = project, guard or Guard()
        self.checkpoint = checkpoint
        self.seconds: dict[str, float] = {}
        self.restore: Literal["in_place", "rebuilt"] | None = None
        """How initial weights come back; known after the first `start`."""
        self._notes: list[str] = []
        self._live = LiveModel(given, code, self.device, self.note, self.group)
        self.eval_needs_grad = False
        """Whether the loss takes gradients itself (of the input, say), so that it cannot be had under no_grad."""
        self._set_context(
            seed=0, total_steps=1, real_steps=1, is_trial=os.environ.get("AUTOOPT_TRIAL") == "1"
        )
        if given.train_dataloader is None or given.lightning is not None:
            _ = self.model  # a LightningModule brings its loaders, and is built to be asked
        begin = time.perf_counter()
        self.train_source, self._held_source, self.validation = self._data()
        self.group.check_loader(self.train_source.loader, given.label)
        self.seconds["data"] = time.perf_counter() - begin
        scoring.check_metric(self._own_settings.metric, given)
        if self.validation == "prequential":
            scoring.check_without_batches(self._own_settings.metric, given)

    # --- what is known ---------------------------------------------------------------------------------

    @property
    def kind(self) -> contract.Kind:
        """functions, lightning, huggingface or callables."""
        return self.contract.kind

    @property
    def notes(self) -> list[str]:
        """What the user should know, gathered so far."""
        return list(dict.fromkeys([*self.contract.notes, *self._notes]))

    def note(self, text: str) -> None:
        """Adds to `notes`."""
        if text:
            self._notes.append(text)

    @cached_property
    def _own_settings(self) -> Settings:
        return self._settings(own_schedule=self.contract.constants.get("SCHEDULE") == "yours")

    @cached_property
    def settings(self) -> Settings:
        """How the real run trains, or what remains of it.

        Builds the model where only that tells whether there is a scheduler.
        """
        return self._whole if self.checkpoint is None else self.checkpoint.rest(self._whole)

    @cached_property
    def _whole(self) -> Settings:
        """The settings of the run from its begin to its end."""
        named = self.flags.schedule is not None or self.contract.constants.get("SCHEDULE", "yours") != "yours"
        if named or self.contract.configure_optimizers is None:
            return self._settings(own_schedule=False)
        return self._settings(own_schedule=self.baseline(self.model).schedule is not None)

    def _settings(self, own_schedule: bool) -> Settings:
        constants: Mapping[str, Any] = self.contract.constants
        lightning = self.contract.lightning
        if lightning is not None:
            constants = lightning.given.resolved(constants, self.train_source.length)
        return settings.resolve(
            constants,
            self.flags,
            label=self.contract.label,
            batches_per_epoch=self.train_source.length,
            own_schedule=own_schedule,
            samples_per_batch=lambda: self._samples_per_batch,
        )

    @cached_property
    def _samples_per_batch(self) -> int | None:
        """Of the loader's first batch, which is read at the need, and random state is as before afterwards."""
        with scoring.quiet_rng(), closing(self.train_source.endless(0)) as batches:
            return samples(next(batches))

    @property
    def metric(self) -> tuple[str, Literal["min", "max"]] | None:
        """What METRIC names."""
        return self._own_settings.metric

    @property
    def precision(self) -> str:
        """fp32, bf16 or fp16."""
        return self._own_settings.precision

    @property
    def accumulate(self) -> int:
        """Batches to a step."""
        return self._own_settings.accumulate

    @property
    def frozen(self) -> FrozenWeights | None:
        """What is not trained, as it was when the model was built; known after the first `start`."""
        return self._live.frozen

    @property
    def rebuildable(self) -> bool:
        """Whether a trial may have a model of its own."""
        return self._live.rebuildable

    @property
    def model(self) -> nn.Module:
        """The live model, built at the first need."""
        return self._live.model

    @cached_property
    def held(self) -> Held:
        """The validation batches, read at the first need. Raises WorkloadError when there are none."""
        if self._held_source is None:
            raise WorkloadError(
                f"{self.contract.label} has no validation data, and none can be held out of this loader.",
                "Write val_dataloader(), or return a DataLoader over a map-style data set.",
            )
        with scoring.quiet_rng():
            held = Held(self._held_source)
        self.note(held.note)
        return held

    # --- a training ------------------------------------------------------------------------------------

    def start(
        self, seed: int, total_steps: int, *, is_trial: bool = True, real_steps: int | None = None
    ) -> nn.Module:
        """The live model with the initial weights of `seed`, in train mode, on the device; RNGs seeded.

        Args:
            seed: decides initial weights and the order of batches.
            total_steps: optimizer steps of this training.
            is_trial: False in the real run.
            real_steps: of the real run, where they are others than the settings': with another batch they are.
        """
        if self.restore is None and is_trial:  # the real run starts once
            self._set_context(seed=seed, total_steps=total_steps, is_trial=is_trial)
            from autoopt.workload import verify

            self.restore = verify.restores(self, seed)
            if self.restore == "rebuilt":
                self.note(
                    "Initial weights do not come back by restoring parameters and buffers (the model keeps other "
                    "state): it is built anew for each trial."
                )
        return self.fresh(seed, total_steps, is_trial=is_trial, real_steps=real_steps)

    def fresh(
        self, seed: int, total_steps: int, *, is_trial: bool = True, real_steps: int | None = None
    ) -> nn.Module:
        """`start` without the check that restoring works."""
        self._set_context(seed=seed, total_steps=total_steps, is_trial=is_trial)
        model = self._live.anew(seed) if self.restore == "rebuilt" else self._live.at(seed)
        self.seconds["build"] = self._live.build_seconds or 0.0
        if self.checkpoint is not None:
            self.checkpoint.write(model)
        model.zero_grad(set_to_none=True)
        model.train()
        real = self._own_settings.steps if real_steps is None else real_steps
        self._set_context(seed=seed, total_steps=total_steps, real_steps=real, is_trial=is_trial)
        self._prepare(model)
        self.group.begin(model, self._loss, self.precision)
        seed_everything(derive(seed, "train"))
        return model

    def forget(self) -> None:
        """Lets the model go; the next need builds another."""
        self._live.drop()

    def sketch(self) -> nn.Module:
        """The model in train mode, built but given no initial weights: to be looked at under fake tensors."""
        self._set_context(seed=0, total_steps=1, real_steps=self._own_settings.steps, is_trial=True)
        model = self._live.sketch()
        model.train()
        self._prepare(model)
        return model

    def batches(self, seed: int) -> Iterator[Any]:
        """Endless batches, epoch after epoch, every generator reseeded per (seed, epoch); of several processes its own."""
        return self.group.share(self.train_source.endless(seed))

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The user's loss of a batch, which is moved to the device: a scalar tensor.

        With several processes its backward averages the gradients over them.

        Raises WorkloadError when it is no scalar tensor or, while gradients are on, depends on no parameter.
        """
        if self.group.averages(model):
            return self.group.loss(batch)
        return self._loss(model, batch)

    def _loss(self, model: nn.Module, batch: Any) -> Tensor:
        function = self.contract.loss
        assert function is not None
        try:
            value = self.code("loss()", function, model, move(batch, self.device))
        except UserCodeError as error:
            if function is huggingface.loss and not error.hint:
                error.hint = (
                    f"{slip_of('loss', self.contract.notes)}{self.contract.label} has no loss(), so the model was called "
                    "with the batch itself: write loss(model, batch)."
                )
            raise
        return scoring.scalar(value, "loss()" if self.contract.lightning is None else "training_step()")

    def after_step(self, model: nn.Module) -> None:
        """To be called after each optimizer step: counts it, and calls the user's `after_step`."""
        self.code.context = replace(self.code.context, step=self.code.context.step + 1)
        if self.contract.after_step is not None:
            with torch.no_grad():
                self.code("after_step()", self.contract.after_step, model)

    def evaluate(self, model: nn.Module, n_batches: int | None = None) -> Score:
        """Score on `n_batches` evenly spaced validation batches (all by default), in eval mode, without gradients.

        Modes and random state are as before afterwards. Raises WorkloadError for a prequential workload.
        """
        batches = Batches(self.held, n_batches, self.device)
        self.group.same_buffers(model)
        if self.group.size > 1 and scoring.can_be_shared(self.contract) and self.group.parallel == "plain":
            batches = batches.part(self.group.rank, self.group.size, self.group.sums)
        with scoring.quiet_rng(), scoring.eval_mode(model), self.autocast():
            found = scoring.score(self, model, batches)
        self.group.rest(model)
        return found

    def metric_alone(self, model: nn.Module, loss: float) -> float | None:
        """What METRIC names where there are no validation batches: the value of `evaluate(model)`, or the loss itself."""
        with scoring.quiet_rng(), scoring.eval_mode(model), self.autocast():
            return scoring.metric_alone(self, model, loss)

    def autocast(self) -> Any:
        """The autocast context of the precision; nothing for fp32."""
        precision = self.precision
        if precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if precision == "bf16" else torch.float16)

    def baseline(self, model: nn.Module) -> UserOptimizer:
        """The user's optimizer over `model` with the shape of its schedule, or AdamW at 1e-3.

        Raises WorkloadError for several optimizers.
        """
        if self.contract.configure_optimizers is None:
            return baseline.default(model)
        steps = self._own_settings.steps
        before = self.code.context
        self.code.context = replace(before, total_steps=steps, real_steps=steps)
        self._prepare(model)  # it may ask self.trainer for the length of the run, before any start()
        try:
            found = self.own_optimizer()(model)
        finally:
            self.code.context = before
        self.note(found.note)
        return found

    def keep(self, model: nn.Module) -> UserOptimizer:
        """The user's optimizer as a trial of the baseline has it: in mid-run with its state and the rest of its schedule.

        Raises: WorkloadError, as `baseline`; or the saved state is another optimizer's.
        """
        found = self.baseline(model)
        if self.checkpoint is None:
            return found
        if not found.given and self.checkpoint.optimizer is not None:
            raise WorkloadError(
                f"{self.checkpoint.source} holds an optimizer's state, and nothing says whose it is.",
                "Write configure_optimizers(model) that returns that optimizer (and its scheduler).",
            )
        return self.checkpoint.restore(found, self._whole, self.settings)

    def own_optimizer(self) -> Callable[[nn.Module], UserOptimizer]:
        """`baseline` as a function that holds on neither to the model nor to the data."""
        function, steps = self.contract.configure_optimizers, self._own_settings.steps
        if function is None:
            return baseline.default
        length, code = self.train_source.length, self.code
        label, epochs = self.contract.label, self.contract.epoch_interval
        may_have_none = self.contract.lightning is not None
        per_epoch = length / self._own_settings.accumulate if length is not None else None

        def make(model: nn.Module) -> UserOptimizer:
            returned = code("configure_optimizers()", function, model)
            if returned is None and may_have_none:
                return baseline.default(model)
            optimizer, scheduler, options = baseline.parse(returned, label=label, epoch_interval=epochs)
            return baseline.describe(optimizer, scheduler, options, steps=steps, steps_per_epoch=per_epoch)

        return make

    def report(self, *, quick: bool = False, timing_seconds: float | None = None) -> WorkloadReport:
        """Everything that is to be known before trials; runs calibration steps (fewer with `quick`).

        Args:
            timing_seconds: that timing the optimizers may take; two unless given.
        """
        from autoopt.workload import costs
        from autoopt.workload.report import make

        return make(
            self, quick=quick, timing_seconds=costs.SECONDS if timing_seconds is None else timing_seconds
        )

    def finish(self) -> None:
        """To be called after each training and its evaluation: lets go of what Lightning keeps of them."""
        if self.contract.lightning is not None:
            self.contract.lightning.finish()

    def close(self) -> None:
        """Ends loader processes, and leaves the user's objects and this process as they were."""
        self.train_source.rest()
        if self._held_source is not None:
            self._held_source.rest()
        if self.contract.release is not None:
            self.contract.release()
        self._live.drop()
        self.guard.restore()
        if self.project is not None:
            self.project.undo()

    # --- inside ----------------------------------------------------------------------------------------

    def _data(self) -> tuple[Source, Source | None, Literal["own", "held_out", "prequential"]]:
        train = Source(self.contract.train_dataloader, "train_dataloader", self.code)
        self.note(train.note)
        self.guard.watch_loader(train.loader)
        if self.contract.val_dataloader is not None:
            own = Source(self.contract.val_dataloader, "val_dataloader", self.code)
            self.note(own.note)
            self.guard.watch_loader(own.loader)
            return train, own, self.contract.validation
        split = hold_out(train.loader)
        if split is None:
            self.note(
                "No validation data, and none can be held out of this loader: each batch is scored before it is "
                "trained on. Write val_dataloader()."
            )
            return train, None, "prequential"
        self.note("No val_dataloader(): a tenth of the training samples is held out for validation.")
        held = Source(split[1], "val_dataloader", self.code)
        return Source(split[0], "train_dataloader", self.code), held, "held_out"

    def _prepare(self, model: nn.Module) -> None:
        if self.contract.prepare is not None:
            context = lambda: self.code.context  # noqa: E731
            self.contract.prepare(model, context, self.train_source.length, self._own_settings.accumulate)

    def _set_context(self, **changes: Any) -> None:
        trial = changes.get("is_trial", True) and self.group.size == 1
        rank, world = (
            ("0", "1") if trial else (os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1"))
        )
        self.code.context = replace(
            self.code.context,
            step=0,
            device=str(self.device),
            rank=int(rank),
            world_size=int(world),
            **changes,
        )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise DeviceError(f"There is no device {name!r} here.", "Try --device cpu.") from error
    return device
