from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.optim import _workers


@pytest.mark.parametrize("work", [_workers.run_ddp, _workers.run_fsdp], ids=["ddp", "fsdp2"])
def test_two_processes_give_the_trajectory_of_one(work: Callable[[int, str], None]) -> None:
    """DDP halves the batch, FSDP2 the parameters; AdaHessian goes by differences in both."""
    ended = _workers.together(work)
    x, y = _workers.data()
    for kind in _workers.KINDS:
        net = _workers.network()
        _workers.train(kind, net, x, y)
        for p, q in zip(net.parameters(), ended[kind], strict=True):
            assert torch.allclose(p, q, atol=1e-6), kind
