"""From a model to a recommendation: `profile()` for a file, `choose()` for objects."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt import policy as policies
from autoopt.errors import UsageError
from autoopt.job import Job, default_out, make_job
from autoopt.records import Cluster, Flags, Recommendation
from autoopt.sitting import run_job
from autoopt.units import parse_duration
from autoopt.workers import TIMING_SHARE

if TYPE_CHECKING:
    from torch import nn
    from transformers import Trainer


def profile(
    target: str | Path,
    *,
    steps: int | None = None,
    epochs: float | None = None,
    budget: str | float | None = None,
    policy: str | Path | None = None,
    limit: str | None = None,
    optimizers: Sequence[str] | None = None,
    device: str | None = None,
    workers: int | None = None,
    nproc: int | None = None,
    cluster: str | Cluster | None = None,
    precision: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    prior: str | Path | Sequence[str | Path] = (),
    checkpoint: str | Path | None = None,
    args: Sequence[str] = (),
    progress: bool = True,
    **flags: Any,
) -> Recommendation:
    """Chooses and tunes the optimizer for a model file; writes four files into `out`.

    Args:
        target: a file in the contract of `model.py`, or "package.module:function".
        steps: optimizer steps of the real run; else `epochs`, else the file's STEPS, else 1000.
        budget: wall-clock of everything, "90s", "5m" (the default), "1h30m" or seconds.
        policy: name of a shipped policy ("balanced" unless given), or a file.
        limit: what an optimizer may cost, over the policy's own limits: "memory=20GB,step_time=0.2s"; "step_time=2x" is
            relative to AdamW's. What costs more is not recommended.
        optimizers: registry names to compare; the policy's candidates unless given.
        device: "auto", "cpu", "cuda:0", or several: "cuda:0,cuda:1".
        workers: trials at once; as many as cores and memory allow unless given.
        nproc: processes that train each model together, each on a device of its own, as under torchrun: for a model that
            needs several devices. See docs/several_devices.md.
        cluster: run the trials on a Ray cluster: "auto", HOST:PORT or ray://HOST:PORT, or a `Cluster` with more.
        out: folder; `autoopt-out/<name>` unless given.
        resume: go on with the run in `out`; what is not given here is what that run was started with.
        prior: folder of an earlier run, or several: of this model, or of a sibling of another size or with other data.
            Its trials inform the belief; what is recommended is still trained here. Not with a run that compared by
            another metric.
        checkpoint: a half-trained net, with its optimizer's state: whether to go on as it is, or to change now. `steps`
            is then the whole run, and what remains is tuned.
        args: handed to the function of a "package.module:function" target.
        progress: whether to show plan and progress on stderr.
        flags: accumulate or global_batch, clip, schedule, warmup: see `records.Flags`.

    Returns:
        The recommendation, which is also in `out`/recommendation.yaml.

    Raises:
        UsageError, WorkloadError, RunError, NoResult, WorkerError: see `autoopt.errors`.

    Example:
        >>> rec = autoopt.profile("examples/digits_mlp/model.py", budget="60s")  # doctest: +SKIP
        >>> optimizer, scheduler = rec.build(model)  # doctest: +SKIP
    """
    from autoopt.report import console

    job = make_job(
        str(target),
        out=Path(out) if out is not None else default_out(str(target)),
        resume=resume,
        budget=budget,
        policy=policy,
        limit=limit,
        flags=Flags(
            steps=steps,
            epochs=epochs,
            precision=precision,
            nproc=nproc,
            checkpoint=None if checkpoint is None else str(checkpoint),
            **flags,
        ),
        arguments=args,
        optimizers=optimizers,
        seed=seed,
        device=device,
        workers=workers,
        cluster=Cluster(address=cluster) if isinstance(cluster, str) else cluster,
        accept_changes=accept_changes,
        prior=_paths(prior),
    )
    with console.observer(quiet=not progress) as job.observer:
        found = run_job(job)
    assert isinstance(found, Recommendation)
    return found


def choose(
    model: nn.Module | Callable[..., nn.Module] | Trainer,
    train: Any = None,
    loss: Callable[..., Any] | None = None,
    *,
    val: Any = None,
    trainer: Any = None,
    metric: tuple[str, str] | tuple[str, str, float] | None = None,
    steps: int | None = None,
    budget: str | float = "5m",
    policy: str | Path = "balanced",
    limit: str | None = None,
    optimizers: Sequence[str] | None = None,
    device: str = "auto",
    seed: int = 0,
    out: str | Path | None = None,
    prior: str | Path | Sequence[str | Path] = (),
    configure_optimizers: Callable[..., Any] | None = None,
    checkpoint: str | Path | Mapping[str, Any] | None = None,
    progress: bool = True,
    **flags: Any,
) -> Recommendation:
    """Chooses and tunes the optimizer for objects in this process: closures and notebooks included.

    Trials run one at a time in this process. The model comes back untouched: weights, buffers, gradients, mode,
    hooks, every random generator.

    Args:
        model: an `nn.Module`, or a function that builds one (then trials differ in their initial weights).
            Or a LightningModule, or its class: it is trained by Lightning's Trainer, see docs/lightning.md.
            Or a `transformers.Trainer`, which brings model, data, loss, metric and settings, and is on a device already.
        train: a loader, any re-iterable of batches, or a function that returns an iterator. For a LightningModule also
            its LightningDataModule, and nothing where it has loaders of its own.
        loss: `loss(model, batch)`; not needed when `model(**batch)` returns `.loss`.
        val: held-out batches like `train`; a share of `train` is held out when it is missing.
        trainer: of a LightningModule: its Trainer, which does not run, or a dict of a Trainer's arguments. Callbacks,
            precision, clipping, accumulation and the length of the run are taken from it.
        metric: of a LightningModule: what is compared, a key that it logs in validation: `("val_acc", "max")`, or
            `("val_acc", "max", 100)` where 100 is the best that it can be.
        steps: optimizer steps of the real run (1000 unless given).
        budget, policy, limit, optimizers, device, seed: as in `profile`.
        out: where to write the four files; nothing is kept unless given.
        prior: as in `profile`.
        configure_optimizers: today's optimizer, `configure_optimizers(model)`: the baseline.
        checkpoint: as in `profile`, or a dictionary with "model" and, if there, "optimizer" and "step".
        progress: whether to show plan and progress on stderr.
        flags: global_batch (samples of an optimizer step over all processes, WORLD_SIZE) or accumulate, epochs, precision,
            clip, schedule, warmup: see `records.Flags`.

    Returns:
        The recommendation: `optimizer, scheduler = rec.build(model)`.

    Raises:
        UsageError, WorkloadError, RunError, NoResult: see `autoopt.errors`.

    Example:
        >>> rec = autoopt.choose(build_model, loader, loss, steps=10_000, budget="10m")  # doctest: +SKIP
        >>> optimizer, scheduler = rec.build(model)  # doctest: +SKIP
    """
    from autoopt.workload.seeding import RngState

    with ExitStack() as stack:
        # Before the imports below: rich draws from `random` when it is imported for the first time.
        stack.callback(RngState().restore)
        from autoopt.hardware import devices
        from autoopt.report import console, handover
        from autoopt.trials.engine import WorkloadEngine
        from autoopt.trials.inprocess import InProcess
        from autoopt.workload.entry import from_objects, placed

        if (flags.get("nproc") or 1) > 1:
            raise UsageError(
                "choose() trains the objects of this process in it, and nproc= needs processes that load them anew.",
                "Write them as a model.py, or a function that returns them, and call "
                'profile("model.py", nproc=...) or profile("package.module:function", nproc=...).',
            )
        named = str(checkpoint) if isinstance(checkpoint, str | Path) else None
        settings = Flags(steps=steps, checkpoint=named, **flags)
        chosen = devices(placed(model, device))[0]
        job = Job(
            target="choose",
            out=Path(out) if out is not None else Path(),
            budget=parse_duration(budget),
            policy=policies.load(str(policy)).limited(limit),
            flags=settings,
            optimizers=list(optimizers) if optimizers is not None else None,
            seed=seed,
            device=chosen.name,
            prior=_paths(prior),
        )
        job.observer = stack.enter_context(console.observer(quiet=not progress))
        if out is None:
            job.out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autoopt-"))) / "run"
        workload = from_objects(
            model,
            train,
            loss=loss,
            val=val,
            trainer=trainer,
            metric=metric,
            configure_optimizers=configure_optimizers,
            flags=settings,
            device=chosen.name,
            checkpoint=checkpoint,
        )
        stack.callback(workload.close)
        engine = partial(WorkloadEngine, timing_seconds=TIMING_SHARE * job.budget)
        found = run_job(job, runner=InProcess(workload, engine))
        assert isinstance(found, Recommendation)
        handover.remember(found, workload.own_optimizer())
        return found


def _paths(given: str | Path | Sequence[str | Path]) -> list[Path]:
    """One path or several."""
    return [Path(given)] if isinstance(given, str | Path) else [Path(one) for one in given]
