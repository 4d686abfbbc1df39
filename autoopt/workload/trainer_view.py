"""What stands where a LightningModule expects its Trainer: the place in the run, and a receiver of logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from autoopt.workload.context import Context


class TrainerView:
    """What a LightningModule may read of `self.trainer` here: the length and place of the run."""

    is_global_zero = True
    sanity_checking = fast_dev_run = barebones = False
    global_rank = local_rank = node_rank = 0
    world_size = num_devices = num_nodes = 1
    logger = None
    accumulate_grad_batches = 1

    def __init__(self, context: Callable[[], Context], per_epoch: int | None, datamodule: Any) -> None:
        self._context, self.datamodule = context, datamodule
        self.loggers: list[Any] = []
        self.callbacks: list[Any] = []
        self.num_training_batches = per_epoch if per_epoch is not None else float("inf")

    @property
    def global_step(self) -> int:
        return self._context().step

    @property
    def max_steps(self) -> int:
        return self._context().total_steps

    estimated_stepping_batches = max_steps

    @property
    def max_epochs(self) -> int:
        return max(1, round(self.max_steps / self.num_training_batches))

    @property
    def current_epoch(self) -> int:
        return int(self.global_step / self.num_training_batches)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"trainer.{name}: autoopt runs the module without a Trainer")


class Recorder:
    """Receives `self.log`: discards in training, collects during an evaluation."""

    def __init__(self) -> None:
        self._values: dict[str, float] | None = None
        self._metrics: dict[str, Any] = {}

    @contextmanager
    def recording(self, values: dict[str, float]) -> Iterator[None]:
        self._values = values
        try:
            yield
        finally:
            self._values = None

    def log(self, name: str, value: Any, *_: Any, **__: Any) -> None:
        if self._values is None:
            return
        if hasattr(value, "compute"):
            self._metrics[name] = value
        else:
            self._values[name] = float(value)

    def log_dict(self, dictionary: Any, *_: Any, **__: Any) -> None:
        for name, value in dictionary.items():
            self.log(name, value)

    def finish(self) -> dict[str, float]:
        values = {name: float(metric.compute()) for name, metric in self._metrics.items()}
        for metric in self._metrics.values():
            metric.reset()
        self._metrics = {}
        return values
