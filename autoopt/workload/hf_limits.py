"""What of a Trainer a trial cannot do: refused by its name, or told as a note."""

from __future__ import annotations

from typing import Any

from autoopt.errors import WorkloadError
from autoopt.workload.hf_optimizer import own_methods

_IN_BACKWARD = ("lomo", "adalomo", "layerwise")
_NOT_CALLED = frozenset({"train", "training_step", "evaluate", "evaluation_loop", "_inner_training_loop"})


def refuse(trainer: Any, label: str) -> None:
    """Raises WorkloadError for what would make a trial another training than the Trainer's."""
    args = trainer.args
    found: tuple[str, str] | None = None
    if getattr(trainer, "is_deepspeed_enabled", False):
        found = "DeepSpeed", "its engine owns the optimizer"
    elif getattr(trainer, "is_fsdp_enabled", False) or getattr(args, "fsdp", None):
        found = "FSDP", "the model is sharded over processes"
    elif getattr(args, "world_size", 1) > 1:
        found = f"{args.world_size} processes", "a trial runs in one"
    elif getattr(args, "parallelism_config", None) is not None:
        found = "parallelism_config", "a trial runs on one device"
    if found is not None:
        raise WorkloadError(
            f"{label} uses {found[0]}: {found[1]}.",
            "Profile the same Trainer on one device; the rate is for the whole batch of a step, so set "
            "gradient_accumulation_steps to what the processes did together.",
        )
    if args.n_gpu > 1:
        raise WorkloadError(
            f"{label} would spread each batch over {args.n_gpu} GPUs (DataParallel): a trial has one device.",
            "Set CUDA_VISIBLE_DEVICES to one GPU, and per_device_train_batch_size to the whole batch.",
        )
    optim = str(getattr(args.optim, "value", args.optim))
    if trainer.optimizer is None and optim.endswith(_IN_BACKWARD):
        raise WorkloadError(
            f"{label} has optim={optim!r}, which steps during the backward pass and has no step of its own.",
            "Name another optim: trials compare optimizers that step after the backward pass.",
        )
    if trainer.train_dataset is None and "get_train_dataloader" not in own_methods(trainer):
        raise WorkloadError(f"{label} has no train_dataset.", "Give it the one that it is to train on.")


def notes(trainer: Any) -> list[str]:
    """What is not done in trials, in words."""
    args = trainer.args
    told = []
    missing = sorted(_NOT_CALLED.intersection(own_methods(trainer)))
    if missing:
        told.append(
            f"{type(trainer).__name__} overrides {', '.join(missing)}, which trials do not call: they use its loaders, "
            "compute_loss, prediction_step, create_optimizer and create_scheduler."
        )
    callbacks = [
        type(c).__name__
        for c in trainer.callback_handler.callbacks
        if not type(c).__module__.startswith("transformers.")
    ]
    if callbacks:
        told.append(f"Callbacks are not called in trials: {', '.join(callbacks)}.")
    for name, what in (
        ("torch_compile", "trials run the model as it is"),
        ("use_liger_kernel", "its kernels are not put into the model, so steps take longer than they will"),
        ("auto_find_batch_size", "trials take per_device_train_batch_size"),
        ("fp16_full_eval", "validation runs in the precision of the training"),
        ("bf16_full_eval", "validation runs in the precision of the training"),
    ):
        if getattr(args, name, False):
            told.append(f"{name} is not applied in trials: {what}.")
    if trainer.state.global_step > 0:
        told.append(
            f"The Trainer has taken {trainer.state.global_step} steps already: trials start from the weights that it has "
            "now."
        )
    if trainer.compute_metrics is not None and args.metric_for_best_model is None:
        told.append(
            "compute_metrics is not compared: the validation loss is. Set metric_for_best_model to compare one of its "
            "metrics."
        )
    return told
