"""What our optimizers refuse, and how options are kept, alike for all of them."""

from __future__ import annotations

import pytest
import torch

from autoopt.optim import AdaHessian, Adan, SGDSaI


@pytest.mark.parametrize("make", [Adan, SGDSaI, AdaHessian])
def test_the_meta_device_is_refused_with_the_way_out(make: type[torch.optim.Optimizer]) -> None:
    p = torch.nn.Parameter(torch.ones(3, device="meta"))
    p.grad = torch.ones(3, device="meta")
    with pytest.raises(RuntimeError, match=r"meta device.*to_empty"):
        make([p]).step()  # type: ignore[call-arg]


@pytest.mark.parametrize("make", [Adan, SGDSaI])
def test_the_dtype_of_the_state_is_kept_by_name_in_every_group(make: type[torch.optim.Optimizer]) -> None:
    a, b = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    optimizer = make(
        [{"params": [a]}, {"params": [b], "state_dtype": torch.float64}], state_dtype=torch.bfloat16
    )  # type: ignore[call-arg]
    assert [group["state_dtype"] for group in optimizer.param_groups] == ["bfloat16", "float64"]
    for p in (a, b):
        p.grad = torch.arange(1.0, 4.0)
    optimizer.step()
    for p, dtype in ((a, torch.bfloat16), (b, torch.float64)):
        kinds = {t.dtype for t in optimizer.state[p].values() if isinstance(t, torch.Tensor) and t.shape}
        assert kinds == {dtype}
