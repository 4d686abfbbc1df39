"""What a training step costs with each optimizer, timed before the first trial.

A planner that does not know that one optimizer takes seven times as long as another would start trials that cannot end.

Round after round every optimizer takes its turn, in one order and then in the other, so that a machine that gets slower
in the meantime makes none of them look worse: each is compared with AdamW in the same round. Forward and backward are
the same for all and timed once a round; a second-order optimizer, in whose step they happen, is timed as a whole.

Whoever looks unusually dear after few rounds takes further steps: others may have kept the machine busy just then, and
an optimizer must not be left out for that. Its fastest step is told too, which load makes least wrong.
"""

from __future__ import annotations

import importlib
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from autoopt.optim import build, groups, registry
from autoopt.optim._curvature import CurvatureOptimizer
from autoopt.optim.groups import Group
from autoopt.optim.period import period
from autoopt.optim.spec import Need, OptimSpec
from autoopt.records import StepCost, StepCosts
from autoopt.records.workload import ENOUGH_ROUNDS
from autoopt.workload.calibrate import synchronize
from autoopt.workload.data import clone, samples

if TYPE_CHECKING:
    from autoopt.workload.workload import Workload

SECONDS = 2.0
"""That a pass takes at most where there is no budget to take a share of."""
_PRESENT = frozenset({"torch", "autoopt"})
"""Packages that are imported already."""
_IMPORT_FROM = 20.0
"""Seconds of a pass from which on packages are imported for it: one of them takes as long as many steps."""
_MOST_PARAMETERS = 50_000_000
"""Above, a step is all computation and the states of a dozen optimizers would fill the memory."""
_STATES = 1 << 30
"""Bytes of states that are alive at once; more optimizers take their turns in groups, AdamW in each."""
_ENOUGH, _MOST = ENOUGH_ROUNDS, 16
"""Rounds after which a pass ends once `SECONDS` are over, and those of a fast model."""
_SECOND_ORDER = 4.0
"""Times of forward and backward that a second-order step may take."""
_UNUSUAL, _UNUSUAL_WHOLE = 2.0, 4.0
"""Times AdamW's step from which on few rounds are not believed, of first-order optimizers and of others."""
_DEAR = 0.1
"""Share of the time that one thing may take in every round: what takes more is timed once, before the rounds."""
_LONGEST_PERIOD = 16
"""Steps of a period beyond which only the trials tell what an optimizer costs."""


@dataclass
class _Runner:
    """An optimizer on the track, and the seconds of its rounds."""

    name: str
    optimizer: torch.optim.Optimizer
    whole: bool
    """Whether forward and backward happen inside its step."""
    once: float
    """Seconds of its second step, before the rounds."""
    seconds: list[float] = field(default_factory=list)
    further: list[float] = field(default_factory=list)
    """Those of the steps that it took after the rounds, alone."""

    @property
    def all(self) -> list[float]:
        return self.seconds + self.further


def measure(
    workload: Workload,
    model: nn.Module,
    batch: Any,
    *,
    tokens: int | None = None,
    unavailable: Collection[str] = (),
    seconds: float = SECONDS,
) -> StepCosts | None:
    """The cost of a training step with each optimizer that can be built.

    Takes steps at a tiny learning rate: the next `start` restores the weights.

    Args:
        batch: on the host; all steps train on it.
        tokens: in it.
        unavailable: registry names that cannot be used here.
        seconds: that the pass may take, imports excluded. It ends after four rounds and two seconds if it can. Those that
            look unusually dear after fewer rounds may take as long again.

    Returns:
        `None` where nothing was timed: a large model, AdamW that cannot be used, no time to build it.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    number = sum(p.numel() for p in parameters)
    if number > _MOST_PARAMETERS:
        return None
    imports = dict[str, float]()
    specs = [s for s in _candidates(unavailable) if _present(s, imports, seconds >= _IMPORT_FROM)]
    user = workload.baseline(model)
    split = groups.split(model, user=user.optimizer if user.given else None)
    begin, timed, shared = workload.group.now(), dict[str, StepCost](), list[float]()
    heats = list(_heats(specs, number))
    for i, heat in enumerate(heats):
        left = (seconds - (workload.group.now() - begin)) / (len(heats) - i)
        track = _Track(workload, model, parameters, batch, left)
        runners = track.line_up(heat, split)
        if not any(r.name == "adamw" for r in runners):
            continue
        try:
            shared += track.run(runners)
        except (RuntimeError, MemoryError) as error:  # they all took two steps before
            why = str(error).strip().splitlines() or [type(error).__name__]
            workload.note(f"Timing the steps of {', '.join(r.name for r in runners)} was given up: {why[0]}")
            continue
        for cost in _costs(runners, track.shared, _per_step(workload, batch, tokens)):
            timed.setdefault(cost.optimizer, cost)
    model.zero_grad(set_to_none=True)
    if not timed:
        return None
    return StepCosts(
        shared_seconds=_digits(statistics.median(shared)),
        seconds=round(workload.group.now() - begin, 3),
        imports=imports,
        optimizers=[timed[n] for n in registry.names() if n in timed],
    )


def _candidates(unavailable: Collection[str]) -> list[OptimSpec]:
    """Those that can be used here, AdamW first."""
    names = sorted((n for n in registry.names() if n not in unavailable), key=lambda n: n != "adamw")
    return [s for s in map(registry.get, names) if registry.why_unavailable(s) is None]


def _present(spec: OptimSpec, imports: dict[str, float], may_import: bool) -> bool:
    """Whether an optimizer's module is loaded, by an import that is timed if need be."""
    module = spec.target.partition(":")[0]
    if spec.distribution in _PRESENT or module in sys.modules:
        return True
    if not may_import:
        return False
    begin = time.perf_counter()
    try:
        importlib.import_module(module)
    except Exception:  # a broken installation: building it in a trial says how
        return False
    imports[module.partition(".")[0]] = round(time.perf_counter() - begin, 3)
    return True


def _heats(specs: Sequence[OptimSpec], parameters: int) -> Iterator[list[OptimSpec]]:
    """Groups whose states fit into the memory together, AdamW in each."""
    adamw = [s for s in specs if s.name == "adamw"]
    heat, held = list(adamw), _bytes(adamw, parameters)
    for spec in specs:
        if spec in adamw:
            continue
        more = _bytes([spec], parameters)
        if len(heat) > 1 and held + more > _STATES:
            yield heat
            heat, held = list(adamw), _bytes(adamw, parameters)
        heat.append(spec)
        held += more
    yield heat


def _bytes(specs: Sequence[OptimSpec], parameters: int) -> float:
    return sum(4.0 * parameters * s.state_tensors for s in specs)


class _Track:
    """Where optimizers take turns on one model and batch."""

    def __init__(
        self, workload: Workload, model: nn.Module, parameters: Sequence[Tensor], batch: Any, seconds: float
    ) -> None:
        self._workload, self._model, self._parameters = workload, model, parameters
        self._batches = [batch] * (workload.settings.accumulate // workload.group.size)
        self._until = workload.group.now() + seconds
        self._soft = workload.group.now() + min(SECONDS, seconds)
        self._seconds = seconds
        self.shared: list[float] = []
        self._once = 0.0

    def line_up(self, specs: Sequence[OptimSpec], split: Sequence[Group]) -> list[_Runner]:
        """Builds the optimizers and takes two steps with each, of which the first makes the state; drops those that fail."""
        runners = []
        self._backward()
        self._once = self._timed(self._backward)
        for spec in specs:
            if self._workload.group.now() > self._until:
                break
            whole = Need.SECOND_ORDER in spec.needs
            if whole and self._dear(_SECOND_ORDER * self._once):
                continue  # its graph may not fit into the memory
            with suppress(Exception):  # it cannot serve this model; trials will say why
                optimizer = build.build(spec, list(split), {"lr": 1e-6 * spec.start()["lr"]})
                if period(optimizer) > _LONGEST_PERIOD or whole != isinstance(optimizer, CurvatureOptimizer):
                    continue
                training = getattr(optimizer, "train", None)
                if callable(training):  # schedule-free ones keep two sets of weights
                    training()
                runner = _Runner(spec.name, optimizer, whole, 0.0)
                self._step(runner)
                runner.once = self._timed(partial(self._step, runner))
                runners.append(runner)
            if whole:
                self._backward()  # gradients for those that come after it
        return runners

    def run(self, runners: list[_Runner]) -> list[float]:
        """Rounds until the time is up; the seconds of forward and backward in each."""
        turns = [r for r in runners if r.name == "adamw" or not self._dear(r.once)]
        first = [r for r in turns if not r.whole]
        last = [r for r in turns if r.whole]  # they leave no gradients for others
        both = not self._dear(self._once)
        a_round = sum(r.once for r in turns) + both * self._once
        while len(self.shared) < _MOST:
            now, done = self._workload.group.now(), len(self.shared)
            if now + a_round > self._until or (now > self._soft and done >= _ENOUGH):
                break
            turn = slice(None, None, -1 if done % 2 else 1)
            self.shared.append(self._timed(self._backward) if both else self._once)
            for runner in [*first[turn], *last[turn]]:
                runner.seconds.append(self._timed(partial(self._step, runner)) / period(runner.optimizer))
        for runner in runners:
            # The step before the rounds counts as one of them: on a slow machine there may be no other.
            runner.seconds.insert(0, runner.once / period(runner.optimizer))
        self.shared.insert(0, self._once)
        self._look_again(runners)
        return self.shared

    def _look_again(self, runners: Sequence[_Runner]) -> None:
        """Further steps, in turns, of those that look unusually dear and took few."""
        until = self._workload.group.now() + self._seconds
        adamw = next(r for r in runners if r.name == "adamw")
        for _ in range(_ENOUGH):
            for runner in runners:
                dear = _fastest(runner, self.shared) / _fastest(adamw, self.shared)
                if len(runner.all) >= _ENOUGH or dear <= (_UNUSUAL_WHOLE if runner.whole else _UNUSUAL):
                    continue
                each = period(runner.optimizer)
                if self._workload.group.now() + self._once + each * min(runner.all) > until:
                    continue
                if not runner.whole:
                    self._backward()  # a second-order step before it has left no gradients
                runner.further.append(self._timed(partial(self._step, runner)) / each)

    def _dear(self, seconds: float) -> bool:
        return seconds > _DEAR * self._seconds

    def _step(self, runner: _Runner) -> None:
        """Steps of a whole period."""
        optimizer = runner.optimizer
        for _ in range(period(optimizer)):
            if not isinstance(optimizer, CurvatureOptimizer):
                optimizer.step()
                continue
            optimizer.zero_grad(set_to_none=True)
            optimizer.module = self._model
            for group in optimizer.param_groups:
                group["max_grad_norm"] = self._workload.settings.clip or 0.0
            optimizer.step(self._loss)

    def _loss(self) -> Tensor:
        """Of one optimizer step, as one graph."""
        losses = []
        for batch in self._batches:
            with self._workload.autocast():
                losses.append(self._workload.loss(self._model, clone(batch)) / len(self._batches))
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

    def _backward(self) -> None:
        """Forward, backward and clipping of one optimizer step."""
        self._model.zero_grad(set_to_none=True)
        for index, batch in enumerate(self._batches, 1):
            with self._workload.group.holding(self._model, last=index == len(self._batches)):
                with self._workload.autocast():
                    loss = self._workload.loss(self._model, clone(batch)) / len(self._batches)
                loss.backward()  # type: ignore[no-untyped-call]
        if self._workload.settings.clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._workload.settings.clip)

    def _timed(self, what: Callable[[], None]) -> float:
        synchronize(self._workload.device)
        begin = time.perf_counter()
        what()
        synchronize(self._workload.device)
        return self._workload.group.most(time.perf_counter() - begin)


def _per_step(workload: Workload, batch: Any, tokens: int | None) -> tuple[int | None, int | None]:
    """(samples, tokens) of an optimizer step."""
    number, times = samples(batch), workload.settings.accumulate
    return (number * times if number else None), (tokens * times if tokens else None)


def _costs(
    runners: Sequence[_Runner], shared: Sequence[float], per_step: tuple[int | None, int | None]
) -> Iterator[StepCost]:
    """Medians and quartiles over the rounds."""
    middle_shared = statistics.median(shared)

    def in_turns(runner: _Runner) -> bool:
        """Not a dear one, which was timed outside the rounds."""
        return len(runner.seconds) == len(shared) and not runner.further

    def whole(runner: _Runner) -> list[float]:
        if runner.whole:
            return runner.all
        if not in_turns(runner):
            return [own + middle_shared for own in runner.all]
        return [own + both for own, both in zip(runner.seconds, shared, strict=True)]

    adamw = next(r for r in runners if r.name == "adamw")
    reference = whole(adamw)
    for runner in runners:
        mine = whole(runner)
        low, middle, high = _quartiles(mine)
        same = reference if in_turns(runner) else [statistics.median(reference)] * len(mine)
        relative = _quartiles([a / b for a, b in zip(mine, same, strict=True)])
        number, tokens = per_step
        yield StepCost(
            optimizer=runner.name,
            seconds=_digits(middle),
            low=_digits(low),
            high=_digits(high),
            relative=round(relative[1], 3),
            relative_low=round(relative[0], 3),
            relative_high=round(relative[2], 3),
            own_seconds=None if runner.whole else _digits(statistics.median(runner.all)),
            rounds=len(mine),
            fastest=round(_fastest(runner, shared) / _fastest(adamw, shared), 3),
            samples_per_second=number / middle if number else None,
            tokens_per_second=tokens / middle if tokens else None,
        )


def _fastest(runner: _Runner, shared: Sequence[float]) -> float:
    """Seconds of a training step of which each part was as fast as it ever was."""
    return min(runner.all) + (0.0 if runner.whole else min(shared))


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _digits(value: float) -> float:
    return float(f"{value:.6g}")
