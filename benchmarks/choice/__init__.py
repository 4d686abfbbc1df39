"""The choice benchmark: workloads, tables of what every optimizer does on them, replays of planners over the tables.

python -m benchmarks.choice.tables         # trains everything once; an interrupted table goes on
python -m benchmarks.choice.report         # replays planners and their peers over the tables
python -m benchmarks.choice.horizon        # how best rates and rankings move with the length of a run
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

LONG = ("long_regression", "long_chars", "long_deep")
"""More of them, cheap a step and of 5 000 steps and more, tabled down to T/128; commands take them when named."""

HELD_OUT = frozenset({"recurrent", "autoencoder"})
"""No planner is tuned on these: they are for the final figures only, and reported apart."""
