"""Optimizers: our own, the table of all, parameter groups and building.

The classes are imported on first use, so that reading the table loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoopt.optim.adahessian import AdaHessian as AdaHessian
    from autoopt.optim.adan import Adan as Adan
    from autoopt.optim.muon import MuonWithAdamW as MuonWithAdamW
    from autoopt.optim.sgd_sai import SGDSaI as SGDSaI

_HOMES = {
    "AdaHessian": "adahessian",
    "Adan": "adan",
    "MuonWithAdamW": "muon",
    "SGDSaI": "sgd_sai",
}

__all__ = ["AdaHessian", "Adan", "MuonWithAdamW", "SGDSaI"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"autoopt.optim.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
