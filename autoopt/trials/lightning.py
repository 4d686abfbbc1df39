"""The training loop of a LightningModule's trial: Lightning's own, told step by step like `autoopt.training.train`.

`Trainer.fit` blocks until it ends; by `in_turns` it is halted at the end of each optimizer step. The batches are ours,
so that trials are paired, and so are the optimizer and its schedule. All else is Lightning's and the user's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from autoopt.errors import WorkloadError
from autoopt.optim._curvature import CurvatureOptimizer
from autoopt.timing import Stopwatch
from autoopt.training import Around, StepReport, second_order, set_mode
from autoopt.trials.turns import in_turns
from autoopt.workload.lightning import Run
from autoopt.workload.trainer import Handlers, quiet

if TYPE_CHECKING:
    from autoopt.records import Settings
    from autoopt.workload import Workload


def train(
    model: nn.Module,
    workload: Workload,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Any],
    *,
    steps: int,
    multiplier: Callable[[int], float],
    settings: Settings | None = None,
    around: Around | None = None,
    stopwatch: Stopwatch | None = None,
) -> Generator[StepReport, None, None]:
    """As `autoopt.training.train`, in a Trainer.

    Raises:
        WorkloadError: the Trainer ended before the last step.
    """
    adapter, settings = workload.contract.lightning, settings or workload.settings
    assert adapter is not None
    curved = optimizer if isinstance(optimizer, CurvatureOptimizer) else None
    if curved is not None:
        second_order(curved, model, settings.clip, None)  # it clips by itself
    set_mode(optimizer, training=True)
    hooks = _Hooks(workload, model, optimizer, steps, around, stopwatch)
    optimizer.register_step_post_hook(hooks.stepped)
    run = Run(
        steps=steps,
        settings=settings,
        clip=None if curved is not None else settings.clip,
        device=workload.device,
        configured={
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, multiplier), "interval": "step"},
        },
        hooks=hooks,
        step=_step_of(workload, model),
        backward=None if curved is None else _backward(curved),
    )
    length = adapter.given.length(workload.train_source.length)
    loader = _Endless(batches, hooks) if length is None else _Epochs(batches, hooks, length)

    def fit(report: Callable[[StepReport], None]) -> None:
        hooks.report = report
        with workload.code.running("Trainer.fit()"):
            adapter.fit(model, loader, run)

    done = 0
    with quiet():
        for report in in_turns(fit):
            done = report.step
            yield report
    if done < steps:
        raise WorkloadError(
            f"Trainer.fit() ended after {done} of {steps} steps: a callback or a hook has stopped it.",
            "A trial runs its whole schedule: leave out what sets trainer.should_stop, or returns -1 from "
            "on_train_batch_start.",
        )


class _Endless:
    """The stream of batches as a loader of one long epoch."""

    def __init__(self, batches: Iterator[Any], hooks: _Hooks) -> None:
        self._batches, self._hooks = batches, hooks

    def __iter__(self) -> Iterator[Any]:
        while True:
            self._hooks.asks()
            batch = next(self._batches)
            self._hooks.has()
            yield batch


class _Epochs(_Endless):
    """The stream of batches as a loader that has a length. (Lightning asks for a length by calling.)"""

    def __init__(self, batches: Iterator[Any], hooks: _Hooks, length: int) -> None:
        super().__init__(batches, hooks)
        self._length = length

    def __iter__(self) -> Iterator[Any]:
        return islice(super().__iter__(), self._length)

    def __len__(self) -> int:
        return self._length


class _Hooks:
    """Methods of a Callback that tell where a step is: loss, times, memory."""

    def __init__(
        self,
        workload: Workload,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        steps: int,
        around: Around | None,
        stopwatch: Stopwatch | None,
    ) -> None:
        self.report: Callable[[StepReport], None] = _nobody
        self._workload, self._model = workload, model
        self._curved = optimizer if isinstance(optimizer, CurvatureOptimizer) else None
        self._steps, self._around, self._watch = steps, around, stopwatch
        self._handlers = Handlers()
        self._step = 0
        self._begin: float | None = None
        self._asked = self._data = 0.0
        self._losses: list[float] = []
        self._last: float | None = None
        self._open = ExitStack()
        """What surrounds forward and backward: the measurement of memory."""
        self._graph = ExitStack()

    # --- of the loader ---

    def asks(self) -> None:
        """A batch is wanted."""
        if self._begin is None:
            self._begins()
        self._mark("other")
        self._asked = time.perf_counter()

    def has(self) -> None:
        """The batch is there."""
        self._data += time.perf_counter() - self._asked
        self._mark("data")

    # --- of Lightning ---

    def on_train_start(self, *_: Any) -> None:
        self._handlers.restore()  # the process has its own ways with SIGTERM

    def on_train_batch_start(self, *_: Any) -> None:
        if self._around is not None and not self._losses:
            self._open.enter_context(self._around(self._step))
        if self._curved is not None:
            self._graph.enter_context(self._curved.graph_context())

    def on_before_backward(self, *_: Any) -> None:
        self._mark("inside" if self._curved else "forward")

    def on_after_backward(self, *_: Any) -> None:
        self._mark("inside" if self._curved else "backward")

    def on_before_optimizer_step(self, *_: Any) -> None:
        if self._curved is None:
            self._open.close()

    def stepped(self, *_: Any) -> None:
        """The optimizer has stepped."""
        self._mark("inside" if self._curved else "optimizer")

    def on_train_batch_end(self, trainer: Any, _module: Any, outputs: Any, *_: Any) -> None:
        self._graph.close()
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            self._losses.append(float(loss.detach()))
        if trainer.global_step == self._step:
            return
        self._open.close()
        self._step += 1
        self._workload.after_step(self._model)
        self._mark("other")
        self._last = sum(self._losses) if self._losses else self._last
        if self._last is None:
            raise WorkloadError("training_step() returned None.", "Return the loss as a scalar tensor.")
        assert self._begin is not None
        seconds = time.perf_counter() - self._begin - self._data
        self._losses = []
        self.report(StepReport(self._step, self._last, seconds, self._data))
        if self._step < self._steps:
            self._begins()

    def on_exception(self, *_: Any) -> None:
        self._open.close()
        self._graph.close()

    # --- inside ---

    def _begins(self) -> None:
        self._begin, self._data = time.perf_counter(), 0.0
        if self._watch is not None:
            self._watch.begin(self._step)

    def _mark(self, part: str) -> None:
        if self._watch is not None:
            self._watch.mark(part)


def _nobody(report: StepReport) -> None:
    """Nobody is told before the training begins."""


def _step_of(workload: Workload, model: nn.Module) -> Callable[..., Any] | None:
    """The `loss` that stands beside the module in the file, as a training_step; None without one."""
    adapter = workload.contract.lightning
    if adapter is None or workload.contract.loss == adapter.loss:
        return None

    def training_step(batch: Any, batch_idx: int) -> Tensor:  # noqa: ARG001  # Lightning looks for this name
        return workload.loss(model, batch)

    return training_step


def _backward(optimizer: CurvatureOptimizer) -> Callable[..., None]:
    """The backward that keeps its graph where the optimizer asks for it."""

    def backward(loss: Tensor, *_: Any, **__: Any) -> None:
        loss.backward(create_graph=optimizer.create_graph)  # type: ignore[no-untyped-call]

    return backward
