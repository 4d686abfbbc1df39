from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from autoopt.memory.gpu_ops import GpuOps
from autoopt.memory.ledger import Ledger
from autoopt.memory.trace import Trace

MIB = 1 << 20


def kept(
    build: Callable[[], nn.Module], shape: tuple[int, ...], *, gpu: bool, autocast: bool = False
) -> float:
    """MiB that forward keeps for backward, result included."""
    trace = Trace(Ledger())
    with trace:
        model, x = build(), torch.empty(shape, requires_grad=True)
    before = trace.ledger.now
    ways = GpuOps(autocast=autocast).in_backward_too() if gpu else contextlib.nullcontext()
    with ways, trace, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = model(x)
        held = trace.ledger.now - before
        y.sum().backward()
    return held / MIB


def test_dropout_keeps_a_byte_for_each_element() -> None:
    shape = (1024, 1024)
    assert kept(lambda: nn.Dropout(0.1), shape, gpu=True) == pytest.approx(5, rel=0.01)
    assert kept(lambda: nn.Dropout(0.1), shape, gpu=False) == pytest.approx(8, rel=0.01)


def test_fused_norm_keeps_its_input_alone() -> None:
    assert kept(lambda: nn.RMSNorm(1024), (1024, 1024), gpu=True) == pytest.approx(4, rel=0.01)


def test_attention_with_dropout_keeps_no_matrix_of_weights() -> None:
    def build() -> nn.Module:
        return nn.TransformerEncoderLayer(256, 4, 256, dropout=0.1, batch_first=True)

    shape = (4, 512, 256)
    matrix = 4 * 4 * 512 * 512 * 4 / MIB
    assert kept(build, shape, gpu=False) - kept(build, shape, gpu=True) > matrix


def test_norms_go_back_to_float32_under_a_gpu_s_autocast() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(512, 512, bias=False), nn.LayerNorm(512))

    assert kept(build, (2048, 512), gpu=True, autocast=True) > kept(
        build, (2048, 512), gpu=False, autocast=True
    )


def test_what_is_recomputed_in_backward_goes_the_same_way() -> None:
    class Recomputed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.RMSNorm(64)

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.norm, x, use_reentrant=False)

    assert kept(Recomputed, (8, 64), gpu=True) > 0
