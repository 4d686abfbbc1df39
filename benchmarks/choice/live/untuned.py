"""What costs little or nothing: AdamW's default, a learning-rate finder, and what was best elsewhere."""

from __future__ import annotations

from autoopt.records import BASELINE
from benchmarks.choice import HELD_OUT, WORKLOADS, peers
from benchmarks.choice.live import finder
from benchmarks.choice.live.nouns import DEFAULT, Ended, Pick, Task, Tuned
from benchmarks.choice.live.setting import Setting
from benchmarks.choice.surface import surfaces


def adamw_default(_setting: Setting) -> Tuned:
    """AdamW as torch has it."""
    return Tuned(DEFAULT, 0.0)


def lr_finder(setting: Setting) -> Tuned:
    """AdamW at the rate of the longest valley of a sweep."""
    found: list[Ended] = []
    tasks = iter([Task("sweep", DEFAULT, finder.STEPS, setting.tuning)])
    seconds = setting.crew.run(
        setting.seconds, lambda _now: next(tasks, None), lambda _task, end: found.append(end)
    )
    rate = found[0].extra if found else ()
    if not rate:
        return Tuned(DEFAULT, seconds, started=1, note="the sweep came to nothing, so AdamW's default")
    return Tuned(Pick.of(BASELINE, {"lr": float(f"{rate[0]:.4g}")}), seconds, started=1, finished=1)


def fixed(setting: Setting) -> Tuned:
    """The configuration that leaves the least regret on the tables of the other workloads, held-out ones apart."""
    others = [
        surface
        for name, surface in surfaces(setting.tables).items()
        if name in WORKLOADS and name not in (setting.workload, *HELD_OUT)
    ]
    choice = peers.learned(others, 1)[0]
    if choice.optimizer not in (*setting.names, BASELINE):
        return Tuned(DEFAULT, 0.0, note=f"{choice.optimizer} cannot train this, so AdamW's default")
    return Tuned(Pick.at(choice.optimizer, choice.rate), 0.0)
