"""A few real steps with each optimizer, where a device is at hand: measured memory in the place of predicted."""

from __future__ import annotations

from collections.abc import Callable

from autoopt.memory.answer import MemoryAnswer, MemoryRequest, OptimizerMemory
from autoopt.optim import registry
from autoopt.records import Flags, Outcome, TrialResult, TrialSpec
from autoopt.trials.drive import drive
from autoopt.trials.engine import WorkloadEngine
from autoopt.workload import load

_STEPS = 3


def measured(request: MemoryRequest, answer: MemoryAnswer, progress: Callable[[str], None]) -> MemoryAnswer:
    """The same answer with the peak and the state of real steps; what did not run keeps its prediction and says why.

    Args:
        request: with `measure_on`.
        answer: the prediction.
        progress: takes what is being done, in words.
    """
    assert request.measure_on is not None
    flags = Flags(
        precision=request.precision,
        accumulate=request.accumulate,
        global_batch=request.global_batch,
        steps=_STEPS,
    )
    workload = load(request.target, request.arguments, flags, request.measure_on)
    engine = WorkloadEngine(workload)
    try:
        rows = []
        for number, row in enumerate(answer.optimizers):
            progress(f"measuring {row.optimizer}")
            rows.append(_row(row, engine, number, answer))
        return answer.model_copy(update={"optimizers": rows})
    finally:
        workload.close()


def _row(row: OptimizerMemory, engine: WorkloadEngine, number: int, answer: MemoryAnswer) -> OptimizerMemory:
    spec = registry.get(row.optimizer)
    if registry.why_unavailable(spec):
        return row
    trial = TrialSpec(
        id=number, stage="memory", optimizer=spec.name, hyper={"lr": spec.start()["lr"]}, steps=_STEPS, seed=0
    )
    *_, result = drive(engine, trial, 0, interrupts_pass=True)
    assert isinstance(result, TrialResult)
    if result.outcome not in (Outcome.COMPLETED, Outcome.DIVERGED) or result.peak_bytes is None:
        return row.model_copy(update={"note": f"not measured: {result.message or 'its tensors are hidden'}"})
    return row.model_copy(update=_figures(result, answer))


def _figures(result: TrialResult, answer: MemoryAnswer) -> dict[str, object]:
    found: dict[str, object] = {
        "source": "measured",
        "state_bytes": result.state_bytes,
        "peak_bytes": result.peak_bytes,
    }
    if answer.capacity_bytes is not None and result.peak_bytes is not None:
        margin = answer.capacity_bytes - answer.context_bytes - result.peak_bytes
        found |= {"margin_bytes": margin, "fits": margin >= 0}
    return found
