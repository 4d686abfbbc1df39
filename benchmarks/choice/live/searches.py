"""Searches over full runs: random, TPE over AdamW's rate, and the script that a good user of Optuna writes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import optuna

from autoopt.optim import registry
from benchmarks.choice.live.nouns import DEFAULT, Ended, Pick, Seen, Task, Tuned
from benchmarks.choice.live.setting import Setting

POINTS = 10
"""Validations on the way of a run that may be pruned."""
_STARTS = 10
"""Random trials before TPE models anything: Optuna's default."""


def random_full(setting: Setting) -> Tuned:
    """Full runs of a random optimizer at a random rate of its range."""
    rng = np.random.default_rng([setting.tuning, 7])
    best = _Best()

    def ask(_now: float) -> Task:
        name = str(rng.choice(setting.names))
        span = registry.get(name).space["lr"]
        rate = 10 ** rng.uniform(math.log10(span.low), math.log10(span.high))
        best.started += 1
        return Task("plain", Pick.at(name, _short(rate)), setting.steps, setting.tuning)

    return best.tuned(setting.crew.run(setting.seconds, ask, best.take))


def adamw_tpe(setting: Setting) -> Tuned:
    """AdamW alone in full runs, rates by Optuna's TPE."""
    return _study(setting, ["adamw"], optuna.pruners.NopPruner(), watch=False)


def optuna_hyperband(setting: Setting) -> Tuned:
    """One study: the optimizer as a categorical with a rate each, TPE, Hyperband on the validation loss."""
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=POINTS, reduction_factor=3)
    return _study(setting, setting.names, pruner, watch=True)


class _Best:
    """The best of the runs that ended."""

    def __init__(self) -> None:
        self.started = self.finished = 0
        self.loss, self.pick = math.inf, DEFAULT
        self.notes: list[str] = []

    def take(self, task: Task, end: Ended) -> None:
        if end.loss is not None and math.isfinite(end.loss):
            self.finished += 1
            if end.loss < self.loss:
                self.loss, self.pick = end.loss, task.pick
        elif end.how not in ("diverged", "stopped"):
            self.notes.append(f"{task.pick.optimizer}: {end.how}")

    def tuned(self, seconds: float) -> Tuned:
        notes = list(dict.fromkeys(self.notes))
        if not self.finished:
            notes.append("nothing ended in time, so AdamW's default")
        return Tuned(
            self.pick, seconds, started=self.started, finished=self.finished, note="; ".join(notes[:3])
        )


def _study(
    setting: Setting, names: Sequence[str], pruner: optuna.pruners.BasePruner, *, watch: bool
) -> Tuned:
    """Full runs that a study proposes; its best one that was not pruned. A diverged one is told the initial loss."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=setting.tuning, n_startup_trials=_STARTS, constant_liar=setting.crew.workers > 1
    )
    # Hyperband draws a trial's bracket from the study's name, which is random unless it is given.
    study = optuna.create_study(
        study_name=f"tuning {setting.tuning}", direction="minimize", sampler=sampler, pruner=pruner
    )
    trials: dict[int, optuna.Trial] = {}
    best = _Best()

    def ask(_now: float) -> Task:
        trial = study.ask()
        name = trial.suggest_categorical("optimizer", list(names)) if len(names) > 1 else names[0]
        span = registry.get(name).space["lr"]
        rate = _short(trial.suggest_float(f"lr_{name}", span.low, span.high, log=True))
        kind = "watched" if watch else "plain"
        task = Task(kind, Pick.at(name, rate), setting.steps, setting.tuning, POINTS, trial.number)
        trials[trial.number] = trial
        best.started += 1
        return task

    def seen(task: Task, at: Seen) -> bool:
        trial = trials[task.number]
        trial.report(at.loss, at.point)
        return not trial.should_prune()

    def ended(task: Task, end: Ended) -> None:
        trial = trials[task.number]
        if end.how == "stopped":
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, setting.initial if end.loss is None else end.loss)
        best.take(task, end)

    return best.tuned(setting.crew.run(setting.seconds, ask, ended, seen))


def _short(rate: float) -> float:
    return float(f"{rate:.4g}")
