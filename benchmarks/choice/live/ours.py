"""The product, as `autoopt profile` runs it, but for what it writes: its pool, planner, loop and recommendation."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, cast

from autoopt import contest
from autoopt import policy as policies
from autoopt.errors import NoResult
from autoopt.recommend import Evidence, recommend
from autoopt.records import Outcome
from autoopt.run import Run
from autoopt.session import Clock, Silent, Stop, run_trials
from autoopt.trials.pool import Pool
from benchmarks.choice.live import warm
from benchmarks.choice.live.nouns import DEFAULT, SCORING, Pick, Tuned
from benchmarks.choice.live.setting import Setting
from benchmarks.choice.replay import known_without

POLICY = "balanced"


class _Nowhere:
    """A run that keeps no events."""

    def append(self, event: Any) -> None:
        """Nothing."""


def autoopt(setting: Setting) -> Tuned:
    """The product's choice; AdamW at its default when all of its trials diverged.

    What a start measures (steps, memory, which optimizers can be used) is part of its start-up, and told in the note:
    the others are given what they need of it.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        workers = setting.crew.workers
        with Pool(
            str(setting.target), log_dir=Path(folder), workers=workers, threads=1, engine=warm.ENGINE
        ) as pool:
            report = pool.start()
            while len(pool.idle()) < workers:
                pool.wait(0.1)
            clock = Clock()
            startup = time.monotonic() - began
            entry = contest.enter(policies.load(POLICY), report, named=False)
            planner, _ = contest.prepare(
                entry,
                report,
                budget=setting.seconds,
                begin=0.0,
                deadline=setting.seconds,
                workers=workers,
                seed=setting.tuning,
                done=[],
                known=known_without(setting.workload),
            )
            run_trials(planner, pool, cast(Run, _Nowhere()), Silent(), clock, Stop())
            evidence = Evidence(
                name=setting.workload,
                report=report,
                policy=entry.policy,
                specs=planner.specs,
                planner=planner,
                ledger={"wall": clock()},
                provenance={},
                complete=True,
                notes=[],
            )
            notes = [
                f"calibration {sum(report.seconds.get(k, 0.0) for k in _CALIBRATION):.1f} s of its start-up"
            ]
            try:
                chosen = recommend(evidence).recommendation
                pick = Pick.of(chosen.optimizer, chosen.hyper)
            except NoResult as error:
                pick = DEFAULT
                notes.append(f"{error.message} So AdamW's default")
            seconds = clock()
    results = planner.results
    if any(r.spec.seed in SCORING for r in results):
        raise RuntimeError("The planner trained on a seed that is kept for scoring.")
    finished = sum(r.outcome is Outcome.COMPLETED for r in results)
    return Tuned(pick, seconds, startup, len(results), finished, "; ".join(notes))


_CALIBRATION = ("check", "calibrate", "validation", "probes")
"""Keys of a report's seconds."""
