"""The WorkloadReport: what is known of a workload before any trial."""

from __future__ import annotations

import hashlib
import math
import platform
import sys
import time
from collections import Counter
from importlib import metadata
from typing import TYPE_CHECKING

import torch
from torch import nn

from autoopt.errors import WorkloadError
from autoopt.optim import groups
from autoopt.optim._difference import is_compiled
from autoopt.records import StartedFrom, WorkloadReport
from autoopt.workload import costs, probes, sharded, tokens
from autoopt.workload.calibrate import Calibration, calibrate, synchronize, timed
from autoopt.workload.data import describe, samples

if TYPE_CHECKING:
    from autoopt.workload.loading import Project
    from autoopt.workload.workload import Workload

_SEED = 0
_EVAL_SECONDS = 2.0
_PACKAGES = ("autoopt", "torch", "numpy", "lightning", "pytorch-lightning", "transformers")


def make(workload: Workload, *, quick: bool = False, timing_seconds: float = costs.SECONDS) -> WorkloadReport:
    """Runs calibration steps and probes, and leaves the workload ready for its first `start`.

    Args:
        quick: fewer steps, and the optimizers are not timed.
        timing_seconds: that timing the optimizers may take.

    Raises:
        WorkloadError: the first loss is not finite, or something of the contract is unusable.
    """
    seconds = workload.seconds
    with timed(seconds, "check"):
        model = workload.start(_SEED, workload.settings.steps)
    user = workload.baseline(model)
    if workload.checkpoint is not None:
        user = workload.keep(
            model
        )  # whose rate is that of now; and a state that does not fit is told before trials
    with timed(seconds, "calibrate"):
        calibration = calibrate(workload, model, _SEED, quick=quick)
    if not math.isfinite(calibration.first_loss):
        raise WorkloadError(
            f"The loss of the first batch is {calibration.first_loss} before any training.",
            "Look for a division by zero or a logarithm of zero in loss(), or for NaN in the data.",
        )
    seconds["first_step"] = calibration.first_step
    model = workload.fresh(_SEED, workload.settings.steps)
    with timed(seconds, "validation"):
        initial, eval_batch = _evaluate(workload, model, calibration)
    with timed(seconds, "probes"):
        repeats = probes.data_repeats(workload, _SEED)
        unavailable = probes.unavailable(workload, model, calibration.batch, calibration.sparse)
        if workload.group.parallel == "fully_shard":
            unavailable |= sharded.unavailable(workload, model, calibration.batch, unavailable)
            model = workload.fresh(_SEED, workload.settings.steps)
    number, counted = tokens.count(calibration.batch, calibration.looked)
    step_costs = None
    if not quick:
        with timed(seconds, "optimizers"):
            step_costs = costs.measure(
                workload,
                model,
                calibration.batch,
                tokens=number,
                unavailable=unavailable,
                seconds=timing_seconds,
            )
    _warn(workload, model, calibration, repeats)
    if not user.given and "adamw" in unavailable:
        workload.note(
            f"AdamW, the baseline of those who have none, cannot be used ({unavailable['adamw']}): there is nothing to "
            "compare with. Write configure_optimizers(model) that returns what you use today."
        )
    split = groups.split(model, user=user.optimizer if user.given else None)
    report = WorkloadReport(
        target=workload.target,
        kind=workload.kind,
        settings=workload.settings,
        baseline=user.record(),
        device=str(workload.device),
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        dtypes=dict(_dtypes(model)),
        layers=dict(Counter(type(m).__name__ for m in model.modules() if _is_leaf(m))),
        groups=groups.records(split),
        frozen=workload.frozen,
        batch=describe(calibration.batch),
        samples_per_batch=samples(calibration.batch),
        batches_per_epoch=workload.train_source.length,
        validation=workload.validation,
        validation_batches=None if workload.validation == "prequential" else len(workload.held),
        first_loss=calibration.first_loss,
        initial_loss=initial,
        restore=workload.restore or "in_place",
        reproducible_data=repeats,
        checkpoint=_started_from(workload),
        unavailable=unavailable,
        warnings=workload.notes,
        modules=digests(workload),
        seconds={name: round(value, 6) for name, value in seconds.items()},
        step_seconds=calibration.step,
        relative_step_seconds={c.optimizer: c.reliable for c in step_costs.optimizers} if step_costs else {},
        step_costs=step_costs,
        tokens_per_batch=number,
        tokens=counted,
        data_seconds=calibration.data,
        gradient_norms=[float(f"{norm:.4g}") for norm in calibration.norms if math.isfinite(norm)],
        eval_batch_seconds=eval_batch,
        threads=torch.get_num_threads(),
        processes=workload.group.size,
        averaged_by=workload.group.averaged_by,
        versions=versions(),
    )
    workload.fresh(_SEED, workload.settings.steps)
    return report


def _anew(workload: Workload, model: nn.Module) -> str:
    """What of a checkpoint a Trainer would take up again beside weights, optimizer and schedule, and trials do not."""
    if workload.contract.lightning is not None:
        hook = getattr(type(model), "on_load_checkpoint", None)
        more = (
            ", and on_load_checkpoint() is not called"
            if hook is not None and not hook.__module__.startswith(("lightning.", "pytorch_lightning."))
            else ""
        )
        return f"Trials count steps and epochs from the checkpoint on, callbacks begin anew{more}."
    return ""


def _evaluate(workload: Workload, model: nn.Module, calibration: Calibration) -> tuple[float, float]:
    """(validation loss before training, seconds per validation batch)."""
    if workload.validation == "prequential":
        return calibration.first_loss, 0.0
    total = len(workload.held)
    workload.evaluate(model, 1)  # warms up
    begin = time.perf_counter()
    score = workload.evaluate(model, 1)
    synchronize(workload.device)
    one = workload.group.most(time.perf_counter() - begin)
    count = max(1, min(total, int(_EVAL_SECONDS / max(one, 1e-9))))
    if count > 1:
        begin = time.perf_counter()
        score = workload.evaluate(model, count)
        synchronize(workload.device)
        one = workload.group.most(time.perf_counter() - begin) / count
    if math.isnan(score.loss) and workload.settings.metric is None:
        raise WorkloadError(
            "The validation loss is nan before any training, while that of the first training batch is "
            f"{calibration.first_loss:.4g}: no trial could be scored.",
            "Look for NaN in the validation data, and for what loss() does differently in eval mode.",
        )
    initial = score.loss if math.isfinite(score.loss) else calibration.first_loss
    return initial, one


def _warn(workload: Workload, model: nn.Module, calibration: Calibration, repeats: bool) -> None:
    workload.note(probes.half_weights(model))
    if workload.checkpoint is not None and workload.checkpoint.step is None:
        workload.note(
            f"{workload.checkpoint.source} does not say of which step it is: all {workload.settings.steps} steps are taken "
            "to remain."
        )
    if workload.checkpoint is not None and workload.checkpoint.optimizer is None:
        workload.note(
            f"{workload.checkpoint.source} holds no optimizer's state, so your own optimizer starts anew too, at the rate "
            "of that step."
        )
    if workload.checkpoint is not None:
        workload.note(_anew(workload, model))
    if is_compiled(model):
        workload.note(
            "The model is compiled, so its loss cannot be differentiated twice: second-order optimizers (AdaHessian) take "
            "the curvature by differences of gradients."
        )
    if not repeats:
        workload.note(
            "The training data is not reproducible: the same seed gives different batches, so that optimizers are "
            "compared on different data and small differences cannot be seen. Draw from torch, numpy or random."
        )
    if calibration.outside:
        shapes = ", ".join(str(list(t.shape)) for t in calibration.outside[:3])
        more = "" if len(calibration.outside) <= 3 else " and more"
        workload.note(
            f"The loss sends gradients to {len(calibration.outside)} tensors outside model.parameters() "
            f"({shapes}{more}): no optimizer trains them. Register them in the model."
        )
    if calibration.autocasts and workload.precision != "fp32":
        workload.note(
            f"loss() enters autocast itself while PRECISION is {workload.precision}: the precision is set twice. "
            "Leave it to one of the two."
        )
    elif calibration.autocasts:
        workload.note(
            "loss() enters autocast itself and PRECISION is fp32: evaluation and gradient scaling do not know of "
            'it. Prefer PRECISION = "bf16".'
        )
    if samples(calibration.batch) is None:
        workload.note(
            "A batch holds no tensor: nothing of it is moved to the device, nor are its samples counted."
        )
    if workload.contract.evaluate is not None and workload.metric is None:
        workload.note(
            "There is evaluate() and no METRIC: the mean validation loss is compared. "
            'Set METRIC = ("name", "max") or ("name", "min") to compare what evaluate() returns.'
        )
    if workload.precision == "fp16" and workload.device.type == "cpu":
        workload.note("fp16 on a CPU is slow and says little of a GPU; bf16 is the usual choice.")


def _is_leaf(module: nn.Module) -> bool:
    """Whether it has no parts. Asked of the parts' number: whether one is true asks for its length."""
    return not list(module.children())


def _dtypes(model: nn.Module) -> Counter[str]:
    found: Counter[str] = Counter()
    for parameter in model.parameters():
        found[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
    return found


def _started_from(workload: Workload) -> StartedFrom | None:
    saved = workload.checkpoint
    if saved is None:
        return None
    return StartedFrom(
        source=saved.source,
        step=saved.done,
        whole=workload.settings.steps + saved.done,
        optimizer=saved.optimizer is not None,
        digest=saved.digest,
    )


def digests(workload: Workload) -> dict[str, str]:
    """File of the user's project, relative to its folder -> sha256 of what was imported from it."""
    return digests_of(workload.project)


def digests_of(project: Project | None) -> dict[str, str]:
    """The same of a project; nothing of objects of this process."""
    if project is None:
        return {}
    root = project.code.root
    found = {}
    for file in project.modules().values():
        path = file.resolve()
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return dict(sorted(found.items()))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a training depends on, of those that are loaded."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in _PACKAGES:
        if name.replace("-", "_") in sys.modules and name not in found:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:  # run from a checkout
                continue
    return found
