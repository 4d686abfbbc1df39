"""`torch.compile` of the step: the same numbers, compiled once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from tests.optim._sequences import gradients, parameters
from tests.optim.conformance.cases import Case, close
from tests.optim.conformance.deviations import conforms, demand

SHAPES = ((4, 5),)
COMPILED = (
    *("sgd", "sgd-fused", "adamw", "adamw-fused", "nadam", "radam", "rmsprop", "adagrad", "adagrad-fused"),
    *("adafactor", "muon", "lion", "schedule_free_adamw", "prodigy", "adan", "adan-fused", "sgd_sai"),
    "sgd_sai-fused",
)
"""Each optimizer once, and its fused form; AdaHessian's step is kept out of the compiler on purpose."""


# Dynamo imports a module of torch that warns.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@conforms("torch.compile", where=lambda case: case.name in COMPILED)
def test_a_compiled_step_agrees_and_is_compiled_once(case: Case) -> None:
    torch._dynamo.reset()
    one, two = parameters(SHAPES, torch.float32), parameters(SHAPES, torch.float32)
    grads = gradients(one, 6)
    eager, traced = case.make(one), case.make(two)
    counter = CompileCounter()
    original = traced.step
    traced.step = torch.compile(original, backend=counter)
    frames = []
    for step in grads:
        case.drive(eager, one, [step])
        case.drive(traced, two, [step])
        frames.append(counter.frame_count)
    torch._dynamo.reset()
    demand(close(one, two, 1e-4), "the compiled step goes elsewhere")
    demand(frames[2] == frames[-1], f"it is compiled again: {frames}")
    demand(counter.op_count > 0, "nothing is compiled")


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@conforms(
    "torch.compile with a schedule", where=lambda case: case.name in ("sgd", "adamw", "adan", "sgd_sai")
)
def test_a_rate_in_a_tensor_is_not_compiled_in(case: Case) -> None:
    torch._dynamo.reset()
    params = parameters(SHAPES, torch.float32)
    optimizer = case.make(params, lr=torch.tensor(case.spec.defaults["lr"]))
    counter = CompileCounter()
    step: Any = torch.compile(optimizer.step, backend=counter)
    frames = []
    for i, values in enumerate(gradients(params, 6)):
        for p, g in zip(params, values, strict=True):
            p.grad = g.clone()
        optimizer.param_groups[0]["lr"].fill_(case.spec.defaults["lr"] / (i + 1))
        step()
        frames.append(counter.frame_count)
    torch._dynamo.reset()
    demand(frames[2] == frames[-1], f"it is compiled again: {frames}")
