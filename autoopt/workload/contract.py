"""The contract of the user's file: which of its names are there, whatever form they come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import ModuleType
from typing import Any, Literal

from torch import Tensor, nn

from autoopt.errors import WorkloadError
from autoopt.workload import entrypoint, hf_trainer, lightning
from autoopt.workload import lightning_kinds as kinds
from autoopt.workload import trainer as trainers
from autoopt.workload.lightning import Adapter

Kind = Literal["functions", "lightning", "huggingface", "callables"]
CONSTANTS = ("STEPS", "ACCUMULATE", "GLOBAL_BATCH", "CLIP", "PRECISION", "SCHEDULE", "WARMUP", "METRIC")
FUNCTIONS = (
    "build_model",
    "train_dataloader",
    "loss",
    "val_dataloader",
    "evaluate",
    "configure_optimizers",
    "reset",
    "after_step",
)
_CLOSE = 0.8
"""Likeness from which on a name is taken for a slip of another: `val_loader`, `SCHEDUL`."""


@dataclass
class Contract:
    """The user's functions under the contract's names; None where a file has no such function."""

    label: str
    kind: Kind
    build_model: Callable[..., nn.Module]
    train_dataloader: Any
    """A function that returns the loader, or the loader itself."""
    loss: Callable[..., Any] | None = None
    val_dataloader: Any = None
    evaluate: Callable[..., Any] | None = None
    configure_optimizers: Callable[..., Any] | None = None
    reset: Callable[..., Any] | None = None
    after_step: Callable[..., Any] | None = None
    lightning: Adapter | None = None
    """Runs trainings in a Trainer; of a LightningModule."""
    validate: Callable[[nn.Module, Any, str], tuple[float, dict[str, float]]] | None = None
    """Lightning's validation: the loss over batches and what was logged."""
    score: Callable[[nn.Module, Any, int], tuple[Tensor, dict[str, float]]] | None = None
    """A Hugging Face Trainer's: the loss and the logged values of one batch."""
    score_end: Callable[[], dict[str, float]] | None = None
    weigh: Callable[[nn.Module, Any], int] | None = None
    """What the loss of a validation batch is a mean over; samples unless given."""
    validation: Literal["own", "held_out"] = "own"
    """Where the batches of `val_dataloader` come from."""
    prepare: Callable[..., None] | None = None
    """Called with the live model before each training."""
    release: Callable[[], None] | None = None
    epoch_interval: bool = False
    """Whether a scheduler steps once per epoch unless it says otherwise (Lightning's rule)."""
    device: str | None = None
    """The kind of device that the user's objects are on already: "cpu", "cuda"; None: they are moved."""
    rebuildable: bool = True
    """False when there is one model instance: seeds then share its initial weights."""
    constants: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(
    source: Any, label: str, again: Callable[[], Any] | None = None, file: ModuleType | None = None
) -> Contract:
    """The contract in a module, an object, a dict, a LightningModule, (module, data), (module, data, trainer), or a Trainer.

    Args:
        again: makes another `source`; a LightningModule is then built anew for each seed.
        file: where a function gave `source`, the module of that function: its constants hold too.

    Raises WorkloadError naming the file and the function that is missing.
    """
    datamodule = trainer = None
    if isinstance(source, (tuple, list)) and source and _is_lightning(source[0]):
        source, datamodule, trainer = _parts(source, label)
    if hf_trainer.is_trainer(source):
        return of_trainer(source, label)
    names = _names(source)
    constants = {name: getattr(file, name) for name in CONSTANTS if hasattr(file, name)}
    constants |= {name: names[name] for name in CONSTANTS if name in names}
    if _is_lightning(source):
        given = trainers.read(trainer, label)
        made = source if again is None or not kinds.is_module(source) else _module_of(again)
        kind = source if isinstance(source, type) else type(source)
        return _lightning(Adapter(made, datamodule, label, given, kind=kind), names, constants, label)
    if "build_model" not in names and isinstance(source, ModuleType):
        found = kinds.find(source, label)
        if found is not None:
            return _lightning(Adapter(*found, label), names, constants, label)
        if (its := hf_trainer.find(source, label)) is not None:
            return of_trainer(its, label)
    if isinstance(source, nn.Module):
        raise WorkloadError(
            f"{label} gives a model without data.",
            "Return an object with build_model() and train_dataloader().",
        )
    slips = _slips(source, names, label)
    if names.get("build_model") is None:
        raise _missing("build_model", label, slips)
    contract = Contract(
        label=label,
        kind="functions",
        build_model=_function(names, "build_model", label),
        train_dataloader=names.get("train_dataloader"),
        val_dataloader=names.get("val_dataloader"),
        constants=constants,
        notes=slips,
    )
    for name in ("loss", "evaluate", "configure_optimizers", "reset", "after_step"):
        setattr(contract, name, _function(names, name, label))
    return contract


def complete(contract: Contract, model: nn.Module) -> None:
    """Fills in what the built model itself brings: Lightning's steps, or `.loss` of a Hugging Face model."""
    if kinds.is_module(model) and contract.lightning is None:
        adapter = Adapter(model, None, contract.label)
        given = {
            name: getattr(contract, name)
            for name in ("loss", "evaluate", "configure_optimizers", "reset", "after_step")
            if getattr(contract, name) is not None
        }
        if contract.train_dataloader is not None:
            given["train_dataloader"] = contract.train_dataloader
        if contract.val_dataloader is not None:
            given["val_dataloader"] = contract.val_dataloader
        other = _lightning(adapter, given, contract.constants, contract.label)
        for name in other.__dataclass_fields__:
            if name not in ("build_model", "rebuildable", "constants", "label"):
                setattr(contract, name, getattr(other, name))
    if contract.train_dataloader is None:
        raise _missing("train_dataloader", contract.label, contract.notes)
    if contract.loss is None:
        from autoopt.workload import huggingface

        if contract.kind == "functions":
            contract.kind = "huggingface"
        contract.loss = huggingface.loss
        contract.weigh = huggingface.weigh


def of_trainer(trainer: Any, label: str, kind: Kind = "huggingface") -> Contract:
    """The contract in a `transformers.Trainer`.

    Raises WorkloadError naming what a trial cannot do.
    """
    adapter = hf_trainer.Adapter(trainer, label)
    return Contract(
        label=label,
        kind=kind,
        build_model=adapter.build,
        train_dataloader=adapter.train_dataloader,
        val_dataloader=adapter.val_dataloader,
        validation=adapter.validation,
        loss=adapter.loss,
        configure_optimizers=adapter.configure_optimizers,
        after_step=adapter.after_step,
        score=adapter.score,
        score_end=adapter.score_end,
        weigh=adapter.weigh,
        prepare=adapter.prepare,
        release=adapter.release,
        device=trainer.args.device.type,
        rebuildable=adapter.rebuildable,
        constants=adapter.constants(),
        notes=adapter.notes,
    )


def _lightning(
    adapter: lightning.Adapter, names: Mapping[str, Any], constants: dict[str, Any], label: str
) -> Contract:
    train = names.get("train_dataloader") or adapter.train_dataloader
    validation = names.get("val_dataloader") or adapter.val_dataloader
    own_loss = _function(names, "loss", label)
    return Contract(
        label=label,
        kind="lightning",
        build_model=adapter.build,
        train_dataloader=train,
        val_dataloader=validation,
        loss=own_loss or adapter.loss,
        evaluate=_function(names, "evaluate", label),
        configure_optimizers=_function(names, "configure_optimizers", label) or adapter.configure_optimizers,
        reset=_function(names, "reset", label),
        after_step=_function(names, "after_step", label),
        lightning=adapter,
        validate=None if own_loss else adapter.validate,
        prepare=adapter.prepare,
        release=adapter.release,
        epoch_interval="configure_optimizers" not in names,
        rebuildable=adapter.rebuildable,
        constants={**adapter.given.constants, **constants},
        notes=adapter.notes,
    )


def of_lightning(
    module: Any,
    data: Any,
    val: Any,
    trainer: Any,
    metric: tuple[str, str] | tuple[str, str, float] | None,
    label: str,
    begun: bool,
) -> Contract:
    """The contract of a LightningModule of this process, with its data and what its Trainer is given."""
    names = {**_names(module), **({} if metric is None else {"METRIC": metric})}
    if val is not None:
        names["val_dataloader"] = val
    constants = {name: names[name] for name in CONSTANTS if name in names}
    adapter = Adapter(module, data, label, trainers.read(trainer, label), begun)
    contract = _lightning(adapter, names, constants, label)
    contract.kind = "callables"
    return contract


def _is_lightning(value: Any) -> bool:
    return kinds.is_module(value) or kinds.is_module_class(value)


def _parts(source: Sequence[Any], label: str) -> tuple[Any, Any, Any]:
    """(module, data, trainer) of what a function returned."""
    if len(source) > 3:
        raise WorkloadError(f"{label} gives {len(source)} objects.", entrypoint.RETURN)
    module, data, trainer = (*source, None, None)[:3]
    return module, data, trainer


def _module_of(again: Callable[[], Any]) -> Callable[[], Any]:
    """Makes the module alone anew."""

    def make() -> Any:
        made = again()
        return made[0] if isinstance(made, (tuple, list)) and made else made

    return make


def _names(source: Any) -> Mapping[str, Any]:
    """The contract's names that `source` has. Methods of a LightningModule are the adapter's matter."""
    if isinstance(source, Mapping):
        return source
    if _is_lightning(source):
        wanted: tuple[str, ...] = ("evaluate", "reset", "after_step", *CONSTANTS)
    else:
        wanted = (*FUNCTIONS, *CONSTANTS)
    return {name: getattr(source, name) for name in wanted if hasattr(source, name)}


def _slips(source: Any, names: Mapping[str, Any], label: str) -> list[str]:
    """Words on names of a file that are almost, but not quite, one of the contract's that it lacks."""
    if not isinstance(source, ModuleType):
        return []
    absent = {name for name in (*FUNCTIONS, *CONSTANTS) if name not in names}
    notes = []
    for name, value in vars(source).items():
        if name in names or (callable(value) and getattr(value, "__module__", None) != source.__name__):
            continue
        alike = [a for a in absent if a.isupper() is not callable(value)]
        if near := get_close_matches(name, alike, n=1, cutoff=_CLOSE):
            notes.append(f"{label}: {name} is not used. Is {near[0]} meant?")
    return notes


def slip_of(name: str, notes: Sequence[str]) -> str:
    """What notes say of another name that was meant to be `name`, as the begin of a hint; "" for nothing.

    >>> slip_of("loss", ["model.py: los is not used. Is loss meant?"])
    'los is not used. Is loss meant? '
    """
    found = (note for note in notes if note.endswith(f"Is {name} meant?"))
    return "".join(f"{note.partition(': ')[2]} " for note in found)


def _function(names: Mapping[str, Any], name: str, label: str) -> Any:
    found = names.get(name)
    if found is None:
        return None
    if not callable(found):
        raise WorkloadError(
            f"{label}: {name} is a {type(found).__name__}, not a function.", f"Write def {name}(...)."
        )
    return found


def _missing(name: str, label: str, slips: Sequence[str] = ()) -> WorkloadError:
    return WorkloadError(
        f"{label} has no {name}().",
        f"{slip_of(name, slips)}`autoopt init` writes a file with all of them, commented.",
    )
