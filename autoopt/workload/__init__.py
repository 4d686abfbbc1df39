"""The workload: loads the user's file, holds it to the contract, and draws the paired seeds."""

from __future__ import annotations

from autoopt.workload.baseline import UserOptimizer
from autoopt.workload.entry import from_callables, from_lightning, load
from autoopt.workload.scoring import Score
from autoopt.workload.workload import Workload

__all__ = ["Score", "UserOptimizer", "Workload", "from_callables", "from_lightning", "load"]
