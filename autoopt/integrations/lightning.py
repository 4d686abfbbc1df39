"""A Lightning callback that chooses the optimizer before a fit begins; the fit goes on with what was recommended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoopt import options
from autoopt.errors import UsageError
from autoopt.optim._curvature import CurvatureOptimizer
from autoopt.pipeline import choose
from autoopt.records import Recommendation
from autoopt.report import handover
from autoopt.training import second_order, set_mode
from autoopt.workload import baseline

try:
    from lightning.pytorch import Callback
except ImportError:
    from pytorch_lightning import Callback  # type: ignore[assignment]

_NAME = "autoopt"
_METHODS = ("configure_optimizers", "lr_scheduler_step", "backward")


class AutoOptimizer(Callback):
    """Chooses and tunes the optimizer of a `Trainer.fit`, before its first step.

    Trials run on a copy of the module, in Trainers of their own with this Trainer's callbacks, precision, clipping and
    accumulation. The module's own `configure_optimizers` is the baseline. The recommendation, with its report, is
    written to `default_root_dir/autoopt` and into each checkpoint; a fit that goes on from a checkpoint (`ckpt_path`)
    does not choose again.

    Args:
        budget: wall-clock of the choice, "90s", "10m" or seconds.
        metric: what is compared, a key that the module logs in validation: `("val_acc", "max")`. The validation loss
            unless given.
        policy, limit, optimizers, seed: as in `autoopt.choose`.
        progress: whether to show plan and progress on stderr.

    Raises:
        UsageError: in `fit`: several processes, a run without an end, or a checkpoint without a recommendation.

    Example:
        >>> trainer = Trainer(max_epochs=10, callbacks=[AutoOptimizer(budget="10m")])  # doctest: +SKIP
        >>> trainer.fit(module, datamodule)  # doctest: +SKIP
    """

    def __init__(
        self,
        budget: str | float = "10m",
        *,
        metric: tuple[str, str] | None = None,
        policy: str | Path = "balanced",
        limit: str | None = None,
        optimizers: Sequence[str] | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        self.recommendation: Recommendation | None = None
        """What was chosen; None before the fit."""
        self._options: dict[str, Any] = {
            "budget": budget,
            "metric": metric,
            "policy": policy,
            "limit": limit,
            "optimizers": optimizers,
            "seed": seed,
            "progress": progress,
        }
        self._optimizer: Any = None

    # --- Lightning's hooks ------------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Puts the choice in the place of the module's `configure_optimizers`, for this fit."""
        if stage != "fit":
            return
        if trainer.world_size > 1:
            raise UsageError(
                f"AutoOptimizer chooses in one process, and this fit has {trainer.world_size}.",
                "Choose before, with autoopt.choose or `autoopt profile`, and build the optimizer in "
                "configure_optimizers: Recommendation.load(...).build(self).",
            )
        if not pl_module.automatic_optimization:
            raise UsageError(
                f"{type(pl_module).__name__} sets automatic_optimization = False: it steps its optimizers itself.",
                "AutoOptimizer needs automatic optimization.",
            )
        theirs = pl_module.configure_optimizers
        pl_module.configure_optimizers = lambda: self._configure(trainer, pl_module, theirs)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Optimizers that keep two sets of weights are scored with the averaged ones."""
        if self._optimizer is not None:
            set_mode(self._optimizer, training=False)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """And go on with the others."""
        if self._optimizer is not None and trainer.state.fn == "fit":
            set_mode(self._optimizer, training=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Leaves the averaged weights, of optimizers that have them."""
        if self._optimizer is not None:
            set_mode(self._optimizer, training=False)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """The module has its own methods again."""
        self._give_back(pl_module)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        """The module has its own methods again."""
        if stage == "fit":
            self._give_back(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The recommendation, for the checkpoint."""
        return (
            {} if self.recommendation is None else {"recommendation": self.recommendation.model_dump_json()}
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The recommendation of a checkpoint."""
        if "recommendation" in state_dict:
            self.recommendation = Recommendation.model_validate_json(state_dict["recommendation"])

    # --- inside -----------------------------------------------------------------------------------------

    def _configure(self, trainer: Any, module: Any, theirs: Any) -> dict[str, Any]:
        """What `configure_optimizers` returns: chosen now, or as chosen before the checkpoint."""
        if self.recommendation is None:
            if trainer.ckpt_path is not None:
                raise UsageError(
                    f"The checkpoint {trainer.ckpt_path} holds no recommendation: it was written without AutoOptimizer.",
                    "Leave AutoOptimizer out to go on as before, or ckpt_path to begin anew.",
                )
            self.recommendation = self._choose(trainer, module, theirs)
        return self._build(self.recommendation, trainer, module, theirs)

    def _choose(self, trainer: Any, module: Any, theirs: Any) -> Recommendation:
        steps = trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise UsageError(
                "This fit has no end, and a schedule needs one.", "Give the Trainer max_epochs or max_steps."
            )
        replaced = module.configure_optimizers
        module.configure_optimizers = theirs  # of the copy that is trained
        try:
            return choose(
                module,
                self._data(trainer),
                trainer=trainer,
                steps=int(steps),
                device=str(trainer.strategy.root_device),
                out=Path(trainer.default_root_dir) / _NAME,
                **self._options,
            )
        finally:
            module.configure_optimizers = replaced

    @staticmethod
    def _data(trainer: Any) -> Any:
        """The data module of the fit, or its loaders."""
        if trainer.datamodule is not None:
            return trainer.datamodule
        trainer.fit_loop.setup_data()
        validation = trainer.fit_loop.epoch_loop.val_loop
        validation.setup_data()
        loaders = trainer.val_dataloaders
        return trainer.train_dataloader, loaders[0] if isinstance(loaders, list) else loaders

    def _build(self, rec: Recommendation, trainer: Any, module: Any, theirs: Any) -> dict[str, Any]:
        steps = rec.recommendation.steps
        optimizer, scheduler = handover.build(rec, module, _baseline(module, theirs, steps, trainer))
        settings = options.applied(rec.recommendation.hyper, rec.settings)
        trainer.gradient_clip_val = settings.clip
        module.lr_scheduler_step = lambda scheduler, *_: scheduler.step()
        if isinstance(optimizer, CurvatureOptimizer):
            curved = optimizer
            second_order(curved, module, settings.clip, None)  # it clips by itself
            trainer.gradient_clip_val = None

            def backward(loss: Any, *_: Any, **__: Any) -> None:
                with curved.graph_context():
                    loss.backward(create_graph=curved.create_graph)

            module.backward = backward
        self._optimizer = optimizer
        set_mode(optimizer, training=True)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _give_back(self, module: Any) -> None:
        for name in _METHODS:
            vars(module).pop(name, None)
        self._optimizer = None


def _baseline(module: Any, theirs: Any, steps: int, trainer: Any) -> baseline.UserOptimizer:
    """The optimizer that the module's own `configure_optimizers` gives."""
    returned = theirs()
    if returned is None:
        return baseline.default(module)
    optimizer, scheduler, choices = baseline.parse(returned, label=type(module).__name__, epoch_interval=True)
    per_epoch = trainer.num_training_batches
    known = None if per_epoch == float("inf") else per_epoch / trainer.accumulate_grad_batches
    return baseline.describe(optimizer, scheduler, choices, steps=steps, steps_per_epoch=known)
