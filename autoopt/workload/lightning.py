"""A LightningModule held to the contract. Trainings and evaluations run in a real Trainer; single steps, which are
measured, call the module's own `training_step`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from autoopt.errors import WorkloadError
from autoopt.workload import standing
from autoopt.workload import trainer as trainers
from autoopt.workload.attributes import Attributes
from autoopt.workload.context import Context, positional
from autoopt.workload.data import samples
from autoopt.workload.lightning_kinds import is_data, is_module, overrides
from autoopt.workload.scoring import eval_mode

if TYPE_CHECKING:
    from autoopt.records import Settings

_TAKEN = ("prepare_data", "setup", "configure_model", "teardown")
"""Hooks that are called once for each module that is built, and not by each Trainer."""


@dataclass(frozen=True)
class Run:
    """One `Trainer.fit`: what stands in the place of the user's optimizer, and who is told of its steps."""

    steps: int
    settings: Settings
    clip: float | None
    device: torch.device
    configured: dict[str, Any]
    """What `configure_optimizers` returns."""
    hooks: Any
    """An object with methods of a Callback."""
    step: Callable[..., Any] | None = None
    """In the place of training_step."""
    backward: Callable[..., Any] | None = None
    """In the place of Lightning's own backward; a module that has one keeps it."""


class Adapter:
    """Runs a LightningModule under the contract's names: in a real Trainer, and step by step where it is measured.

    Args:
        source: a LightningModule, or what makes one (its class, a function): then built anew for each seed.
        data: a LightningDataModule, its class, a training loader, (training, validation) loaders, or None.
        label: the file's name, for errors.
        given: what the user says of the Trainer.
        begun: somebody else has set up module and data, and will tear them down.
        kind: the class of what a function makes; it is called to see unless given.
    """

    def __init__(
        self,
        source: Any,
        data: Any,
        label: str,
        given: trainers.Given | None = None,
        begun: bool = False,
        kind: type | None = None,
    ) -> None:
        self.rebuildable = not is_module(source)
        self.given = given or trainers.Given()
        self.notes: list[str] = list(self.given.notes)
        if kind is None:
            kind = source if isinstance(source, type) else type(source if is_module(source) else source())
        self._kind = kind
        self._source, self._label = source, label
        self._current: Any = None if self.rebuildable else source
        data = _construct(data, label) if isinstance(data, type) else data
        self._datamodule = data if data is not None and is_data(data) else None
        self._train: Any = None
        self._val: Any = None
        if self._datamodule is None:
            pair = isinstance(data, tuple) and len(data) == 2
            self._train, self._val = data if pair else (data, None)
        self._begun, self._foreign = begun, begun
        self._place = standing.Place()
        self._standing: Any = None
        self._kept: tuple[nn.Module, Attributes] | None = None
        self._trainer: Any = None
        """Of the last training, until the next is prepared: what it was scored by has its callbacks."""
        self._batch_index = 0

    # --- the contract's names -------------------------------------------------------------------------

    def build(self) -> nn.Module:
        """The module after `prepare_data`, `setup("fit")` and `configure_model`, in Lightning's order."""
        module = _construct(self._source, self._label) if self.rebuildable else self._source
        if not is_module(module):
            raise WorkloadError(
                f"{self._label} gave a {type(module).__name__} this time, not a LightningModule.",
                "Return the same kind of objects at each call.",
            )
        first, self._begun = not self._begun, True
        self._current = module
        self._stand(module)
        data = self._datamodule
        parts = [module] if data is None or not first else [data, module]
        for part in parts:
            if first:
                part.prepare_data()
        for part in parts:
            if first or self.rebuildable:
                part.setup("fit")
        if not self._foreign:
            module.configure_model()
        assert isinstance(module, nn.Module)
        return module

    @property
    def train_dataloader(self) -> Any:
        return self._train if self._train is not None else self._loader("train_dataloader")

    @property
    def val_dataloader(self) -> Any:
        return self._val if self._val is not None else self._loader("val_dataloader")

    def _loader(self, name: str) -> Callable[[], Any] | None:
        if self._datamodule is not None and overrides(type(self._datamodule), "LightningDataModule", name):
            return getattr(self._datamodule, name)  # type: ignore[no-any-return]
        if overrides(self._kind, "LightningModule", name):
            return lambda: getattr(self._current, name)()
        return None

    def configure_optimizers(self, model: nn.Module) -> Any:
        """What the module's `configure_optimizers` returns; None where it has none."""
        module = _unwrap(model)
        if not overrides(type(module), "LightningModule", "configure_optimizers"):
            return None
        return module.configure_optimizers()

    def loss(self, model: nn.Module, batch: Any) -> Any:
        """`training_step(batch, batch_idx)`: its tensor, or the `loss` of its dict."""
        index, self._batch_index = self._batch_index, self._batch_index + 1
        return _step(model, "training_step", self._transferred(model, batch), index)

    def _transferred(self, model: nn.Module, batch: Any) -> Any:
        """The batch as the hooks around its transfer make it; it is on the device already."""
        module, data = _unwrap(model), self._datamodule
        for name in ("on_before_batch_transfer", "on_after_batch_transfer"):
            own = data is not None and overrides(type(data), "LightningDataModule", name)
            batch = getattr(data if own else module, name)(batch, 0)
        return batch

    # --- trainings ------------------------------------------------------------------------------------

    def prepare(
        self, model: nn.Module, context: Callable[[], Context], per_epoch: int | None, accumulate: int
    ) -> None:
        """Makes the module ready for a training: what it remembers as after `build`, fresh metrics.

        Raises:
            WorkloadError: it sets automatic_optimization = False.
        """
        module = _unwrap(model)
        if not module.automatic_optimization:
            raise WorkloadError(
                f"{type(module).__name__} sets automatic_optimization = False: it steps its optimizers itself.",
                "autoopt compares single optimizers that it steps itself; use automatic optimization.",
            )
        self.finish()
        self._current = module
        if self._kept is None or self._kept[0] is not module:
            owners = [module] if self._datamodule is None else [module, self._datamodule]
            self._kept = (module, Attributes(owners))
        self._kept[1].restore()
        self._place.context, self._place.per_epoch = context, self.given.length(per_epoch)
        self._place.accumulate = accumulate
        self._stand(module)
        standing.give_optimizer(self._standing, module)
        self._batch_index = 0
        metrics = sys.modules.get("torchmetrics")
        for part in module.modules():
            if metrics is not None and isinstance(part, metrics.Metric):
                part.reset()

    def fit(self, model: nn.Module, loader: Any, run: Run) -> None:
        """The whole of `Trainer.fit`, with the optimizer of `run` in the place of the module's own.

        Everything else is done as Lightning does it: hooks, callbacks, transfer, accumulation, clipping, precision.
        """
        module, package = _unwrap(model), trainers.package_of(_unwrap(model))
        methods: dict[str, Any] = {"configure_optimizers": lambda: run.configured}
        if overrides(type(module), "LightningModule", "configure_callbacks"):
            own, dropped = trainers.part(_as_list(module.configure_callbacks()))
            methods["configure_callbacks"] = lambda: own
            if dropped:
                self.notes.append(trainers.without(dropped))
        if overrides(type(module), "LightningModule", "lr_scheduler_step"):
            methods["lr_scheduler_step"] = _step_scheduler  # theirs steps their own scheduler
        if run.step is not None:
            methods["training_step"] = run.step
        if run.backward is not None and not overrides(type(module), "LightningModule", "backward"):
            methods["backward"] = run.backward
        accumulate = run.settings.accumulate
        self._trainer = trainers.make(
            package,
            run.device,
            self.given,
            precision=run.settings.precision,
            callbacks=[*trainers.copies(self.given, module), trainers.as_callback(package, run.hooks)],
            max_steps=run.steps,
            max_epochs=trainers.epochs_of(run.steps, self._place.per_epoch, accumulate),
            accumulate_grad_batches=accumulate,
            gradient_clip_val=run.clip,
            limit_val_batches=0,
        )
        with self._in_trainer(module, methods, train_dataloader=lambda: loader) as data:
            self._trainer.fit(module, **data)

    def validate(self, model: nn.Module, batches: Any, precision: str) -> tuple[float, dict[str, float]]:
        """(mean loss over validation batches, what the Trainer has logged), by `Trainer.validate`.

        The loss is what validation_step returns, else what is logged as `val_loss` or `loss` (or under the first
        name with "loss" in it), else that of training_step in eval mode.
        """
        module = _unwrap(model)
        if not overrides(type(module), "LightningModule", "validation_step"):
            return self._by_training_step(model, batches), {}
        package, losses = trainers.package_of(module), _Losses()
        trainer = self._trainer or trainers.make(
            package,
            torch.device(self._place.context().device),
            self.given,
            precision=precision,
            callbacks=trainers.copies(self.given, module),
            max_epochs=1,
        )
        trainer.limit_val_batches = 1.0
        trainer.callbacks.append(trainers.as_callback(package, losses))
        with trainers.quiet(), self._in_trainer(module, {}, val_dataloader=lambda: batches) as data:
            data["dataloaders"] = data.pop("val_dataloaders", None)
            trainer.validate(module, verbose=False, **data)
        trainer.callbacks.pop()
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if losses.mean is not None:
            return losses.mean, logged
        names = [n for n in ("val_loss", "loss") if n in logged] + [n for n in logged if "loss" in n.lower()]
        return logged[names[0]] if names else self._by_training_step(model, batches), logged

    def _by_training_step(self, model: nn.Module, batches: Any) -> float:
        total = weights = 0.0
        with eval_mode(model), torch.no_grad():
            for index, batch in enumerate(batches):
                loss = _loss_of(_step(model, "training_step", self._transferred(model, batch), index))
                if loss is None:
                    raise WorkloadError(
                        f"{type(_unwrap(model)).__name__}.training_step returned no loss on a validation batch.",
                        "Return the loss from validation_step.",
                    )
                weight = samples(batch) or 1
                total, weights = total + float(loss) * weight, weights + weight
        return total / weights

    def finish(self) -> None:
        """Lets go of the last training's Trainer and of its optimizer's state."""
        if self._trainer is not None:
            for optimizer in self._trainer.optimizers:
                optimizer.state.clear()
            self._trainer.strategy.optimizers = []
            self._trainer.strategy.lr_scheduler_configs = []
            self._trainer = None

    def release(self) -> None:
        """Takes everything off the module that was put on it, after its `teardown`."""
        self.finish()
        if self._kept is not None:
            self._kept[1].restore()
        for part in (self._current, self._datamodule) if self._begun and not self._foreign else ():
            if part is not None:
                part.teardown("fit")
        if self._current is not None:
            self._unstand(self._current)
        if self._datamodule is not None:
            self._datamodule.trainer = None
        self._standing = self._kept = None

    # --- inside ---------------------------------------------------------------------------------------

    def _stand(self, module: Any) -> None:
        """Gives the module a Trainer outside of any fit, where `self.log` has nobody to tell."""
        if self._standing is None:
            device = torch.device(self._place.context().device)
            package = trainers.package_of(module)
            self._standing = standing.make(package, device, self.given, self._place, self._datamodule)
        module.trainer = self._standing
        self._standing.strategy.connect(module)  # `self.trainer.model`
        if self._datamodule is not None:
            self._datamodule.trainer = self._standing
        for part in module.modules():
            if is_module(part):
                part.log = part.log_dict = _ignore

    def _unstand(self, module: Any) -> None:
        module.trainer = None
        for part in module.modules():
            if is_module(part):
                vars(part).pop("log", None)
                vars(part).pop("log_dict", None)

    @contextmanager
    def _in_trainer(self, module: Any, methods: dict[str, Any], **loader: Any) -> Iterator[dict[str, Any]]:
        """A Trainer may run the module inside; gives the arguments that are its data.

        A data module stays in place, since its hooks are called, and hands out the loader.
        """
        taken = {name: _ignore for name in _TAKEN}
        data = self._datamodule
        with ExitStack() as stack:
            stack.enter_context(trainers.contained())
            self._unstand(module)
            stack.callback(self._stand, module)
            stack.enter_context(_replaced(module, {**taken, **methods}))
            if data is not None:
                stack.enter_context(_replaced(data, {**taken, **loader}))
                yield {"datamodule": data}
            else:
                yield {f"{name}s": make() for name, make in loader.items()}


class _Losses:
    """Collects what validation_step returns; `mean` is over samples."""

    def __init__(self) -> None:
        self._total: Any = 0.0
        self._weights = 0
        self._missing = False

    def on_validation_batch_end(
        self, _trainer: Any, _module: Any, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        loss, weight = _loss_of(outputs), samples(batch) or 1
        if loss is None:
            self._missing = True
        else:
            value = loss.detach().double().cpu() if loss.device.type == "mps" else loss.detach().double()
            self._total, self._weights = self._total + value * weight, self._weights + weight

    @property
    def mean(self) -> float | None:
        return None if self._missing or not self._weights else float(self._total / self._weights)


@contextmanager
def _replaced(owner: Any, methods: dict[str, Any]) -> Iterator[None]:
    """Attributes of this very object stand in the place of its methods inside."""
    before = {name: vars(owner)[name] for name in methods if name in vars(owner)}
    vars(owner).update(methods)
    try:
        yield
    finally:
        for name in methods:
            vars(owner).pop(name, None)
        vars(owner).update(before)


def _ignore(*_: Any, **__: Any) -> None:
    """Called already, or with nobody to tell."""


def _step_scheduler(scheduler: Any, *_: Any) -> None:
    scheduler.step()


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _construct(kind: Any, label: str) -> Any:
    try:
        inspect.signature(kind).bind()
    except TypeError as error:
        raise WorkloadError(
            f"{label}: {getattr(kind, '__name__', 'the function')} cannot be made without arguments ({error}).",
            "Give its arguments defaults, or write build_model() that returns one.",
        ) from error
    return kind()


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
