"""A training loop of the user's own, that autoopt starts and does not drive: `run(make_optimizer, steps, seed, report)`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from autoopt.errors import UsageError, WorkloadError
from autoopt.optim.groups import NO_DECAY
from autoopt.records import Flags, Hyper, Settings, WorkloadReport
from autoopt.workload import settings
from autoopt.workload.boundary import UserCode
from autoopt.workload.carried import Carried
from autoopt.workload.context import declares
from autoopt.workload.guard import Guard
from autoopt.workload.loading import Project
from autoopt.workload.maker import Maker, Told, number
from autoopt.workload.places import defined
from autoopt.workload.seeding import derive, seed_everything

ARGUMENTS = ("make_optimizer", "steps", "seed", "report")
PROGRAM = "tune"
"""The target of a loop that lives in a running program, not in a file."""
LOSS = "loss"
"""The metric's name that says: a loss to minimise, of which a tenth is as good an improvement anywhere."""
_CONSTANTS = ("STEPS", "SCHEDULE", "WARMUP", "METRIC", "CLOSURE", "PAIRED")
_NOT_OURS = ("accumulate", "clip", "precision")


@dataclass
class OwnLoop:
    """The user's `run`, and what is known of it.

    Args:
        target: what the user named; `PROGRAM` where it was handed over in Python.
        label: what errors call it.
        run: the user's function.
        metric: (name, "min" or "max") of what it returns.
        settings: of the real run.
        code: the border to the user's code.
        device: where trials should run; a `run` that declares `ctx` is told.
        configure: the user's present optimizer over what `make_optimizer` is given.
        closure: whether `run` hands a closure to `step()`, as second-order optimizers need.
        paired: whether the user says that trials of one seed see the same data.
        project: the imported file, taken out of the process by `close`.
        guard: puts the user's objects back at `close`.
    """

    target: str
    label: str
    run: Callable[..., Any]
    metric: tuple[str, Literal["min", "max"]]
    settings: Settings
    code: UserCode
    device: torch.device
    configure: Callable[..., Any] | None = None
    closure: bool = False
    paired: bool = False
    project: Project | None = None
    guard: Guard | None = None

    kind: Literal["own loop"] = "own loop"
    _carried: Carried = field(default_factory=Carried)

    @property
    def by_loss(self) -> bool:
        """Whether what it returns is compared as a loss."""
        return self.metric == (LOSS, "min")

    @property
    def where(self) -> str:
        """The function and its line."""
        return defined(self.run)

    def maker(
        self,
        optimizer: str,
        hyper: Hyper,
        steps: int,
        *,
        seed: int = 0,
        tell: Callable[[Told], None] | None = None,
        no_decay: list[str] | None = None,
        still: bool = False,
    ) -> Maker:
        """What `run` is handed for a run of `steps` steps under a seed."""
        return Maker(
            optimizer,
            hyper,
            steps=steps,
            schedule=self.settings.schedule,
            warmup=self.settings.warmup,
            no_decay=list(NO_DECAY) if no_decay is None else no_decay,
            configure=self.configure,
            real_steps=self.settings.steps,
            label=self.label,
            still=still,
            tell=tell,
            given=lambda groups: self._carried.check(groups, seed, self.where),
        )

    def train(self, maker: Maker, seed: int, *, is_trial: bool = True) -> float:
        """Runs the user's loop to its end, every global generator seeded before it; returns what it returns.

        Raises:
            UserCodeError: it raised.
            WorkloadError: it did not train as it was asked to, or returned no number.
        """
        self.code.context = replace(
            self.code.context,
            total_steps=maker.steps,
            real_steps=self.settings.steps,
            seed=seed,
            device=str(self.device),
            is_trial=is_trial,
            rank=0 if is_trial else int(os.environ.get("RANK", "0")),
            world_size=1 if is_trial else int(os.environ.get("WORLD_SIZE", "1")),
        )
        seed_everything(derive(seed, "train"))
        returned = self.code("run()", self.run, maker, maker.steps, seed, maker.report)
        maker.check(self.where)
        return self._value(returned)

    def _value(self, returned: Any) -> float:
        name = self.metric[0]
        if isinstance(returned, Mapping):
            if name not in returned:
                raise WorkloadError(
                    f"{self.where} returned {', '.join(map(str, returned)) or 'an empty dictionary'}, and no {name!r}.",
                    f"Return the value of {name!r}, or name another METRIC (metric= in Python).",
                )
            returned = returned[name]
        if returned is None:
            raise WorkloadError(
                f"{self.where} returned None.",
                f"Return the {name} to compare, measured at the end of the run.",
            )
        value = number(returned)
        if value is None:
            raise WorkloadError(
                f"{self.where} returned a {type(returned).__name__}, not a number.",
                f"Return the {name} to compare, measured at the end of the run.",
            )
        return value

    def report(self, *, quick: bool = False, timing_seconds: float | None = None) -> WorkloadReport:  # noqa: ARG002
        """Everything that is to be known before trials: two short runs of the loop that train nothing.

        Args:
            quick: one run.
            timing_seconds: not used; optimizers are not timed beside the user's loop.
        """
        from autoopt.workload.loop_report import make

        return make(self, quick=quick)

    def close(self) -> None:
        """Leaves this process as it was."""
        if self.guard is not None:
            self.guard.restore()
        if self.project is not None:
            self.project.undo()


def is_one(source: Any) -> bool:
    """Whether an imported file (or what its function returned) has a loop of its own, and no model for ours."""
    run = _get(source, "run")
    if not callable(run) or isinstance(source, torch.nn.Module):
        return False
    if any(_get(source, name) is not None for name in ("build_model", "train_dataloader")):
        return False
    return _first(run) == ARGUMENTS[0] or _takes_four(run)


def read(project: Project, flags: Flags, device: str, guard: Guard) -> OwnLoop:
    """The loop in an imported file.

    Raises:
        WorkloadError: a constant or the function cannot be used.
        UsageError: a flag that is of no meaning for it.
    """
    source, label = project.source, project.label
    found = {name: _get(source, name) for name in _CONSTANTS if _get(source, name) is not None}
    return make(
        _get(source, "run"),
        constants=found,
        flags=flags,
        target=project.target,
        label=label,
        code=project.code,
        device=device,
        configure=_get(source, "configure_optimizers"),
        project=project,
        guard=guard,
    )


def make(
    run: Any,
    *,
    constants: Mapping[str, Any],
    flags: Flags,
    target: str = PROGRAM,
    label: str = "tune()",
    code: UserCode | None = None,
    device: str = "cpu",
    configure: Callable[..., Any] | None = None,
    project: Project | None = None,
    guard: Guard | None = None,
) -> OwnLoop:
    """A loop from its function and constants (STEPS, SCHEDULE, WARMUP, METRIC, CLOSURE, PAIRED).

    Raises:
        WorkloadError: one of them cannot be used.
        UsageError: a flag that is of no meaning for it.
    """
    if not callable(run):
        raise WorkloadError(f"{label}: run is a {type(run).__name__}, not a function.", _signature())
    if not _takes_four(run):
        raise WorkloadError(f"{defined(run)} does not take four arguments.", _signature())
    for name in _NOT_OURS:
        if getattr(flags, name) is not None:
            raise UsageError(
                f"{name} is the training loop's, and {label} brings its own.", "Set it in your run()."
            )
    if flags.checkpoint is not None:
        raise UsageError(
            "Only your run() could load a checkpoint.", "Load it there, and give the steps that remain."
        )
    if flags.epochs is not None:
        raise UsageError("Only your run() knows what an epoch is.", "Give the length in steps.")
    metric = constants.get("METRIC") or (LOSS, "min")
    kept = {name: value for name, value in constants.items() if name in ("STEPS", "SCHEDULE", "WARMUP")}
    resolved = settings.resolve(
        {**kept, "METRIC": metric},
        flags,
        label=label,
        batches_per_epoch=None,
        own_schedule=kept.get("SCHEDULE") == "yours" and configure is not None,
    )
    assert resolved.metric is not None
    return OwnLoop(
        target=target,
        label=label,
        run=run,
        metric=resolved.metric,
        # A loss is compared by ratios, as in our own loop; every other metric as the metric that it is.
        settings=resolved.model_copy(update={"metric": None})
        if resolved.metric == (LOSS, "min")
        else resolved,
        code=code or UserCode(Path.cwd()),
        device=torch.device(device),
        configure=configure,
        closure=bool(constants.get("CLOSURE", False)),
        paired=bool(constants.get("PAIRED", False)),
        project=project,
        guard=guard,
    )


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)


def _signature() -> str:
    return f"Write def run({', '.join(ARGUMENTS)})."


def _first(run: Callable[..., Any]) -> str | None:
    try:
        return next(iter(inspect.signature(run).parameters), None)
    except (TypeError, ValueError):
        return None


def _takes_four(run: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(run)
        more = {"ctx": None} if declares(run, "ctx") else {}
        signature.bind(*ARGUMENTS, **more)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True
