from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from autoopt.memory import kernels, shadow
from autoopt.memory.answer import MemoryAnswer, MemoryRequest
from autoopt.memory.ledger import Ledger
from autoopt.memory.predict import predict
from autoopt.memory.trace import Trace

ROOT = Path(__file__).parents[2]
CALLS = {
    "view": lambda x: x.view(-1, 2),
    "transpose": lambda x: x.transpose(0, 1),
    "slice": lambda x: x[1:, ::2],
    "split": lambda x: torch.split(x, 2),
    "in place": lambda x: x.mul_(2),
    "integers": lambda x: x.sum(0) > 1,
    "broadcast": lambda x: x[:1] + x.half(),
    "matrix": lambda x: x @ x.T,
    "layer norm": lambda x: nn.functional.layer_norm(x, (6,)),
    "lists": lambda x: torch._foreach_add([x, x[0]], 1.0),
    "lists in place": lambda x: torch._foreach_mul_([x, x[0]], 2),
    "like": lambda x: torch.zeros_like(x, dtype=torch.int8),
    "on a device": lambda x: torch.zeros_like(x, device="cpu"),
    "number or tensor": lambda x: (x + 1, x + 1.5, x > True),
}


def leaves(result: object) -> list[tuple[object, ...]]:
    some = result if isinstance(result, tuple | list) else [result]
    return [(t.shape, t.stride(), t.dtype, t.storage_offset()) for t in some if isinstance(t, torch.Tensor)]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_shapes_are_those_of_real_tensors_the_first_and_the_second_time(
    name: str, dtype: torch.dtype
) -> None:
    if name == "layer norm" and dtype is torch.int64:
        pytest.skip("not for whole numbers")
    real = leaves(CALLS[name](torch.ones(4, 6, dtype=dtype)))
    trace = Trace(Ledger())
    with trace:
        for _ in range(2):
            x = trace.counted_like(torch.ones(1, dtype=dtype), (4, 6))
            assert leaves(CALLS[name](x)) == real


def test_views_share_the_bytes_of_what_they_look_at_and_new_tensors_have_their_own() -> None:
    trace = Trace(Ledger())
    with trace:
        for _ in range(2):
            x = trace.counted_like(torch.ones(1), (4, 6))
            held = [x.view(-1), x.T, x[1:], x.add_(1.0)]
            assert trace.ledger.now == 4 * 6 * 4
            held.append(x + 1.0)
            assert trace.ledger.now == 2 * 4 * 6 * 4
            del x, held
            assert trace.ledger.now == 0


def test_a_copied_layer_stays_in_the_trace() -> None:
    trace = Trace(Ledger())

    def build() -> nn.Module:
        layer = nn.Linear(1024, 512, bias=False)
        return nn.ModuleList([layer, copy.deepcopy(layer)])

    layer, twin = shadow.built(trace, build)
    with trace:
        assert trace.ledger.now == 2 * 1024 * 512 * 4
        assert twin.weight.fake_mode is layer.weight.fake_mode  # type: ignore[attr-defined]
        assert leaves(torch.clone(twin.weight)) == leaves(torch.ones(512, 1024))


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_prediction_is_the_same_without_what_is_remembered(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = MemoryRequest(
        target=str(ROOT / "examples" / "char_gpt" / "model.py"),
        optimizers=["adamw", "adafactor", "adahessian"],
        kind=kind,
        capacity_bytes=10**9,
    )

    def answer() -> MemoryAnswer:
        return predict(request).model_copy(update={"seconds": 0.0})

    found = answer()
    monkeypatch.setattr(kernels, "QUICK", frozenset())
    assert answer() == found
