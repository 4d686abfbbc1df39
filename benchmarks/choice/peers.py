"""What else one could do with the same time: each peer is a function (world, budget, workers) -> Choice.

A peer's trials take turns on the same workers and have to end within the budget; where none does, AdamW at its default
is what its user is left with. Not here, because a table cannot replay it: a learning-rate finder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import optuna

from autoopt.optim import registry
from autoopt.records import BASELINE
from benchmarks.choice.surface import DEFAULT_RATE, Surface
from benchmarks.choice.world import Choice, Ran, World, half_decades, in_turns

optuna.logging.set_verbosity(optuna.logging.WARNING)

Tuner = Callable[[World, float, int], Choice]
DEFAULT = Choice(BASELINE, DEFAULT_RATE)
_STARTS = 10
"""Random trials before TPE models anything: Optuna's default."""
_REPORTS = 9
_SEED = 0


def adamw_default(_world: World, _budget: float, _workers: int) -> Choice:
    """AdamW as torch has it: no tuning."""
    return DEFAULT


def adamw_grid(world: World, budget: float, workers: int) -> Choice:
    """AdamW alone in full runs: its start, then half decades outwards."""
    spec = registry.get("adamw")
    span = spec.space["lr"]
    return full_runs(
        world,
        budget,
        workers,
        (Choice("adamw", r) for r in half_decades(spec.start()["lr"], span.low, span.high)),
    )


def adamw_tpe(world: World, budget: float, workers: int) -> Choice:
    """AdamW alone in full runs, rates by Optuna's TPE."""
    return _tpe(world, budget, workers, ["adamw"], optuna.pruners.NopPruner())


def random_full(world: World, budget: float, workers: int) -> Choice:
    """Full runs of a random optimizer at a random rate of its range."""
    rng = np.random.default_rng([world.tuning, 7])

    def draws() -> Iterator[Choice]:
        while True:
            name = str(rng.choice(world.surface.optimizers))
            span = registry.get(name).space["lr"]
            x = rng.uniform(math.log10(span.low), math.log10(span.high))
            yield Choice(name, float(f"{10**x:.4g}"))

    return full_runs(world, budget, workers, draws())


def optuna_hyperband(world: World, budget: float, workers: int) -> Choice:
    """What a good user writes: the optimizer as a categorical with a rate each, TPE, Hyperband on a full run's course."""
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=_REPORTS + 1, reduction_factor=3)
    return _tpe(world, budget, workers, world.surface.optimizers, pruner)


def short_winner(world: World, budget: float, workers: int) -> Choice:
    """The best at an eighth of the length, handed on as it is: every optimizer, its start and half decades outwards."""
    steps = max(1, round(world.surface.steps / 8))
    lists = []
    for name in world.surface.optimizers:
        spec = registry.get(name)
        span = spec.space["lr"]
        lists.append(list(half_decades(spec.start()["lr"], span.low, span.high))[:7])
    rounds = (
        Choice(name, rates[i])
        for i in range(7)
        for name, rates in zip(world.surface.optimizers, lists, strict=True)
        if i < len(rates)
    )
    return _best(run_all(world, budget, workers, ((c, steps) for c in rounds)))


def staged(world: World, budget: float, workers: int) -> Choice:
    """Every optimizer x 3 rates at an eighth of the final length, the best 4 x 3 at a quarter, the best 2 x 3 in full.

    The final length is the longest (the real one, a half, ...) at which all of it fits the budget.
    """
    surface = world.surface
    for halvings in range(7):
        final = max(1, round(surface.steps / 2**halvings))
        stages = ((max(1, final // 8), len(surface.optimizers)), (max(1, final // 4), 4), (final, 2))
        mean = np.mean([surface.seconds(n, 1000) - surface.seconds(n, 0) for n in surface.optimizers]) / 1000
        cost = sum(3 * n * (steps * mean + surface.seconds("adamw", 0)) for steps, n in stages)
        if cost <= 0.95 * workers * budget:
            break
    left = {n: registry.get(n).start()["lr"] for n in surface.optimizers}
    chosen, spent = DEFAULT, 0.0
    for steps, number in stages:
        ranked: dict[str, float] = {}
        names = list(left)[:number]
        jobs = [(Choice(n, float(f"{left[n] * 10**x:.4g}")), steps) for x in (0.0, -0.5, 0.5) for n in names]
        done, end = _timed(world, budget - spent, workers, jobs)
        spent += end
        if not done:
            break
        for choice, ran in sorted(done, key=lambda item: _order(item[1])):
            if choice.optimizer not in ranked and ran.loss is not None:
                ranked[choice.optimizer] = choice.rate
        chosen, left = _best(done), ranked
        if not left:
            break
    return chosen


def portfolio(configurations: Sequence[Choice]) -> Tuner:
    """Fixed configurations in full runs, in this order, until the budget ends; the first where none ends."""

    def tuner(world: World, budget: float, workers: int) -> Choice:
        able = [c for c in configurations if c.optimizer in (*world.surface.optimizers, BASELINE)]
        return full_runs(world, budget, workers, able, otherwise=able[0] if able else DEFAULT)

    return tuner


def fixed(configuration: Choice) -> Tuner:
    """One configuration for everything: no tuning."""

    def tuner(world: World, _budget: float, _workers: int) -> Choice:
        return configuration if configuration.optimizer in world.surface.optimizers else DEFAULT

    return tuner


def learned(others: Sequence[Surface], number: int = 12) -> list[Choice]:
    """Configurations that together leave the least regret on other workloads, greedily, the best single one first."""
    everything = [
        Choice(name, rate)
        for name in sorted(set.intersection(*(set(s.optimizers) for s in others)) if others else ())
        for rate in others[0].rates(name)
    ]
    regrets = {
        c: np.array([s.score(c.optimizer, c.rate).v - s.best()[2] for s in others]) for c in everything
    }
    taken: list[Choice] = []
    reached = np.full(len(others), np.inf)
    while everything and len(taken) < number:
        best = min(everything, key=lambda c: float(np.minimum(reached, regrets[c]).mean()))
        if taken and float((reached - np.minimum(reached, regrets[best])).mean()) < 1e-6:
            break
        taken.append(best)
        everything.remove(best)
        reached = np.minimum(reached, regrets[best])
    return taken or [DEFAULT]


# --- how they run ---------------------------------------------------------------------------------------------


def full_runs(
    world: World, budget: float, workers: int, choices: Iterable[Choice], otherwise: Choice = DEFAULT
) -> Choice:
    """The best of some configurations, each in full, as many as end in time."""
    return _best(run_all(world, budget, workers, ((c, world.surface.steps) for c in choices)), otherwise)


def run_all(
    world: World, budget: float, workers: int, jobs: Iterable[tuple[Choice, int]]
) -> list[tuple[Choice, Ran]]:
    """Runs (configuration, steps) in turns; those that end within the budget."""
    return _timed(world, budget, workers, jobs)[0]


def _timed(
    world: World, budget: float, workers: int, jobs: Iterable[tuple[Choice, int]]
) -> tuple[list[tuple[Choice, Ran]], float]:
    waiting, done = iter(jobs), list[tuple[Choice, Ran]]()

    def ask(_now: float) -> tuple[float, Callable[[], None]] | None:
        item = next(waiting, None)
        if item is None:
            return None
        choice, steps = item
        ran = world.run(choice.optimizer, choice.rate, steps, _SEED)
        return ran.seconds, lambda: done.append((choice, ran))

    end = in_turns(workers, budget, ask)
    return done, end


def _order(ran: Ran) -> float:
    return math.inf if ran.loss is None else ran.loss


def _best(done: Sequence[tuple[Choice, Ran]], otherwise: Choice = DEFAULT) -> Choice:
    alive = [(ran.loss, i, choice) for i, (choice, ran) in enumerate(done) if ran.loss is not None]
    return min(alive)[2] if alive else otherwise


def _tpe(
    world: World, budget: float, workers: int, names: Sequence[str], pruner: optuna.pruners.BasePruner
) -> Choice:
    """Full runs proposed by Optuna, pruned on their training loss; its best finished trial."""
    surface = world.surface
    sampler = optuna.samplers.TPESampler(
        seed=world.tuning, n_startup_trials=_STARTS, constant_liar=workers > 1
    )
    # Hyperband draws a trial's bracket from the study's name, which is random unless it is given.
    study = optuna.create_study(
        study_name=f"tuning {world.tuning}", direction="minimize", sampler=sampler, pruner=pruner
    )
    choices: dict[int, Choice] = {}

    def ask(now: float) -> tuple[float, Callable[[], None]] | None:
        if now >= budget:
            return None
        trial = study.ask()
        name = trial.suggest_categorical("optimizer", list(names)) if len(names) > 1 else names[0]
        span = registry.get(name).space["lr"]
        rate = float(f"{trial.suggest_float(f'lr_{name}', span.low, span.high, log=True):.4g}")
        choices[trial.number] = Choice(name, rate)
        ran = world.run(name, rate, surface.steps, _SEED)
        for part in range(1, _REPORTS + 1) if ran.loss is not None else ():
            trial.report(surface.course(name, rate, part / (_REPORTS + 1)), part)
            if trial.should_prune():
                seconds = surface.seconds(name, surface.steps, part / (_REPORTS + 1))
                return seconds, lambda: _tell(study, trial, None)
        return ran.seconds, lambda: _tell(study, trial, surface.initial if ran.loss is None else ran.loss)

    in_turns(workers, budget, ask)
    finished = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    if not finished:
        return DEFAULT
    return choices[min(finished, key=lambda t: (t.value, t.number)).number]


def _tell(study: optuna.Study, trial: optuna.Trial, value: float | None) -> None:
    if value is None:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, value)
