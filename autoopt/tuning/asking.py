"""What is asked and what is answered: the moment at which a trial is wanted, and one that it could be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from autoopt.tuning.option import Option


@dataclass(frozen=True)
class Moment:
    """When a trial is asked for; all in seconds since the start of the run.

    Args:
        elapsed: now.
        begin: when trials began.
        deadline: when the last one must have ended.
    """

    elapsed: float
    begin: float
    deadline: float


class Proposal(NamedTuple):
    """A trial that could be made now."""

    stage: str
    option: Option
    steps: int
    seed: int
