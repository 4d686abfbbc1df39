"""`tune()`: from a training loop that only its owner can drive to a recommendation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, cast

from autoopt import policy as policies
from autoopt.job import Job
from autoopt.records import Flags, Recommendation
from autoopt.sitting import run_job
from autoopt.units import parse_duration


def tune(
    run: Callable[..., Any],
    *,
    steps: int,
    budget: str | float = "5m",
    metric: tuple[str, Literal["min", "max"]] = ("loss", "min"),
    policy: str | Path = "balanced",
    limit: str | None = None,
    optimizers: Sequence[str] | None = None,
    configure_optimizers: Callable[..., Any] | None = None,
    paired: bool = False,
    closure: bool = False,
    schedule: Literal["cosine", "linear", "constant", "wsd", "yours"] | None = None,
    warmup: float | None = None,
    device: str = "cpu",
    seed: int = 0,
    out: str | Path | None = None,
    prior: str | Path | Sequence[str | Path] = (),
    progress: bool = True,
) -> Recommendation:
    """Chooses and tunes the optimizer for a training loop of your own: a GAN's, an agent's, another library's.

    `run(make_optimizer, steps, seed, report)` trains a new model and returns the value to compare:

    - `make_optimizer(module, lr_scale=1.0)` gives an optimizer over a module, parameters or groups of them. Called several
      times in a run it gives the same settings each time. There is no scheduler to step: the rate follows `report`.
    - `steps` is how long to train: trials are shorter than the real run.
    - `seed` decides weights and data. torch, numpy and random are seeded before each run.
    - `report(step, loss)` says that a step, counted from 0, is over. There a trial ends that diverges or is cancelled.

    Trials run one at a time in this process.

    Args:
        run: the loop.
        steps: of the real run.
        budget, policy, limit, optimizers, seed, out, prior, progress: as in `choose`.
        metric: what `run` returns, and whether less or more of it is better. A ("loss", "min") is compared by ratios.
        configure_optimizers: today's optimizer over what `make_optimizer` is given: the baseline. AdamW unless given.
        paired: whether `seed` alone decides weights and data, so that trials of one seed can be compared one by one.
        closure: whether `run` calls `optimizer.step(closure)`, as second-order optimizers need.
        schedule, warmup: of the rate; "yours" keeps the scheduler that `configure_optimizers` returns.
        device: where `run` trains; its memory is watched. `run` may declare `ctx` to be told.

    Returns:
        The recommendation: `optimizer, scheduler = rec.build(module)`.

    Raises:
        UsageError, RunError, NoResult: see `autoopt.errors`.
        WorkloadError: `run` does not do what is said above; names what, and your line.

    Example:
        >>> import torch
        >>> def run(make_optimizer, steps, seed, report):
        ...     weight = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
        ...     optimizer = make_optimizer([weight])
        ...     for step in range(steps):
        ...         optimizer.zero_grad()
        ...         loss = weight.square().sum()
        ...         loss.backward()
        ...         optimizer.step()
        ...         report(step, loss)
        ...     return weight.square().sum()
        >>> rec = tune(run, steps=40, budget=5, optimizers=["sgd"], progress=False)
        >>> rec.workload.kind
        'own loop'
    """
    from autoopt.workload.seeding import RngState

    with ExitStack() as stack:
        # Before the imports below: rich draws from `random` when it is imported for the first time.
        stack.callback(RngState().restore)
        from autoopt.hardware import devices
        from autoopt.report import console
        from autoopt.trials.inprocess import InProcess
        from autoopt.trials.own_loop import LoopEngine
        from autoopt.workload import own_loop

        chosen = devices(device)[0].name
        constants = {
            "METRIC": metric,
            "CLOSURE": closure,
            "PAIRED": paired,
            **({} if schedule is None else {"SCHEDULE": schedule}),
        }
        flags = Flags(steps=steps, warmup=warmup)
        loop = own_loop.make(
            run, constants=constants, flags=flags, configure=configure_optimizers, device=chosen
        )
        job = Job(
            target=own_loop.PROGRAM,
            out=Path(out) if out is not None else Path(),
            budget=parse_duration(budget),
            policy=policies.load(str(policy)).limited(limit),
            flags=flags,
            optimizers=list(optimizers) if optimizers is not None else None,
            seed=seed,
            device=chosen,
            prior=[Path(prior)] if isinstance(prior, str | Path) else [Path(one) for one in prior],
        )
        job.observer = stack.enter_context(console.observer(quiet=not progress))
        if out is None:
            job.out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autoopt-"))) / "run"
        stack.callback(loop.close)
        found = run_job(job, runner=InProcess(cast(Any, loop), cast(Any, LoopEngine)))
        assert isinstance(found, Recommendation)
        return found
