from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.optim import _workers

Ended = dict[tuple[str, str], list[Tensor]]


@pytest.fixture(scope="module")
def ended() -> Ended:
    return _workers.together()


@pytest.mark.parametrize("way", ["ddp", "fsdp2"])
@pytest.mark.parametrize("kind", _workers.KINDS)
def test_two_processes_give_the_trajectory_of_one(ended: Ended, way: str, kind: str) -> None:
    """DDP halves the batch, FSDP2 the parameters; AdaHessian goes by differences in both."""
    net = _workers.network()
    _workers.train(kind, net, *_workers.data())
    for p, q in zip(net.parameters(), ended[way, kind], strict=True):
        assert torch.allclose(p, q, atol=1e-6)
