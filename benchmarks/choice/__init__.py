"""The choice benchmark: workloads, tables of what every optimizer does on them, replays of planners over the tables.

python -m benchmarks.choice.tables         # trains everything once; an interrupted table goes on
python -m benchmarks.choice.report         # replays planners and their peers over the tables
python -m benchmarks.choice.horizon        # how best rates and rankings move with the length of a run
python -m benchmarks.choice.clipping       # where clipping helps, and what shows it before the first trial
python -m benchmarks.choice.prior          # what an earlier run is worth to a new one
python -m benchmarks.choice.live           # tuners against the clock, real trainings; an interrupted one goes on

Live there are two more peers than in the replay, since no table holds what they need: Ray Tune, and a learning-rate
finder (Smith 2015, 1506.01186; fastai's and Lightning's `lr_find`): AdamW's loss over about a hundred steps while its
rate grows exponentially from 1e-7 to 10, smoothed, and the rate half way down the longest valley of it.
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
