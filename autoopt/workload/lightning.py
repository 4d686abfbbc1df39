"""A LightningModule held to the contract, without a Trainer. Lightning is never imported from here:
only when the user's file has imported it can there be a LightningModule."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from autoopt.errors import WorkloadError
from autoopt.workload.context import Context, positional
from autoopt.workload.trainer_view import Recorder, TrainerView

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")
_IGNORED_HOOKS = (
    "on_train_start",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_before_batch_transfer",
    "on_after_batch_transfer",
    "transfer_batch_to_device",
    "optimizer_step",
    "optimizer_zero_grad",
    "backward",
    "configure_gradient_clipping",
    "lr_scheduler_step",
)


def _bases(name: str) -> tuple[type, ...]:
    """The class `name` of every Lightning package that is imported."""
    modules = (sys.modules.get(package) for package in _PACKAGES)
    return tuple({getattr(m, name) for m in modules if m is not None and hasattr(m, name)})


def is_module(value: Any) -> bool:
    """Whether `value` is a LightningModule instance."""
    return isinstance(value, _bases("LightningModule"))


def is_module_class(value: Any) -> bool:
    """Whether `value` is a LightningModule class."""
    return isinstance(value, type) and issubclass(value, _bases("LightningModule"))


def find(module: ModuleType, label: str) -> tuple[Any, Any] | None:
    """The one LightningModule of a file (an instance before a class) and its DataModule, if any.

    Raises WorkloadError when there are several to choose from.
    """
    source = _the_one(module, "LightningModule", label)
    return None if source is None else (source, _the_one(module, "LightningDataModule", label))


def _the_one(module: ModuleType, base: str, label: str) -> Any:
    bases = _bases(base)
    values = list(vars(module).values())
    found = [v for v in values if isinstance(v, bases)]
    if not found:
        classes = [v for v in values if isinstance(v, type) and issubclass(v, bases)]
        own = list(dict.fromkeys(c for c in classes if c.__module__ == module.__name__))
        # A base class that another class of the file extends is not the one meant.
        found = [c for c in own if not any(c is not d and issubclass(d, c) for d in own)]
    if len(found) > 1:
        names = ", ".join(v.__name__ if isinstance(v, type) else type(v).__name__ for v in found)
        raise WorkloadError(
            f"{label} has {len(found)} of {base}: {names}.",
            "Say which is meant: write build_model() that returns it, or give the target as FILE:NAME.",
        )
    return found[0] if found else None


class Adapter:
    """Calls a LightningModule's methods under the contract's names.

    Args:
        source: a LightningModule, or its class (then built anew for each seed).
        datamodule: a LightningDataModule, its class, or None.
        label: the file's name, for errors.
    """

    def __init__(self, source: Any, datamodule: Any, label: str) -> None:
        self.rebuildable = isinstance(source, type)
        self.notes: list[str] = []
        self._source, self._label = source, label
        self._current: Any = None if self.rebuildable else source
        self._datamodule = _construct(datamodule, label) if isinstance(datamodule, type) else datamodule
        self._prepared = False
        self._recorder = Recorder()
        self._touched: list[Any] = []
        self._batch_index = 0
        kind = source if self.rebuildable else type(source)
        ignored = [name for name in _IGNORED_HOOKS if _overrides(kind, "LightningModule", name)]
        if ignored:
            self.notes.append(
                f"{kind.__name__}: these hooks of a Trainer are not called: {', '.join(ignored)}."
            )

    def build(self) -> nn.Module:
        """The module after `prepare_data`, `setup("fit")` and `configure_model`, in Lightning's order."""
        module = _construct(self._source, self._label) if self.rebuildable else self._source
        first, self._prepared = not self._prepared, True
        self._current = module
        self._attach(module)
        for part in (module, *([self._datamodule] if first and self._datamodule is not None else [])):
            if first:
                part.prepare_data()
            if first or self.rebuildable:
                part.setup("fit")
        module.configure_model()
        assert isinstance(module, nn.Module)
        return module

    @property
    def train_dataloader(self) -> Callable[[], Any] | None:
        return self._loader("train_dataloader")

    @property
    def val_dataloader(self) -> Callable[[], Any] | None:
        return self._loader("val_dataloader")

    def _loader(self, name: str) -> Callable[[], Any] | None:
        if self._datamodule is not None and _overrides(type(self._datamodule), "LightningDataModule", name):
            return getattr(self._datamodule, name)  # type: ignore[no-any-return]
        kind = self._source if self.rebuildable else type(self._source)
        if _overrides(kind, "LightningModule", name):
            return lambda: getattr(self._current, name)()
        return None

    def configure_optimizers(self, model: nn.Module) -> Any:
        """What the module's `configure_optimizers` returns; None where it has none."""
        module = _unwrap(model)
        if not _overrides(type(module), "LightningModule", "configure_optimizers"):
            return None
        return module.configure_optimizers()

    def loss(self, model: nn.Module, batch: Any) -> Any:
        """`training_step(batch, batch_idx)`: its tensor, or the `loss` of its dict."""
        index, self._batch_index = self._batch_index, self._batch_index + 1
        return _step(model, "training_step", batch, index)

    def score(self, model: nn.Module, batch: Any, index: int) -> tuple[Tensor, dict[str, float]]:
        """Loss and logged values of one validation batch.

        The loss is what validation_step returns, else what it logs as `val_loss` (or under the only name
        with "loss" in it), else that of training_step.
        """
        module = _unwrap(model)
        logged: dict[str, float] = {}
        if _overrides(type(module), "LightningModule", "validation_step"):
            with self._recorder.recording(logged):
                loss = _loss_of(_step(model, "validation_step", batch, index))
            known = (
                *(n for n in ("val_loss", "loss") if n in logged),
                *(n for n in logged if "loss" in n.lower()),
            )
            if loss is None and known:
                loss = torch.tensor(logged[known[0]])
            if loss is not None:
                return loss, logged
        loss = _loss_of(_step(model, "training_step", batch, index))
        if loss is None:
            raise WorkloadError(
                f"{type(module).__name__}.training_step returned no loss on a validation batch.",
                "Return the loss from validation_step.",
            )
        return loss, logged

    def score_end(self) -> dict[str, float]:
        """Values of the metric objects that were logged during an evaluation; they start anew."""
        return self._recorder.finish()

    def prepare(self, model: nn.Module, context: Callable[[], Context], per_epoch: int | None) -> None:
        """Makes the module ready for a training: no automatic_optimization=False, fresh metrics."""
        module = _unwrap(model)
        if not module.automatic_optimization:
            raise WorkloadError(
                f"{type(module).__name__} sets automatic_optimization = False: it steps its optimizers itself.",
                "autoopt compares single optimizers that it steps itself; use automatic optimization.",
            )
        self._attach(module)
        module.trainer = TrainerView(context, per_epoch, self._datamodule)
        self._batch_index = 0
        metrics = sys.modules.get("torchmetrics")
        for part in module.modules():
            if metrics is not None and isinstance(part, metrics.Metric):
                part.reset()

    def _attach(self, module: Any) -> None:
        """Gives `self.log` a receiver; without a Trainer, Lightning's own only warns at each call."""
        for part in module.modules():
            if is_module(part) and "log" not in part.__dict__:
                part.log, part.log_dict = self._recorder.log, self._recorder.log_dict
                self._touched.append(part)

    def release(self) -> None:
        """Takes everything off the module that was put on it."""
        for part in self._touched:
            part.__dict__.pop("log", None)
            part.__dict__.pop("log_dict", None)
            part._trainer = None
        self._touched = []


def _construct(kind: Any, label: str) -> Any:
    try:
        inspect.signature(kind).bind()
    except TypeError as error:
        raise WorkloadError(
            f"{label}: {kind.__name__} cannot be made without arguments ({error}).",
            "Give its arguments defaults, or write build_model() that returns one.",
        ) from error
    return kind()


def _overrides(kind: type, base: str, name: str) -> bool:
    return all(
        getattr(kind, name, None) is not getattr(b, name, None) for b in _bases(base) if issubclass(kind, b)
    )


def _unwrap(model: Any) -> Any:
    while not is_module(model):
        model = model.module if hasattr(model, "module") else model._orig_mod
    return model


def _step(model: nn.Module, name: str, batch: Any, index: int) -> Any:
    """Calls a step through the wrapper's own forward, so that DDP's gradient hooks take part."""
    module = _unwrap(model)
    method = getattr(module, name)
    count = positional(method)
    arguments = (
        (batch, index, 0) if count == 3 else (batch, index) if count is None or count >= 2 else (batch,)
    )
    if module is model or not torch.is_grad_enabled():
        return method(*arguments)

    def redirected(*inputs: Any) -> Any:
        module.__dict__.pop("forward", None)
        return method(*inputs)

    module.forward = redirected
    try:
        return model(*arguments)
    finally:
        module.__dict__.pop("forward", None)


def _loss_of(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict):
        found = output.get("loss", output.get("val_loss"))
        return found if isinstance(found, Tensor) else None
    return None
