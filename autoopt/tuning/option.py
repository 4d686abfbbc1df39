"""A configuration, and the learning rates that are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autoopt.records import Hyper
from autoopt.tuning.arm import Key, key_of
from autoopt.tuning.belief import STEP

RATES = np.arange(-1.5, 1.5 + STEP / 2, STEP)
"""log10 of the rates of an optimizer, less that of its usual one."""


@dataclass(frozen=True)
class Option:
    """A configuration: an optimizer with its settings."""

    optimizer: str
    hyper: Hyper

    @cached_property
    def key(self) -> Key:
        return key_of(self.optimizer, self.hyper)
