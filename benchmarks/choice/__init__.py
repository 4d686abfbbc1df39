"""The choice benchmark: workloads, tables of what every optimizer does on them, replays of planners over the tables.

python -m benchmarks.choice.tables         # trains everything once; an interrupted table goes on
python -m benchmarks.choice.report         # replays planners and their peers over the tables
"""

from __future__ import annotations

WORKLOADS = (
    "conv",
    "deep",
    "vit",
    "gpt",
    "recurrent",
    "recommender",
    "regression",
    "pinn",
    "autoencoder",
    "lora",
)
"""Files of benchmarks/choice/workloads/."""

HELD_OUT = frozenset({"recurrent", "autoencoder"})
"""No planner is tuned on these: they are for the final figures only, and reported apart."""
