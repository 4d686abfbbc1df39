"""After how many steps the cost of an optimizer repeats: some do their dear part only now and then."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.optim import Optimizer

_NAMES = (
    "update_each",  # AdaHessian
    "precondition_frequency",  # SOAP
    "preconditioning_compute_steps",  # Shampoo
    "precondition_update_every",
    "update_period",  # Sophia
    "update_proj_gap",  # GaLore
    "hessian_update_each",
)
"""What the settings are called that make a step dear only now and then."""
_LONGEST = 1000
"""Beyond, a trial holds hardly a period."""


def period(optimizer: Optimizer) -> int:
    """Steps after which the cost of a step repeats; 1 for most.

    >>> import torch
    >>> from autoopt.optim import AdaHessian
    >>> weight = torch.zeros(1, requires_grad=True)
    >>> period(AdaHessian([weight], update_each=4)), period(torch.optim.SGD([weight]))
    (4, 1)
    """
    found = 1
    for group in optimizer.param_groups:
        for name in _NAMES:
            value = group.get(name, getattr(optimizer, name, 1))
            if isinstance(value, int) and not isinstance(value, bool) and 1 < value <= _LONGEST:
                found = math.lcm(found, value)
    return found if found <= _LONGEST else 1
