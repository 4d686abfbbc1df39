"""`torch.compile` of the step by a real compiler: the eager numbers, compiled a fixed number of times."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from autoopt.optim import Adan, SGDSaI

BACKEND = "inductor" if shutil.which("g++") else "aot_eager"
STEPS = 5

# Dynamo imports a module of torch that warns.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

MAKE: dict[str, Any] = {
    "adan": lambda params, lr: Adan(params, lr=lr, weight_decay=0.1),
    "sgd_sai": lambda params, lr: SGDSaI(params, lr=lr),
}


def _rates(step: int) -> float:
    return 1e-2 / (step + 1)


def _train(kind: str, rate: Any, counter: Any = None) -> tuple[list[Tensor], list[int]]:
    """Steps along fixed gradients with a rate that falls; how often had been compiled after each."""
    torch.manual_seed(0)
    params = list(nn.Linear(4, 3).parameters())
    opt = MAKE[kind](params, rate)
    step = opt.step if counter is None else torch.compile(opt.step, backend=counter)
    generator = torch.Generator().manual_seed(3)
    compiled = []
    for i in range(STEPS):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator)
        for group in opt.param_groups:
            if isinstance(rate, Tensor):
                group["lr"].fill_(_rates(i))
            else:
                group["lr"] = _rates(i)
        step()
        compiled.append(0 if counter is None else counter.frame_count)
    return [p.detach() for p in params], compiled


@pytest.mark.parametrize("kind", MAKE)
def test_a_tensor_rate_may_change_without_compiling_again(kind: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(BACKEND)
    found, compiled = _train(kind, torch.tensor(1e-2), counter)
    expected, _ = _train(kind, torch.tensor(1e-2))
    torch._dynamo.reset()
    for p, q in zip(found, expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)
    assert compiled[0] > 0
    assert compiled[2:] == [compiled[2]] * (STEPS - 2), compiled
