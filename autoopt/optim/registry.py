"""Looks optimizers up by name. Importing this file imports no torch; `load_class` does.

A name is one of the table (`adamw`), one of a plugin (entry point group `autoopt.optimizers`, each loading to
an `OptimSpec`), or `package:Class` for any optimizer of the packages in `zoo.PACKAGES`.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from difflib import get_close_matches
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING

from autoopt.errors import OptimizerUnavailable, UnknownOptimizer
from autoopt.optim import zoo
from autoopt.optim.catalog import TABLE
from autoopt.optim.spec import OptimSpec

if TYPE_CHECKING:
    import torch

GROUP = "autoopt.optimizers"
"""Entry point group by which other packages add optimizers."""

OWN = "autoopt"


@cache
def _rows() -> dict[str, OptimSpec]:
    rows = {spec.name: spec for spec in TABLE}
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda e: e.name):
        problem = ""
        try:
            spec = entry.load()
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            if not isinstance(spec, OptimSpec):
                problem = f"{entry.value} is {type(spec).__name__}, not an autoopt OptimSpec"
            elif spec.name in rows or ":" in spec.name:
                problem = f"the name {spec.name!r} is taken or has a colon"
        if problem:
            warnings.warn(f"The optimizer plugin {entry.name!r} is left out: {problem}.", stacklevel=2)
        else:
            rows[spec.name] = spec
    return rows


def names() -> list[str]:
    """Names in the table's order, then those of plugins.

    >>> names()[:3]
    ['sgd', 'adamw', 'nadam']
    """
    return list(_rows())


def get(name: str) -> OptimSpec:
    """The description of an optimizer.

    A name with a colon, `pytorch_optimizer:Lion`, imports that package to read the constructor's signature.

    Raises:
        UnknownOptimizer: not in the table; the nearest names are given.
        OptimizerUnavailable: of another package that is not installed, or that cannot be built from
            parameters alone.

    >>> get("adamw").target
    'torch.optim:AdamW'
    """
    if name in _rows():
        return _rows()[name]
    if ":" in name:
        return zoo.describe(name)
    near = get_close_matches(name.lower().replace("-", "_"), names(), n=3, cutoff=0.5)
    known = f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(names())}."
    raise UnknownOptimizer(
        f"There is no optimizer {name!r}.", f"{known} `autoopt optimizers` lists them all."
    )


def why_unavailable(spec: OptimSpec) -> str | None:
    """Why it cannot be used here, or None. Looks at installed versions and imports nothing.

    >>> why_unavailable(get("sgd")) is None
    True
    """
    if spec.distribution == OWN:
        return None
    module = spec.target.partition(":")[0].partition(".")[0]
    try:
        version = metadata.version(spec.distribution)
    except metadata.PackageNotFoundError:
        # Built from source, or put on the path by hand: importable without metadata.
        if module in sys.modules or (module != OWN and find_spec(module) is not None):
            return None
        return f"{spec.distribution} is not installed"
    if spec.min_version and _numbers(version) < _numbers(spec.min_version):
        return f"{spec.distribution} {version} is too old, it comes with {spec.min_version}"
    return None


def load_class(spec: OptimSpec) -> type[torch.optim.Optimizer]:
    """Imports the class that `spec.target` names.

    Raises:
        OptimizerUnavailable: its package is missing, too old, or fails to import.
    """
    reason = why_unavailable(spec)
    module, _, attribute = spec.target.partition(":")
    if reason is None:
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            reason = str(error)
        else:
            loaded: type[torch.optim.Optimizer] = found
            return loaded
    raise OptimizerUnavailable(
        f"{spec.name} cannot be used: {reason}.", f"Install it with `pip install '{spec.package}'`."
    )


def _numbers(version: str) -> tuple[int, ...]:
    """The release part of a version: "2.13.0+cpu" -> (2, 13, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()
