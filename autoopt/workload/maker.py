"""What a loop of the user's own is handed: `make_optimizer` and `report`, of a trial or of the real run.

The rate follows what is reported and not the optimizer's own steps: with several optimizers (a generator's, and a
discriminator's that steps five times as often) all of them warm up and decay over the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from autoopt import options
from autoopt.errors import WorkloadError
from autoopt.optim import build, registry
from autoopt.optim._curvature import CurvatureOptimizer
from autoopt.optim.groups import NO_DECAY, Group
from autoopt.optim.loose import groups_of
from autoopt.optim.spec import Need
from autoopt.records import BASELINE, Hyper
from autoopt.schedule import multiplier, warmup_steps
from autoopt.workload import baseline
from autoopt.workload.baseline import UserOptimizer
from autoopt.workload.places import caller

Shape = Callable[[int], float]
"""Steps that are done -> multiple of the base rate for the next one."""


@dataclass(frozen=True)
class Told:
    """A report: `done` steps of the run are over, `seconds` after the last report, the time that autoopt took left out."""

    done: int
    loss: float
    seconds: float


@dataclass
class _Made:
    optimizer: Optimizer
    shape: Shape
    groups: list[Group]
    given: Any
    user: UserOptimizer | None
    steps: int = 0


class Maker:
    """Makes the optimizers of one run of the user's loop, all with the same settings, and moves their rates.

    Args:
        optimizer: registry name, or BASELINE for the user's own (AdamW at 1e-3 where there is none).
        hyper: its settings; may hold `options.CLIP` and `options.WARMUP`.
        steps: length of this run.
        schedule: cosine, linear, constant or wsd; "yours" keeps the user's own scheduler for all optimizers.
        warmup: share of the run.
        no_decay: kinds of parameters without weight decay.
        configure: the user's `configure_optimizers`, called with what `make_optimizer` is given.
        real_steps: length of the real run, over which a scheduler of the user's is drawn.
        label: what errors call the user's file.
        still: rates stay 0, so that nothing is trained: for measuring.
        tell: takes every report.
        given: told of every optimizer's groups before it is made.

    >>> maker = Maker("adamw", {"lr": 0.1}, steps=4, schedule="linear", warmup=0.0)
    >>> net = nn.Linear(2, 1)
    >>> optimizer = maker(net)
    >>> for step in range(4):
    ...     net(torch.ones(1, 2)).sum().backward()
    ...     _ = optimizer.step()
    ...     maker.report(step, 1.0)
    >>> [round(group["lr"], 3) for group in optimizer.param_groups], maker.done
    ([0.0, 0.0], 4)
    """

    def __init__(
        self,
        optimizer: str,
        hyper: Hyper,
        *,
        steps: int,
        schedule: str = "cosine",
        warmup: float = 0.05,
        no_decay: Sequence[str] = NO_DECAY,
        configure: Callable[..., Any] | None = None,
        real_steps: int | None = None,
        label: str = "run()",
        still: bool = False,
        tell: Callable[[Told], None] | None = None,
        given: Callable[[list[Group]], None] | None = None,
    ) -> None:
        self.optimizer, self.hyper, self.steps = optimizer, dict(hyper), steps
        self._schedule, self._no_decay, self._configure = schedule, list(no_decay), configure
        self._warm = warmup_steps(self.hyper.get(options.WARMUP, warmup), steps)
        self._clip = self.hyper.get(options.CLIP) or 0.0
        self._real_steps, self._label, self._still = real_steps or steps, label, still
        self.tell, self._given = tell, given
        self.made: list[_Made] = []
        self.done = 0
        self._last: int | None = None
        self._stride = 1
        self._resumed = time.perf_counter()

    # --- make_optimizer -----------------------------------------------------------------------------------

    def __call__(self, given: Any, *, lr_scale: float = 1.0) -> Optimizer:
        """An optimizer of this run's settings; its rate is moved by `report`, so there is no scheduler to step.

        Args:
            given: a module, its parameters, (name, parameter) pairs, or groups of parameters. A module says most:
                embeddings are told from matrices.
            lr_scale: multiple of the rate for all of it.

        Raises:
            WorkloadError: nothing to train.
        """
        if not isinstance(given, nn.Module | torch.Tensor | Mapping) and hasattr(given, "__iter__"):
            given = list(given)  # a generator can be read once only
        parts = groups_of(given, no_decay=self._no_decay, lr_scale=lr_scale)
        if self._given is not None:
            self._given(parts)
        user = None
        if self.optimizer == BASELINE or self._schedule == "yours":
            user = self._users(given, parts)
        if self.optimizer == BASELINE:
            assert user is not None
            optimizer = user.optimizer
            factor = lr_scale if user.source == "configure_optimizers" else 1.0
            if "lr" in self.hyper and user.hyper.get("lr"):
                factor *= self.hyper["lr"] / user.hyper["lr"]
            for group in optimizer.param_groups:
                group["lr"] *= factor
        else:
            optimizer = build.build(registry.get(self.optimizer), parts, options.own(self.hyper))
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        made = _Made(optimizer, self._shape(user), parts, given, user)
        self._attach(made)
        self.made.append(made)
        self._set_rate(made)
        return optimizer

    def _users(self, given: Any, parts: Sequence[Group]) -> UserOptimizer:
        """The user's own optimizer over the same parameters."""
        if self._configure is None:
            # One group where all have one rate, as anybody would write it.
            if len({g.lr_scale for g in parts}) == 1 and parts[0].lr_scale == 1:
                return baseline.default_over([p for g in parts for p in g.params])
            scaled = [{"params": list(g.params), "lr": baseline.DEFAULT_LR * g.lr_scale} for g in parts]
            return baseline.default_over(scaled)
        returned = self._configure(given)
        optimizer, scheduler, settings = baseline.parse(returned, label=self._label, epoch_interval=False)
        return baseline.describe(optimizer, scheduler, settings, steps=self._real_steps, steps_per_epoch=None)

    def _shape(self, user: UserOptimizer | None) -> Shape:
        if self._still:
            return lambda _done: 0.0
        if self.optimizer != BASELINE and Need.OWN_SCHEDULE in registry.get(self.optimizer).needs:
            return lambda done: multiplier("constant", done, self.steps, self._warm)
        kind = self._schedule
        if kind == "yours":
            if user is not None and user.schedule is not None:
                shape = user.schedule
                return lambda done: shape(min(1.0, done / self.steps))
            kind = "cosine"
        return lambda done: multiplier(kind, done, self.steps, self._warm)

    def _attach(self, made: _Made) -> None:
        """Counts its steps, and clips where the settings say so."""
        optimizer = made.optimizer
        if isinstance(optimizer, CurvatureOptimizer):
            optimizer.module = made.given if isinstance(made.given, nn.Module) else None
            for group in optimizer.param_groups:
                group["max_grad_norm"] = self._clip
        elif self._clip:
            parameters = [p for group in made.groups for p in group.params]
            optimizer.register_step_pre_hook(partial(_clip, parameters, self._clip))

        def count(*_: Any) -> None:
            made.steps += 1

        optimizer.register_step_post_hook(count)

    def _set_rate(self, made: _Made) -> None:
        share = made.shape(self.done)
        for group in made.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share

    # --- report -------------------------------------------------------------------------------------------

    def report(self, step: int, loss: Any) -> None:
        """Says that step `step` (from 0, as `range(steps)` counts) is over, with the training loss `loss`.

        May be called more seldom than at every step. In a trial this is where it can end: when it is cancelled, or when
        the loss is not finite.

        Raises:
            WorkloadError: `step` runs backwards or beyond the run, `loss` is no number, or nothing was made.
        """
        here = time.perf_counter()
        if not self.made:
            raise WorkloadError(
                f"{caller()} reports a step, and make_optimizer() was not called before.",
                "Get the optimizer from make_optimizer(module), and train with it.",
            )
        value = number(loss)
        if value is None:
            raise WorkloadError(
                f"report() in {caller()} was given a {type(loss).__name__} as the loss.",
                "Give the training loss as a number, or as a tensor with one element.",
            )
        self._count(step)
        told = Told(self.done, value, here - self._resumed)
        for made in self.made:
            self._set_rate(made)
        if self.tell is not None:
            self.tell(told)
        self._resumed = time.perf_counter()

    def _count(self, step: int) -> None:
        step = int(step)
        if self._last is not None and step < self._last:
            raise WorkloadError(
                f"report() in {caller()} was told of step {step} after step {self._last}.",
                "Count the steps of the whole run, from 0 to steps - 1, over all epochs.",
            )
        if step > self.steps:
            raise WorkloadError(
                f"report() in {caller()} was told of step {step}, but this run has {self.steps}.",
                "Train for as many steps as the argument `steps` says: trials are shorter than the real run.",
            )
        self._stride = max(self._stride, step + 1 - self.done)
        self._last = step
        self.done = min(self.steps, step + 1)

    def check(self, where: str) -> None:
        """To be called when `run` has returned.

        Args:
            where: the user's function and line.

        Raises:
            WorkloadError: it did not train as it was asked to.
        """
        if not self.made:
            raise WorkloadError(
                f"{where} never called make_optimizer().",
                "Get the optimizer from make_optimizer(module), and train with it.",
            )
        if self._last is None:
            raise WorkloadError(
                f"{where} never called report().",
                "Call report(step, loss) after each step: the rate follows it, and a trial can end there.",
            )
        idle = [number for number, made in enumerate(self.made, 1) if not made.steps]
        if len(idle) == len(self.made):
            raise WorkloadError(
                f"{where} never called step() of the optimizer that make_optimizer() gave.",
                "Train with that optimizer, not with one of your own.",
            )
        if self.done + self._stride <= self.steps:
            raise WorkloadError(
                f"{where} returned after {self.done} of {self.steps} steps.",
                "Train for as many steps as the argument `steps` says, and report each of them.",
            )


def _clip(parameters: Sequence[torch.Tensor], norm: float, *_: Any) -> None:
    nn.utils.clip_grad_norm_(parameters, norm)


def number(value: Any) -> float | None:
    """A number as a float, whatever it comes as: a tensor with one element, say; None: it is none."""
    if isinstance(value, torch.Tensor):
        return float(value.detach()) if value.numel() == 1 else None
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
