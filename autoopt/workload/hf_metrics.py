"""What a Trainer's `compute_metrics` says of a validation: predictions are gathered as its own evaluation does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from autoopt.errors import WorkloadError


def named(trainer: Any) -> tuple[str, str] | None:
    """The metric that the trainer keeps its best model by, and its direction; None for the validation loss.

    Raises WorkloadError when nothing computes it.
    """
    name = getattr(trainer.args, "metric_for_best_model", None)
    name = None if name is None else str(name).removeprefix("eval_")
    if name is None or name == "loss":
        return None
    if trainer.compute_metrics is None:
        raise WorkloadError(
            f"metric_for_best_model names {name!r}, and the Trainer has no compute_metrics.",
            "Give it one that returns this metric, or leave metric_for_best_model out.",
        )
    up = trainer.args.greater_is_better
    return name, "max" if up or up is None else "min"


class Predictions:
    """Predictions and labels of the batches of one validation, and the metrics of all of them at its end."""

    def __init__(self, trainer: Any, name: str) -> None:
        self._trainer, self._name = trainer, name
        self._begin()

    def score(self, model: nn.Module, batch: Any, index: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch; what the model predicted is kept for the end.

        Raises WorkloadError: the batches have no labels, so that there is no loss.
        """
        trainer = self._trainer
        if index == 0:  # an evaluation that raised may have left something
            self._begin()
        loss, predicted, labels = trainer.prediction_step(model, batch, prediction_loss_only=False)
        if loss is None:
            raise WorkloadError(
                f"The validation batches lack the labels {', '.join(trainer.label_names)}.",
                "Give eval_dataset the columns of train_dataset, or correct label_names.",
            )
        self._add(predicted, labels, batch, loss)
        return loss, {}

    def end(self) -> dict[str, float]:
        """What compute_metrics returns.

        Raises WorkloadError when the metric that is compared is not in it.
        """
        if self._last is not None:
            metrics = self._compute(self._last, compute_result=True)
        else:
            metrics = self._computed()
        self._begin()
        values = {}
        for name, value in metrics.items():
            try:
                values[str(name).removeprefix("eval_")] = float(value)
            except (TypeError, ValueError):
                continue  # a list per class, say
        if self._name not in values:
            raise WorkloadError(
                f"metric_for_best_model names {self._name!r}, but compute_metrics returned "
                f"{', '.join(map(str, metrics)) or 'nothing'}.",
                "Correct metric_for_best_model, or add that value.",
            )
        return values

    def _begin(self) -> None:
        from transformers.trainer_pt_utils import EvalLoopContainer

        whole = self._trainer.args.eval_do_concat_batches
        self._kept = {
            name: EvalLoopContainer(whole, padding_index=-100)
            for name in ("predictions", "label_ids", "inputs", "losses")
        }
        self._last: dict[str, Any] | None = None

    def _add(self, predicted: Any, labels: Any, batch: Any, loss: Tensor) -> None:
        trainer, include = self._trainer, self._trainer.args.include_for_metrics
        if predicted is not None and trainer.preprocess_logits_for_metrics is not None:
            predicted = trainer.preprocess_logits_for_metrics(predicted, labels)
        found = {"predictions": predicted, "label_ids": labels}
        if "inputs" in include:
            found["inputs"] = batch[getattr(trainer.model, "main_input_name", "input_ids")]
        if "loss" in include:
            found["losses"] = loss.repeat(len(next(iter(batch.values()))))
        if trainer.args.batch_eval_metrics:
            if self._last is not None:
                self._compute(self._last, compute_result=False)
            self._last = found  # only the next batch, or the end, tells whether it was the last
            return
        for name, value in found.items():
            if value is not None:
                self._kept[name].add(value)
                self._kept[name].to_cpu_and_numpy()

    def _computed(self) -> Mapping[str, Any]:
        arrays = {name: kept.get_arrays() for name, kept in self._kept.items()}  # type: ignore[no-untyped-call]
        return self._compute({name: value for name, value in arrays.items() if value is not None})

    def _compute(self, found: dict[str, Any], **options: Any) -> Mapping[str, Any]:
        from transformers.trainer_utils import EvalPrediction, denumpify_detensorize

        if found.get("predictions") is None or found.get("label_ids") is None:
            return {}
        computed = self._trainer.compute_metrics(EvalPrediction(**found), **options)
        return denumpify_detensorize(computed) or {}  # type: ignore[no-untyped-call]
