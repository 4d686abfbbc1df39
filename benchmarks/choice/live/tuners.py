"""The table of tuners."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.choice.live import ours, ray_tune, searches, untuned
from benchmarks.choice.live.setting import Tuner


@dataclass(frozen=True)
class Row:
    """A tuner in words.

    Args:
        words: for tables.
        tuner: the function.
        costs: whether it uses the time that it is given.
        lucky: whether another seed gives another choice.
    """

    words: str
    tuner: Tuner
    costs: bool = True
    lucky: bool = True


TUNERS: dict[str, Row] = {
    "autoopt": Row("autoopt", ours.autoopt),
    "adamw_default": Row("AdamW at its default", untuned.adamw_default, costs=False, lucky=False),
    "lr_finder": Row("AdamW at a learning-rate finder's rate", untuned.lr_finder, costs=False),
    "adamw_tpe": Row("AdamW alone, TPE in full runs", searches.adamw_tpe),
    "fixed": Row("the best fixed configuration of other workloads", untuned.fixed, costs=False, lucky=False),
    "random_full": Row("random search over full runs", searches.random_full),
    "optuna_hyperband": Row("Optuna: categorical, TPE, Hyperband", searches.optuna_hyperband),
    "ray_tune": Row("Ray Tune: OptunaSearch, ASHA", ray_tune.ray_tune),
}
"""Names as in `benchmarks.choice.report`, where it has the same tuner."""
