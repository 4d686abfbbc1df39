"""The two ways to a workload: a target to import, or objects of this process."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from autoopt.errors import UsageError, WorkloadError
from autoopt.records import Flags
from autoopt.workload import checkpoint as checkpoints
from autoopt.workload import contract, hf_trainer, own_loop
from autoopt.workload import lightning_kinds as kinds
from autoopt.workload.attributes import Attributes
from autoopt.workload.boundary import UserCode
from autoopt.workload.contract import Contract
from autoopt.workload.group_limits import check_contract, refused
from autoopt.workload.guard import Guard
from autoopt.workload.loading import open_project
from autoopt.workload.own_loop import OwnLoop
from autoopt.workload.workload import Workload

if TYPE_CHECKING:
    from autoopt.workload.group import Group


def load(target: str, args: Sequence[str] = (), flags: Flags | None = None, device: str = "cpu") -> Workload:
    """Imports `target` and holds it to the contract.

    Args:
        target: path of a Python file, FILE:NAME, or package.module:function.
        args: what follows `--`: the file's `sys.argv[1:]`, and the function's arguments.
        flags: override the file's constants.
        device: "cpu", "cuda:0", ...

    Raises:
        WorkloadError: something of the contract is missing or unusable.
        UserCodeError: the user's code raised.
        DeviceError: there is no such device.
    """
    found = load_any(target, args, flags, device)
    if isinstance(found, OwnLoop):
        found.close()
        raise WorkloadError(
            f"{target} has a training loop of its own, and no model for ours.",
            "`autoopt profile` and `autoopt check` take it; what asks for a model does not.",
        )
    return found


def load_any(
    target: str,
    args: Sequence[str] = (),
    flags: Flags | None = None,
    device: str = "cpu",
    group: Group | None = None,
) -> Workload | OwnLoop:
    """As `load`, and a file with `run(make_optimizer, steps, seed, report)` as what it is.

    With a `group` this process is one of several that train the model together.

    Raises: as `load`.
    """
    guard = Guard()
    begin = time.perf_counter()
    project = open_project(target, args)
    try:
        seconds = time.perf_counter() - begin
        if own_loop.is_one(project.source):
            if group is not None:
                raise refused(
                    f"{target} has a training loop of its own", "it starts its processes itself, or none"
                )
            return own_loop.read(project, flags or Flags(), device, guard)
        given = contract.read(project.source, project.label, project.again, project.module)
        if group is not None:
            check_contract(given)
        _same_device(given, device)
        saved = checkpoints.read(flags.checkpoint) if flags and flags.checkpoint else None
        workload = Workload(
            given, project.code, flags or Flags(), device, target, project, guard, saved, group
        )
    except BaseException:
        project.undo()
        guard.restore()
        raise
    workload.seconds["import"] = seconds
    return workload


def from_objects(
    model: Any,
    train: Any,
    *,
    loss: Callable[..., Any] | None,
    val: Any,
    trainer: Any,
    metric: tuple[str, str] | tuple[str, str, float] | None,
    configure_optimizers: Callable[..., Any] | None,
    flags: Flags,
    device: str,
    checkpoint: Any,
) -> Workload:
    """A workload of whatever `choose` was given: a LightningModule, a `transformers.Trainer`, or a module with its loss.

    Raises:
        UsageError: things that do not go together.
        WorkloadError: something of the contract is missing or unusable.
    """
    lightnings = kinds.is_module(model) or kinds.is_module_class(model)
    if lightnings or kinds.is_data(train) or trainer is not None:
        if loss is not None or configure_optimizers is not None:
            raise UsageError(
                "A LightningModule has its own loss and optimizer.",
                "Leave out loss= and configure_optimizers=.",
            )
        return from_lightning(
            model,
            train,
            val=val,
            trainer=trainer,
            metric=metric,
            flags=flags,
            device=device,
            checkpoint=checkpoint,
        )
    return from_callables(
        model=model,
        train=train,
        loss=loss,
        val=val,
        configure_optimizers=configure_optimizers,
        metric=metric,
        flags=flags,
        device=device,
        checkpoint=checkpoint,
    )


def from_callables(
    *,
    model: nn.Module | Callable[..., nn.Module] | Any,
    train: Any = None,
    loss: Callable[..., Any] | None = None,
    val: Any = None,
    evaluate: Callable[..., Any] | None = None,
    configure_optimizers: Callable[..., Any] | None = None,
    reset: Callable[..., Any] | None = None,
    after_step: Callable[..., Any] | None = None,
    metric: tuple[str, str] | tuple[str, str, float] | None = None,
    flags: Flags | None = None,
    device: str = "cpu",
    checkpoint: Any = None,
) -> Workload:
    """A workload of objects in this process; `close()` leaves them as they were.

    Args:
        model: an instance, trained in place, or a function that builds one; or a `transformers.Trainer`, which brings
            all the rest.
        train, val: loaders, re-iterables of batches, or functions that return one or an iterator.
        loss, evaluate, configure_optimizers, reset, after_step, metric: as in a file.
        checkpoint: a path or a dictionary, see `checkpoint.read`: trainings start from it.

    Raises:
        WorkloadError: something of the contract is missing or unusable.
    """
    if hf_trainer.is_trainer(model):
        brought = {"train": train, "loss": loss, "val": val, "configure_optimizers": configure_optimizers}
        named = [n for n, v in brought.items() if v is not None]
        return from_trainer(model, named, flags, device, checkpoint)
    guard = Guard()
    instance = model if isinstance(model, nn.Module) else None
    if instance is None and not callable(model):
        raise WorkloadError(
            f"model is a {type(model).__name__}.", "Give a torch.nn.Module or a function that builds one."
        )
    if instance is not None:
        guard.watch_model(instance)
    given = Contract(
        label="choose()",
        kind="callables",
        build_model=model if instance is None else lambda: instance,
        train_dataloader=train,
        val_dataloader=val,
        loss=loss,
        evaluate=evaluate,
        configure_optimizers=configure_optimizers,
        reset=reset,
        after_step=after_step,
        rebuildable=instance is None,
        constants={} if metric is None else {"METRIC": metric},
    )
    try:
        saved = None if checkpoint is None else checkpoints.read(checkpoint)
        return Workload(
            given, UserCode(Path.cwd()), flags or Flags(), device, "choose", guard=guard, checkpoint=saved
        )
    except BaseException:
        guard.restore()
        raise


def from_lightning(
    module: Any,
    data: Any = None,
    *,
    val: Any = None,
    trainer: Any = None,
    metric: tuple[str, str] | tuple[str, str, float] | None = None,
    flags: Flags | None = None,
    device: str = "cpu",
    checkpoint: Any = None,
) -> Workload:
    """A workload of a LightningModule in this process; `close()` leaves everything as it was.

    Args:
        module: a LightningModule, of which a copy is trained, or its class, built anew for each seed.
        data: a LightningDataModule, a training loader, or None where the module has its own.
        val: a validation loader.
        trainer: a Trainer, which does not run: its callbacks, precision, clipping, accumulation and length are taken;
            or a dict of such arguments.
        metric: a key that the module logs in validation, with "min" or "max".
        checkpoint: a path (Lightning's `.ckpt`) or a dictionary, see `checkpoint.read`: trainings start from it.

    Raises:
        WorkloadError: the module cannot be copied, or something of the contract is missing or unusable.
    """
    guard, begun = Guard(), False
    if kinds.is_module(module):
        begun = kinds.is_under_way(module)
        module = _copied(module)
    if kinds.is_data(data) and not isinstance(data, type):
        guard.watch_attributes(Attributes([data]))
    given = contract.of_lightning(module, data, val, trainer, metric, "choose()", begun)
    try:
        saved = None if checkpoint is None else checkpoints.read(checkpoint)
        return Workload(
            given, UserCode(Path.cwd()), flags or Flags(), device, "choose", guard=guard, checkpoint=saved
        )
    except BaseException:
        guard.restore()
        raise


def _copied(module: nn.Module) -> nn.Module:
    trainer = getattr(module, "_trainer", None)
    try:
        # Not the Trainer that it is attached to.
        return copy.deepcopy(module, {} if trainer is None else {id(trainer): None})
    except Exception as error:
        raise WorkloadError(
            f"{type(module).__name__} cannot be copied ({error}), and yours is to stay as it is.",
            "Give the class, or a function that builds one: choose(lambda: MyModule(...), ...).",
        ) from error


def from_trainer(
    trainer: Any, given: Sequence[str], flags: Flags | None, device: str, checkpoint: Any = None
) -> Workload:
    """A workload of a `transformers.Trainer` in this process; `close()` leaves it as it was.

    Args:
        trainer: not yet trained, or trained: trials start from the weights that it has.
        given: names of what was given beside it.
        checkpoint: a path (its `checkpoint-500/`) or a dictionary, see `checkpoint.read`: trainings start from it.

    Raises:
        UsageError: the trainer brings what was given beside it, or is on another device.
        WorkloadError: it needs what a trial cannot do.
    """
    if given:
        raise UsageError(f"The Trainer brings its own {given[0]}.", f"Leave {given[0]}= out.")
    guard = Guard()
    try:
        if trainer.model_init is None:
            guard.watch_model(trainer.model)
        of = contract.of_trainer(trainer, "the Trainer", kind="callables")
        _same_device(of, device)
        saved = None if checkpoint is None else checkpoints.read(checkpoint)
        place, device = UserCode(Path.cwd()), str(trainer.args.device)
        return Workload(of, place, flags or Flags(), device, "choose", guard=guard, checkpoint=saved)
    except BaseException:
        guard.restore()
        raise


def placed(model: Any, device: str) -> str:
    """The device that is asked for; of a Trainer its own, unless one is named."""
    return str(model.args.device) if device == "auto" and hf_trainer.is_trainer(model) else device


def _same_device(given: Contract, device: str) -> None:
    """Raises UsageError where the user's objects are on a device that is not the one asked for."""
    if given.device is not None and given.device != device.partition(":")[0]:
        raise UsageError(
            f"{given.label} puts its model on {given.device}, and trials would be on {device}.",
            f"Ask for the device {given.device}, or change use_cpu in TrainingArguments.",
        )
