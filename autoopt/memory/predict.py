"""What a training step of a workload would hold, optimizer by optimizer, without training it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from autoopt.errors import AutooptError
from autoopt.memory import estimate, passes, shadow, steps
from autoopt.memory.answer import MemoryAnswer, MemoryRequest, OptimizerMemory
from autoopt.memory.batches import longest
from autoopt.memory.fits import Growth
from autoopt.memory.ledger import Ledger
from autoopt.memory.passes import Setting
from autoopt.memory.trace import Trace
from autoopt.optim import build, groups, registry
from autoopt.optim._curvature import CurvatureOptimizer
from autoopt.optim.spec import Need
from autoopt.records import Flags
from autoopt.workload import Workload, load

GRAIN = 512
"""Bytes to which CUDA's caching allocator rounds a block."""
WORKSPACE = 65 << 20
"""Bytes that cuBLAS and cuBLASLt take from that allocator at the first product, measured on an H100. Older cards: less."""
_LONG = 25_000
"""Operations of one trace above which no further batch sizes are traced than are needed: some seconds."""

Progress = Callable[[str], None]


def predict(request: MemoryRequest, progress: Progress = lambda _: None) -> MemoryAnswer:
    """Traces a step and every optimizer's own part of it on fake tensors.

    Args:
        request: what is asked.
        progress: takes what is being done, in words.

    Raises:
        WorkloadError, UserCodeError: the user's file cannot be used at all.
    """
    begin = time.perf_counter()
    progress("loading")
    flags = Flags(
        precision=request.precision, accumulate=request.accumulate, global_batch=request.global_batch
    )
    workload = load(request.target, request.arguments, flags, "cpu")
    try:
        return _Prediction(request, workload, progress).answer(begin)
    finally:
        workload.close()


class _Prediction:
    """One question, worked through from the batch to the last optimizer."""

    def __init__(self, request: MemoryRequest, workload: Workload, progress: Progress) -> None:
        self._request, self._workload, self._progress = request, workload, progress
        self._notes: list[str] = []
        self._setting = Setting(request.kind, workload.precision, workload.accumulate)
        self._trace = Trace(Ledger(GRAIN if request.kind == "cuda" else 1))
        progress("reading batches")
        self._batch = longest(workload)
        self._samples = self._wanted()
        progress("building the model without its weights")
        self._model = self._built()
        tensors = [*self._model.parameters(), *self._model.buffers()]
        self._static = self._trace.ledger.bytes(inner for t in tensors for inner in build.plain(t))
        self._why = ""
        """Why the step could not be traced; empty if it was."""
        self._growth: Growth | None = None
        """Bytes of forward and backward beyond parameters and buffers, against samples."""
        self._activations: int | None = None

    def answer(self, begin: float) -> MemoryAnswer:
        """Everything that was asked."""
        self._progress("tracing forward and backward")
        try:
            self._trace_passes()
        except Exception as error:
            self._why = _words(error)
            self._estimate()
        rows = []
        for name in self._request.optimizers:
            self._progress(f"tracing the step of {name}")
            rows.append(self._row(name))
        parameters = list(self._model.parameters())
        return MemoryAnswer(
            target=self._request.target,
            device="a GPU" if self._request.kind == "cuda" else "the CPU",
            capacity_bytes=self._request.capacity_bytes,
            context_bytes=self._request.context_bytes,
            precision=self._setting.precision,
            accumulate=self._setting.accumulate,
            batch=self._batch.words,
            samples=self._samples,
            parameters=sum(p.numel() for p in parameters),
            trainable=sum(p.numel() for p in parameters if p.requires_grad),
            optimizers=rows,
            notes=list(dict.fromkeys([*self._notes, *self._workload.notes])),
            seconds=round(time.perf_counter() - begin, 3),
        )

    # --- model and batch ---

    def _wanted(self) -> int | None:
        asked, there = self._request.batch_size, self._batch.samples
        self._resizable = shadow.resizable(self._batch.value, there)
        if asked and not self._resizable:
            self._notes.append("--batch-size is not used: no dimension of the batch counts samples.")
            return there
        return asked or there

    def _built(self) -> nn.Module:
        try:
            return shadow.built(self._trace, self._workload.sketch)
        except AutooptError as error:
            self._notes.append(f"The model was built with its weights: {_words(error)}.")
            return shadow.shadowed(self._trace, self._workload.sketch())

    # --- forward and backward ---

    def _trace_passes(self) -> None:
        double = None
        if self._resizable and self._samples is not None:
            double = self._pass(2 * self._samples)
        # The last one, since it leaves the gradients that the steps below need.
        first = self._pass(self._samples)
        self._activations = first.activations
        other = None if double is None else (double.samples, double.course)
        self._growth = Growth.of((first.samples, first.course), other)

    def _pass(self, samples: int | None) -> passes.Pass:
        return passes.take(
            self._trace,
            self._workload,
            self._model,
            self._batch.value,
            self._setting,
            self._batch.samples,
            samples,
        )

    def _estimate(self) -> None:
        """Activations from a few samples on the real model, where that can be had."""
        self._progress("running a few samples")
        begin = time.perf_counter()
        found, why = estimate.activations(self._workload, self._batch, self._samples, self._static)
        if found is None:
            self._notes.append(f"Activations are not known: {why}")
        else:
            self._growth, self._activations = found, found.at(self._samples or found.samples)
            self._notes.append(
                f"Activations are estimated from {found.samples} samples on the CPU, in "
                f"{time.perf_counter() - begin:.1f} s."
            )
        self._notes.append(f"The step could not be traced: {self._why}")
        with self._trace:
            for parameter in self._model.parameters():
                parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None

    # --- optimizers ---

    def _row(self, name: str) -> OptimizerMemory:
        spec = registry.get(name)
        source = "analytic state plus estimate" if self._why else "fake-tensor trace"
        known: dict[str, Any] = {"optimizer": name, "parameter_bytes": self._static}
        known["gradient_bytes"] = self._gradients()
        missing = registry.why_unavailable(spec)
        if missing:
            return OptimizerMemory(**known, source="unknown", note=missing)
        try:
            with self._trace:
                optimizer = build.build(spec, groups.split(self._model), {})
            if Need.SECOND_ORDER in spec.needs:
                return self._second_order(known, optimizer)
            stepped = steps.step(self._trace, self._model, optimizer, self._request.kind)
        except AutooptError as error:
            return OptimizerMemory(**known, source="unknown", note=error.message)
        except Exception as error:
            return OptimizerMemory(
                **known, source="unknown", note=f"its step could not be traced: {_words(error)}"
            )
        known |= {"state_bytes": stepped.state, "temporary_bytes": stepped.temporary}
        if self._growth is None:
            return OptimizerMemory(
                **known, source="analytic state plus estimate", note="activations are not known"
            )
        whole = self._growth
        if self._why:  # the estimate is of activations alone
            whole = replace(whole, bytes=whole.bytes + known["gradient_bytes"])
        floor = known["gradient_bytes"] + stepped.temporary
        return self._finished(known, source, whole, stepped.held, floor)

    def _second_order(self, known: dict[str, Any], optimizer: Any) -> OptimizerMemory:
        assert isinstance(optimizer, CurvatureOptimizer)
        if self._why:
            return OptimizerMemory(
                **known, source="unknown", note="the graph that a second derivative keeps could not be traced"
            )
        gradients = [(p, p.grad) for p in self._model.parameters()]
        begin = self._trace.operations
        stepped, course = self._whole_step(optimizer, self._samples)
        known |= {"state_bytes": stepped.state, "temporary_bytes": 0}
        known["activation_bytes"] = max(0, max(course) - known["gradient_bytes"])
        second = None
        if self._resizable and self._samples and self._trace.operations - begin < _LONG:
            # Another optimizer, for the first has its state by now and would go another way.
            again = build.build(registry.get(known["optimizer"]), groups.split(self._model), {})
            second = (2 * self._samples, self._whole_step(again, 2 * self._samples)[1])
        growth = Growth.of((self._samples or 1, course), second)
        note = f"by differences of gradients: {optimizer.reason}" if optimizer.reason else ""
        for parameter, gradient in gradients:  # the next optimizer steps over them
            parameter.grad = gradient
        return self._finished(known, "fake-tensor trace", growth, stepped.held, 0, note)

    def _whole_step(self, optimizer: Any, samples: int | None) -> tuple[steps.Stepped, list[int]]:
        for parameter in self._model.parameters():
            parameter.grad = None
        mark = self._trace.ledger.now
        batch = shadow.batch(self._trace, self._batch.value, self._batch.samples, samples)
        inputs = self._trace.ledger.now - mark
        count = self._setting.accumulate

        def loss() -> Any:
            with self._setting.autocast():
                losses = [self._workload.loss(self._model, batch) / count for _ in range(count)]
                return torch.stack(losses).sum() if count > 1 else losses[0]

        with self._setting.ways(twice=True):
            stepped, course = steps.whole_step(self._trace, self._model, optimizer, self._request.kind, loss)
        return stepped, [held + inputs for held in course]

    def _gradients(self) -> int:
        grads = [p.grad for p in self._model.parameters() if p.grad is not None]
        return self._trace.ledger.bytes(inner for g in grads for inner in build.plain(g))

    # --- what fits ---

    @property
    def _capacity(self) -> int | None:
        if self._request.capacity_bytes is None:
            return None
        return self._request.capacity_bytes - self._request.context_bytes

    def _room(self, held: int) -> int:
        """Bytes for forward and backward beside parameters and `held`."""
        assert self._capacity is not None
        return self._capacity - self._static - held - self._workspace

    @property
    def _workspace(self) -> int:
        return WORKSPACE if self._request.kind == "cuda" else 0

    def _finished(
        self, known: dict[str, Any], source: Any, growth: Growth, held: int, floor: int, note: str = ""
    ) -> OptimizerMemory:
        """The row, from what forward and backward hold (`growth`) and the step (`floor`) beside the state (`held`)."""
        peak = self._static + self._workspace + held + max(growth.at(self._samples or growth.samples), floor)
        known.setdefault("activation_bytes", self._activations)
        known["peak_bytes"] = peak
        if self._capacity is not None:
            margin = self._capacity - peak
            room = self._room(held)
            most = 0 if floor > room else growth.most(room) if self._resizable else None
            known |= {"fits": margin >= 0, "margin_bytes": margin, "largest_batch": most}
        return OptimizerMemory(**known, source=source, note=note)


def _words(error: BaseException) -> str:
    """An error in a line."""
    text = error.message if isinstance(error, AutooptError) else str(error)
    return (text or type(error).__name__).strip().splitlines()[0].rstrip(".")
