"""Calls the function that a target names, also one that is the main of a script: behind Hydra, argparse, `Trainer.fit`.

What follows `--` on the command line is what such a function sees as its own. One that goes on to train is stopped at its
`Trainer.fit(...)`, whose arguments are then what it would have returned.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoopt.errors import WorkloadError
from autoopt.workload.context import positional
from autoopt.workload.trainer import PACKAGES

RETURN = (
    "Return a LightningModule, (module, datamodule), (module, datamodule, trainer), or a dict of the Trainer's "
    "arguments in its place; or an object with the contract's names."
)


class _Fit(BaseException):
    """`Trainer.fit` was called. A BaseException, so that the script's own handlers do not take it."""

    def __init__(self, returned: tuple[Any, Any, Any]) -> None:
        super().__init__("Trainer.fit")
        self.returned = returned


def reads_the_command_line(function: Callable[..., Any]) -> bool:
    """Whether what follows `--` reaches the function by itself: it takes nothing, or Hydra reads it."""
    return _is_hydra_main(function) or positional(function) == 0


def reached(function: Callable[..., Any], args: Sequence[str], values: Sequence[Any]) -> Any:
    """What `function(*values)` returns, or hands to `Trainer.fit`.

    Args:
        args: what follows `--`; overrides, for a function behind `@hydra.main`.
    """
    try:
        with _caught():
            if _is_hydra_main(function):
                return _through_hydra(function, args)
            return function(*values)
    except _Fit as fit:
        return fit.returned


@contextmanager
def _caught() -> Iterator[None]:
    """`Trainer.fit` ends the function inside, of every Lightning package that is imported."""

    def fit(
        self: Any,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: Any = None,
        *_: Any,
        **__: Any,
    ) -> None:
        data = datamodule if datamodule is not None else train_dataloaders
        if val_dataloaders is not None:
            data = (train_dataloaders, val_dataloaders)
        raise _Fit((model, data, self))

    kinds = [sys.modules[name].Trainer for name in PACKAGES if name in sys.modules]
    before = [kind.fit for kind in kinds]
    for kind in kinds:
        kind.fit = fit
    try:
        yield
    finally:
        for kind, method in zip(kinds, before, strict=True):
            kind.fit = method


def _is_hydra_main(function: Any) -> bool:
    scope = getattr(function, "__globals__", {})
    return scope.get("__name__") == "hydra.main" and hasattr(function, "__wrapped__")


def _through_hydra(function: Any, args: Sequence[str]) -> Any:
    """Composes the configuration as `@hydra.main` would, and calls the function with it.

    Hydra itself returns nothing of what the function returns; and it would change folder and logging.
    """
    from hydra import compose, initialize_config_dir, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    strange = [arg for arg in args if arg.startswith("-")]
    if strange:
        raise WorkloadError(
            f"{strange[0]!r} is an option of Hydra's command line, not an override.",
            "After `--` give overrides, e.g. experiment=foo lr=1e-3.",
        )
    known = inspect.getclosurevars(function).nonlocals
    path, name = known.get("config_path"), known.get("config_name")
    home = Path(inspect.getfile(function.__wrapped__)).resolve().parent
    GlobalHydra.instance().clear()
    if path is not None and str(path).startswith("pkg://"):
        begun: Any = initialize_config_module(
            str(path).removeprefix("pkg://").replace("/", "."), version_base=None
        )
    else:
        begun = initialize_config_dir(str(home if path is None else home / path), version_base=None)
    with begun, tempfile.TemporaryDirectory(prefix="autoopt-hydra-") as folder:
        whole = compose(config_name=name, overrides=list(args), return_hydra_config=True)
        with open_dict(whole):
            whole.hydra.runtime.output_dir = folder
            whole.hydra.runtime.cwd = str(Path.cwd())
        HydraConfig.instance().set_config(whole)
        own = whole.copy()
        with open_dict(own):
            del own["hydra"]
        return function(own)
