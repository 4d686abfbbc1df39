from __future__ import annotations

from torch import nn

from benchmarks.memory.paper import MIB, eight_bit, reserved


def test_eight_bit_state_is_what_torchao_allocates() -> None:
    """torchao 0.18's AdamW8bit over these layers: 555,184 bytes of tensors (two quantized, the rest too small)."""
    net = nn.ModuleList([nn.Linear(512, 512), nn.Linear(100, 7), nn.Linear(64, 64)])
    assert eight_bit(net) == 555_184


def test_the_allocator_reserves_in_segments() -> None:
    assert reserved([100]) == 2 * MIB
    assert reserved([100] * 1000) == 2 * MIB
    assert reserved([1600 * 6400 * 4]) == 40 * MIB  # of 39.06
    assert reserved([5 * MIB] * 4) == 20 * MIB
    assert reserved([5 * MIB] * 5) == 40 * MIB
