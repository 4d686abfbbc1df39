"""What is Lightning's, and which of a file's classes is meant. Lightning is never imported from here: only when the user's
file has imported it can there be a LightningModule."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from autoopt.errors import WorkloadError
from autoopt.workload import trainer as trainers


def _bases(name: str) -> tuple[type, ...]:
    """The class `name` of every Lightning package that is imported."""
    modules = (sys.modules.get(package) for package in trainers.PACKAGES)
    return tuple({getattr(m, name) for m in modules if m is not None and hasattr(m, name)})


def is_module(value: Any) -> bool:
    """Whether `value` is a LightningModule instance."""
    return isinstance(value, _bases("LightningModule"))


def is_module_class(value: Any) -> bool:
    """Whether `value` is a LightningModule class."""
    return isinstance(value, type) and issubclass(value, _bases("LightningModule"))


def is_under_way(module: Any) -> bool:
    """Whether a Trainer runs the module at this moment."""
    trainer = getattr(module, "_trainer", None)
    return trainer is not None and getattr(trainer.state, "status", None) == "running"


def is_data(value: Any) -> bool:
    """Whether `value` is a LightningDataModule, or the class of one."""
    bases = _bases("LightningDataModule")
    return issubclass(value, bases) if isinstance(value, type) else isinstance(value, bases)


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


def overrides(kind: type, base: str, name: str) -> bool:
    """Whether a class has a method of its own in the place of the base's."""
    return all(
        getattr(kind, name, None) is not getattr(b, name, None) for b in _bases(base) if issubclass(kind, b)
    )
