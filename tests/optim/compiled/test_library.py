"""The compiled kernels on tensors: any number of threads, any order of memory, nothing else disturbed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autoopt.optim import Adan, SGDSaI
from autoopt.optim.compiled import library

SIZES = ((3, 5), (1,), (), (0,), (70_001,), (64, 64), (4, 3, 3, 3), (63,))
Make = Callable[..., torch.optim.Optimizer]


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trained(
    make: Make, *, threads: int = 2, dtype: torch.dtype = torch.float32, **options: object
) -> list[Tensor]:
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(size, dtype=dtype)) for size in SIZES]
    optimizer = make(params, lr=1e-2, weight_decay=0.1, **options)
    torch.set_num_threads(1)  # SGD-SaI's first step sums, and the order of a sum depends on the threads
    for _ in range(4):
        for p in params:
            p.grad = torch.randn_like(p) + 0.1
        optimizer.step()
        torch.set_num_threads(threads)
    return [p.detach() for p in params]


@pytest.mark.parametrize("make", [Adan, SGDSaI])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_number_of_threads_changes_no_bit(make: Make, dtype: torch.dtype) -> None:
    results = [trained(make, threads=count, dtype=dtype, fused=True) for count in (1, 2, 3)]
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("make", [Adan, SGDSaI])
def test_without_an_openmp_runtime_one_thread_does_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trained(make, fused=True)
    monkeypatch.setattr(library, "_team", library._Team)
    assert all(torch.equal(a, b) for a, b in zip(expected, trained(make, fused=True), strict=True))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads the loaded libraries from /proc")
def test_no_second_openmp_runtime_is_loaded_and_torch_s_is_the_one_used() -> None:
    code = (
        "import re, torch\n"
        "def loaded(): return sorted(set(re.findall(r'/.*lib(?:gomp|iomp|omp).*', open('/proc/self/maps').read())))\n"
        "torch.ones(100_000).add_(1)\n"
        "before = loaded()\n"
        "from autoopt.optim import Adan\n"
        "from autoopt.optim.compiled import library\n"
        "p = torch.nn.Parameter(torch.ones(100_000)); p.grad = torch.ones(100_000)\n"
        "torch.set_num_threads(2)\n"
        "Adan([p], fused=True).step()\n"
        "print(before == loaded(), len(before), library._team().parallel is not None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "1", "True"]


@pytest.mark.parametrize("make", [Adan, SGDSaI])
def test_parameter_and_gradient_may_lie_in_any_order(make: Make) -> None:
    torch.manual_seed(0)
    values, gradients = torch.randn(6, 5, 4, 3), [torch.randn(6, 5, 4, 3) for _ in range(3)]
    orders = {
        "rows": (lambda t: t.clone(), lambda t: t.clone()),
        "channels last": (lambda t: t.clone(memory_format=torch.channels_last), lambda t: t.clone()),
        "transposed": (lambda t: t.transpose(0, 3).contiguous().transpose(0, 3), lambda t: t.clone()),
        "gradient channels last": (lambda t: t.clone(), lambda t: t.clone(memory_format=torch.channels_last)),
    }
    results = []
    for lay, lay_gradient in orders.values():
        p = torch.nn.Parameter(lay(values))
        optimizer = make([p], lr=1e-2, fused=True)
        for g in gradients:
            p.grad = lay_gradient(g)
            optimizer.step()
        results.append(p.detach())
    assert all(torch.equal(results[0], other) for other in results[1:])
    assert not torch.equal(results[0], values)


@pytest.mark.parametrize("make", [Adan, SGDSaI])
@pytest.mark.parametrize(
    ("p", "options", "message"),
    [
        (torch.ones(4, dtype=torch.float16), {}, "takes float32, float64, bfloat16, not torch.float16"),
        (
            torch.ones(4),
            {"state_dtype": torch.float64},
            "state in torch.float64 for parameters in torch.float32",
        ),
        (torch.ones(8)[::2], {}, "without gaps in memory"),
    ],
)
def test_what_it_does_not_take_is_refused_with_the_way_out(
    make: Make, p: Tensor, options: dict[str, object], message: str
) -> None:
    target = torch.nn.Parameter(p)
    target.grad = torch.arange(1.0, target.numel() + 1).to(p.dtype)
    with pytest.raises(RuntimeError, match=f"{message}.*[Ll]eave"):
        make([target], fused=True, **options).step()


def test_fused_excludes_the_other_ways() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    for option in ("foreach", "differentiable", "capturable"):
        with pytest.raises(ValueError, match=f"fused=True and {option}=True exclude each other"):
            Adan([p], fused=True, **{option: True})
    with pytest.raises(ValueError, match="fused=True and foreach=True"):
        SGDSaI([p], fused=True, foreach=True)


@pytest.mark.parametrize("make", [Adan, SGDSaI])
def test_special_values_stay_in_their_elements(make: Make) -> None:
    p = torch.nn.Parameter(torch.ones(100))
    optimizer = make([p], lr=1e-2, fused=True)
    p.grad = torch.linspace(1, 2, 100)
    optimizer.step()
    p.grad = torch.linspace(1, 2, 100)
    p.grad[7], p.grad[8] = float("nan"), float("inf")
    optimizer.step()
    odd = ~p.detach().isfinite()
    assert odd[7]
    assert not odd[[*range(7), *range(9, 100)]].any()


def test_a_refused_step_was_none() -> None:
    p = torch.nn.Parameter(torch.ones(8)[::2])
    p.grad = torch.arange(1.0, 5.0)
    optimizer = Adan([p], fused=True)
    with pytest.raises(RuntimeError, match="without gaps"):
        optimizer.step()
    assert optimizer.state[p]["step"] == 0


@pytest.mark.parametrize(
    ("other", "message"),
    [(torch.zeros(3), "shapes"), (torch.zeros(4, dtype=torch.bfloat16), "state in torch.bfloat16")],
)
def test_a_state_of_another_size_or_type_never_reaches_the_kernel(other: Tensor, message: str) -> None:
    p = torch.nn.Parameter(torch.ones(4))
    p.grad = torch.arange(1.0, 5.0)
    optimizer = Adan([p], fused=True)
    optimizer.step()
    optimizer.state[p]["exp_avg_sq"] = other
    with pytest.raises(RuntimeError, match=message):
        optimizer.step()
