from __future__ import annotations

import copy
import gc
import math
import weakref
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from autoopt.optim.adahessian import AdaHessian
from tests.optim._sequences import assert_close, numbers

Options = dict[str, Any]


def quartic(params: list[Tensor]) -> Tensor:
    """A loss with a Hessian that couples all parameters and changes with them."""
    total = torch.stack([(p * torch.arange(1, p.numel() + 1).view(p.shape)).sum() for p in params]).sum()
    return total.square() / 500 + torch.stack([(p**4).sum() + (p.sin() * p).sum() for p in params]).sum()


def start(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]


SHAPES = ((), (3,), (4, 6), (2, 3, 2), (2, 2, 3, 2), (2, 1, 2, 1, 2))


def reference(params: list[Tensor], steps: int, options: Options) -> list[list[float]]:
    """The formula with its element-wise part in plain Python; only H z comes from autograd."""
    lr: float = options.get("lr", 0.15)
    b1, b2 = options.get("betas", (0.9, 0.999))
    eps, decay, k = (
        options.get("eps", 1e-4),
        options.get("weight_decay", 0.0),
        options.get("hessian_power", 1.0),
    )
    each, samples, block = options.get("update_each", 1), options.get("n_samples", 1), options.get("block")
    limit = options.get("max_grad_norm", 0.0)
    generator = torch.Generator().manual_seed(7)
    m = [[0.0] * p.numel() for p in params]
    h = [[0.0] * p.numel() for p in params]
    curvature: list[list[float]] = []
    for t in range(1, steps + 1):
        grads = torch.autograd.grad(quartic(params), params, create_graph=True)
        if (t - 1) % each == 0:
            means = [[0.0] * p.numel() for p in params]
            for _sample in range(samples):
                z = [2.0 * torch.randint(0, 2, p.shape, generator=generator) - 1 for p in params]
                hz = torch.autograd.grad(grads, params, [x.double() for x in z], retain_graph=True)
                for mean, signs, products in zip(means, numbers(z), numbers(hz), strict=True):
                    for j in range(len(mean)):
                        mean[j] += signs[j] * products[j] / samples
            curvature = [
                averaged([abs(x) for x in mean], p, block) for mean, p in zip(means, params, strict=True)
            ]
        g = numbers([x.detach() for x in grads])
        norm = math.sqrt(sum(x * x for values in g for x in values))
        c = min(1.0, limit / (norm + 1e-6)) if limit else 1.0
        for i, values in enumerate(numbers(params)):
            for j, x in enumerate(values):
                m[i][j] = b1 * m[i][j] + (1 - b1) * c * g[i][j]
                h[i][j] = b2 * h[i][j] + (1 - b2) * curvature[i][j] ** 2
                den = (math.sqrt(h[i][j]) / math.sqrt(1 - b2**t)) ** k + eps
                values[j] = x - lr * (m[i][j] / (1 - b1**t) / den + decay * x)
            with torch.no_grad():
                params[i].copy_(torch.tensor(values, dtype=torch.float64).view(params[i].shape))
    return numbers(params)


def averaged(values: list[float], p: Tensor, block: int | str | None) -> list[float]:
    if isinstance(block, int):
        run = block
    elif p.dim() >= 3:
        run = math.prod(p.shape[2:])
    elif p.dim() == 2 and block == "row":
        run = p.shape[1]
    else:
        return values
    return [sum(values[j // run * run :][:run]) / run for j in range(len(values))]


OPTIONS: list[Options] = [
    {},
    {"weight_decay": 0.02, "hessian_power": 0.5, "lr": 0.05},
    {"n_samples": 3, "betas": (0.8, 0.99)},
    {"update_each": 4, "max_grad_norm": 0.5},
    {"block": "row", "update_each": 2, "n_samples": 2},
]


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_the_formula_element_by_element(options: Options, foreach: bool | None) -> None:
    params = start(*SHAPES)
    expected = reference(start(*SHAPES), 100, options)
    optimizer = AdaHessian(params, generator=torch.Generator().manual_seed(7), foreach=foreach, **options)
    for _ in range(100):
        optimizer.step(lambda: quartic(params))
    assert_close(params, expected, 1e-12)


def test_block_length_runs_along_the_flattened_tensor() -> None:
    shapes = ((6,), (4, 6), (2, 3, 2))
    params = start(*shapes)
    expected = reference(start(*shapes), 20, {"block": 3})
    optimizer = AdaHessian(params, generator=torch.Generator().manual_seed(7), block=3)
    for _ in range(20):
        optimizer.step(lambda: quartic(params))
    assert_close(params, expected, 1e-12)


def test_a_block_that_does_not_divide_is_refused_by_name() -> None:
    layer = nn.Linear(3, 5)
    with pytest.raises(ValueError, match="block 4 does not divide the 15 elements of weight"):
        AdaHessian(layer.named_parameters(), block=4)
    with pytest.raises(ValueError, match="parameter 1 of group 0"):
        AdaHessian(layer.parameters(), block=3)


def backward_first(optimizer: AdaHessian, params: list[Tensor]) -> None:
    optimizer.zero_grad()
    with optimizer.graph_context():
        torch.autograd.backward(quartic(params), create_graph=optimizer.create_graph)
    optimizer.step()


def closure_with_backward(optimizer: AdaHessian, params: list[Tensor]) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = quartic(params)
        torch.autograd.backward(loss, create_graph=optimizer.create_graph)
        return loss

    optimizer.step(closure)


@pytest.mark.parametrize("drive", [backward_first, closure_with_backward])
@pytest.mark.parametrize("hessian", ["auto", "double_backward"])
def test_every_convention_gives_the_same_bits(
    drive: Callable[[AdaHessian, list[Tensor]], None], hessian: Literal["auto", "double_backward"]
) -> None:
    ours, others = start(*SHAPES), start(*SHAPES)
    options: Options = {"update_each": 2, "hessian": hessian}
    one = AdaHessian(ours, generator=torch.Generator().manual_seed(1), **options)
    two = AdaHessian(others, generator=torch.Generator().manual_seed(1), **options)
    for _ in range(7):
        one.step(lambda: quartic(ours))
        drive(two, others)
    assert all(torch.equal(p, q) for p, q in zip(ours, others, strict=True))
    assert two.reason == ""


def test_create_graph_is_asked_only_when_the_hessian_is_due() -> None:
    params = start((3,))
    optimizer = AdaHessian(params, update_each=3)
    asked = []
    for _ in range(7):
        asked.append(optimizer.create_graph)
        backward_first(optimizer, params)
    assert asked == [True, False, False, True, False, False, True]
    assert not AdaHessian(params, hessian="finite_difference").create_graph


def test_a_step_without_graph_or_closure_is_an_error() -> None:
    params = start((3,))
    torch.autograd.backward(quartic(params))
    with pytest.raises(RuntimeError, match=r"create_graph=optimizer\.create_graph"):
        AdaHessian(params).step()
    with pytest.raises(RuntimeError, match=r"step\(closure\)"):
        AdaHessian(params, hessian="finite_difference").step()


@pytest.mark.parametrize("drive", [backward_first, closure_with_backward])
def test_step_breaks_the_reference_cycle(drive: Callable[[AdaHessian, list[Tensor]], None]) -> None:
    gc.disable()
    try:
        params = start((3,))
        alive = weakref.ref(params[0])
        optimizer = AdaHessian(params)
        for _ in range(2):
            drive(optimizer, params)
        assert params[0].grad is not None
        assert params[0].grad.grad_fn is None
        del params, optimizer
        assert alive() is None  # freed by its reference count alone
    finally:
        gc.enable()


@pytest.mark.parametrize("hessian", ["double_backward", "finite_difference", "auto"])
def test_the_returned_loss_carries_no_graph(
    hessian: Literal["double_backward", "finite_difference", "auto"],
) -> None:
    params = start((3,))
    optimizer = AdaHessian(params, hessian=hessian, update_each=2)

    def with_backward() -> Tensor:
        optimizer.zero_grad()
        loss = quartic(params)
        torch.autograd.backward(loss, create_graph=optimizer.create_graph)
        return loss

    for closure in (lambda: quartic(params), with_backward):
        for _ in range(2):
            loss = optimizer.step(closure)
            assert not loss.requires_grad  # float(loss) would warn, once per process
            float(loss)


@pytest.mark.parametrize("hessian", ["double_backward", "finite_difference"])
def test_parameters_of_another_optimizer_keep_their_gradients(
    hessian: Literal["double_backward", "finite_difference"],
) -> None:
    ours, other = start((3,), (2, 2))
    other.grad = torch.ones_like(other)
    optimizer = AdaHessian([ours], hessian=hessian, update_each=2)
    for _ in range(3):
        optimizer.step(lambda: quartic([ours, other]))
    assert torch.equal(other.grad, torch.ones_like(other))


def physics_loss(net: nn.Module) -> Tensor:
    """A loss that itself differentiates: u'' + u = 0 at some points."""
    x = torch.linspace(0, 1, 16).unsqueeze(1).requires_grad_()
    u = net(x)
    (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (ddu,) = torch.autograd.grad(du.sum(), x, create_graph=True)
    at_zero: Tensor = net(torch.zeros(1, 1)) - 1
    inside: Tensor = (ddu + u).square().mean()
    return inside + at_zero.square().sum()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.core = nn.GRU(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.core(x)[0]
        return out


@pytest.mark.parametrize("hessian", ["double_backward", "finite_difference"])
@pytest.mark.parametrize("kind", ["physics", "recurrent"])
def test_no_tensor_is_left_behind(
    kind: str, hessian: Literal["double_backward", "finite_difference"]
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)) if kind == "physics" else Recurrent()
    x = torch.randn(5, 2, 3)

    def loss() -> Tensor:
        if kind == "physics":
            return physics_loss(net)
        out: Tensor = net(x)
        return out.square().mean()

    optimizer = AdaHessian(net.parameters(), lr=1e-3, hessian=hessian, module=net)

    def tensors() -> int:
        return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    gc.disable()
    try:
        for _ in range(3):
            optimizer.step(loss)
        before = tensors()
        for _ in range(20):
            optimizer.step(loss)
        assert tensors() <= before
    finally:
        gc.enable()


# --- gradients that share memory ---


def test_two_parameters_with_one_gradient_are_unscaled_once() -> None:
    """autograd gives p and q of a loss of p + q the same tensor."""
    p, q = (torch.tensor(x, requires_grad=True) for x in ([1.0, 2.0], [0.5, 1.0]))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    AdaHessian([p, q], scaler=scaler, hessian="double_backward").step(lambda: ((p + q) ** 3).sum())
    for x in (p, q):
        assert x.grad is not None
        assert torch.allclose(x.grad, torch.tensor([6.75, 27.0]))


@pytest.mark.parametrize("hessian", ["double_backward", "finite_difference"])
def test_two_parameters_with_one_gradient_have_curvatures_of_their_own(
    hessian: Literal["double_backward", "finite_difference"],
) -> None:
    p, q = (torch.tensor(x, requires_grad=True) for x in ([1.0, 2.0], [0.5, 1.0]))
    loss = {"one": lambda: ((p + q) ** 2).sum(), "two": lambda: ((p * 1 + q * 1) ** 2).sum()}
    found = []
    for kind in ("one", "two"):
        optimizer = AdaHessian(
            [p, q], 0.0, hessian=hessian, n_samples=3, generator=torch.Generator().manual_seed(0)
        )
        optimizer.step(loss[kind])
        found.append(torch.cat([optimizer.state[x]["exp_hessian_diag_sq"] for x in (p, q)]))
    assert torch.allclose(*found, rtol=1e-3)


@pytest.mark.parametrize("hessian", ["double_backward", "finite_difference"])
def test_a_gradient_that_is_one_number_expanded(
    hessian: Literal["double_backward", "finite_difference"],
) -> None:
    p = torch.ones(3, requires_grad=True)
    optimizer = AdaHessian([p], 0.0, hessian=hessian, generator=torch.Generator().manual_seed(0))
    optimizer.step(lambda: p.sum() ** 2)
    z = 2.0 * torch.randint(0, 2, (3,), generator=torch.Generator().manual_seed(0)) - 1
    d = optimizer.state[p]["exp_hessian_diag_sq"].sqrt() / 0.001**0.5
    assert torch.allclose(d, (2 * z.sum()).abs().expand(3), rtol=1e-2)


# --- zero curvature, missing gradients ---


def test_a_parameter_that_enters_linearly_takes_a_bounded_step() -> None:
    linear, curved = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    optimizer = AdaHessian([linear, curved])
    for _ in range(3):
        optimizer.step(lambda: linear.sum() + (curved**2).sum())
    assert 0.5 < linear.item() < 1  # the plain formula: 1 -> -1499 at the first step


@pytest.mark.parametrize("hessian", ["double_backward", "finite_difference", "auto"])
def test_a_wholly_linear_loss_is_no_error(
    hessian: Literal["double_backward", "finite_difference", "auto"],
) -> None:
    p = torch.ones(3, requires_grad=True)
    optimizer = AdaHessian([p], hessian=hessian)
    optimizer.step(lambda: p.sum() * 2.0)
    assert torch.allclose(p, torch.full_like(p, 0.85), atol=1e-3)
    assert optimizer.reason == ""


def test_the_bound_can_be_switched_off() -> None:
    p = torch.ones(1, requires_grad=True)
    AdaHessian([p], bound_step=False).step(lambda: p.sum())
    assert p.item() == pytest.approx(1 - 0.15 / 1e-4, rel=1e-4)


@pytest.mark.parametrize("hessian", ["double_backward", "finite_difference"])
def test_a_parameter_without_gradient_stays(hessian: Literal["double_backward", "finite_difference"]) -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = AdaHessian([used, unused], hessian=hessian)
    optimizer.step(lambda: (used**2).sum())
    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))


def test_a_first_gradient_between_refreshes_takes_a_bounded_step() -> None:
    early, late = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    optimizer = AdaHessian([early, late], update_each=5)
    optimizer.step(lambda: (early**2).sum())
    optimizer.step(lambda: (early**2).sum() + (late**2).sum())
    assert late.item() == pytest.approx(0.85, abs=1e-3)


def test_without_the_bound_a_first_gradient_between_refreshes_waits() -> None:
    early, late = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    optimizer = AdaHessian([early, late], update_each=3, bound_step=False)
    optimizer.step(lambda: (early**2).sum())
    for _ in range(2):
        optimizer.step(lambda: (early**2).sum() + (late**2).sum())
    assert late.item() == 1
    optimizer.step(lambda: (early**2).sum() + (late**2).sum())
    assert late.item() == pytest.approx(0.85, abs=1e-3)


# --- checkpoints ---


@pytest.mark.parametrize("lr", [0.0, torch.tensor(0.0)], ids=["float", "tensor"])
@pytest.mark.parametrize("hessian", ["double_backward", "finite_difference"])
def test_an_idle_step_makes_the_state_and_counts_nothing(
    hessian: Literal["double_backward", "finite_difference"], lr: float | Tensor
) -> None:
    """torch's distributed checkpoint takes one, at rate 0 with zeros for gradients."""
    params = start((3,), (2, 2))
    scaler = torch.amp.GradScaler("cpu")
    optimizer = AdaHessian(params, lr, hessian=hessian, update_each=3, scaler=scaler)
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert optimizer.hessian_due
    for p in params:
        state = optimizer.state[p]
        assert set(state) == {"step", "exp_avg", "exp_hessian_diag_sq", "hessian_diag"}
        assert not any(t.any() for t in state.values())


def test_a_warm_up_from_zero_is_no_idle_step() -> None:
    params = start((3,))
    optimizer = AdaHessian(params, 0.0)
    backward_first(optimizer, params)
    assert optimizer.state[params[0]]["step"] == 1
    assert optimizer.state[params[0]]["exp_hessian_diag_sq"].all()


@pytest.mark.parametrize("seed", [None, 9])
def test_the_probes_go_on_after_a_checkpoint(seed: int | None) -> None:
    params = start((3,), (2, 2))
    optimizer = AdaHessian(params, generator=torch.Generator().manual_seed(7))
    for _ in range(2):
        optimizer.step(lambda: quartic(params))
    saved = copy.deepcopy(optimizer.state_dict())
    copies = [p.detach().clone().requires_grad_() for p in params]
    for _ in range(3):
        optimizer.step(lambda: quartic(params))
    resumed = AdaHessian(copies, generator=None if seed is None else torch.Generator().manual_seed(seed))
    resumed.load_state_dict(saved)
    for _ in range(3):
        resumed.step(lambda: quartic(copies))
    assert all(torch.equal(p, q) for p, q in zip(params, copies, strict=True))


# --- the difference quotient ---


def classifier(activation: type[nn.Module] = nn.Tanh) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 3))
    return net, torch.randn(32, 6), torch.randint(0, 3, (32,))


def root_h(hessian: Literal["double_backward", "finite_difference"], **options: Any) -> Tensor:
    net, x, y = classifier()
    optimizer = AdaHessian(
        net.parameters(), hessian=hessian, generator=torch.Generator().manual_seed(3), **options
    )
    optimizer.step(lambda: cross_entropy(net(x), y))
    return torch.cat([optimizer.state[p]["exp_hessian_diag_sq"].sqrt().flatten() for p in net.parameters()])


@pytest.mark.parametrize("samples", [1, 4])
def test_the_difference_quotient_is_close_to_the_exact_product(samples: int) -> None:
    exact = root_h("double_backward", n_samples=samples)
    near = root_h("finite_difference", n_samples=samples, fd_step=1e-3)
    assert (near - exact).norm() < 0.01 * exact.norm()


def test_parameters_come_back_to_the_bit() -> None:
    net, x, y = classifier()
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = AdaHessian(net.parameters(), lr=0.0, hessian="finite_difference")
    optimizer.step(lambda: cross_entropy(net(x), y))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))


def test_both_passes_see_the_same_random_numbers() -> None:
    net, x, y = classifier()
    draws = []

    def closure() -> Tensor:
        draws.append(torch.rand(3))
        return cross_entropy(net(x), y)

    optimizer = AdaHessian(net.parameters(), hessian="finite_difference")
    optimizer.step(closure)
    optimizer.step(closure)
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[2], draws[3])
    assert not torch.equal(draws[0], draws[2])


def test_batchnorm_moves_once_per_step() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    x = torch.randn(16, 4)
    optimizer = AdaHessian(net.parameters(), lr=0.0, hessian="finite_difference", module=net, n_samples=2)
    optimizer.step(lambda: net(x).square().mean())
    once = nn.BatchNorm1d(8)
    once(net[0](x))
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.num_batches_tracked == 1
    for name, buffer in once.named_buffers():
        assert torch.equal(norm.get_buffer(name), buffer)


@pytest.mark.parametrize("where", ["around", "inside"])
def test_differences_are_taken_outside_autocast(where: str) -> None:
    exact = root_h("double_backward")
    net, x, y = classifier()
    optimizer = AdaHessian(
        net.parameters(),
        hessian="finite_difference",
        generator=torch.Generator().manual_seed(3),
        module=net,
        fd_step=1e-3,
    )

    def closure() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=where == "inside"):
            return cross_entropy(net(x), y)

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=where == "around"):
        optimizer.step(closure)
    near = torch.cat([optimizer.state[p]["exp_hessian_diag_sq"].sqrt().flatten() for p in net.parameters()])
    assert (near - exact).norm() < 0.02 * exact.norm()


def test_update_each_costs_one_extra_evaluation_per_refresh() -> None:
    net, x, y = classifier()
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        return cross_entropy(net(x), y)

    optimizer = AdaHessian(net.parameters(), hessian="finite_difference", update_each=5)
    for _ in range(10):
        optimizer.step(closure)
    assert calls == 12


def test_the_gradient_left_behind_is_that_of_the_parameters() -> None:
    net, x, y = classifier()
    optimizer = AdaHessian(net.parameters(), lr=0.0, hessian="finite_difference")
    optimizer.step(lambda: cross_entropy(net(x), y))
    left = [p.grad for p in net.parameters()]
    expected = torch.autograd.grad(cross_entropy(net(x), y), list(net.parameters()))
    assert all(g is not None and torch.equal(g, e) for g, e in zip(left, expected, strict=True))


def test_half_precision_parameters_are_refused_by_differences() -> None:
    p = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    with pytest.raises(RuntimeError, match="needs float32 parameters"):
        AdaHessian([p], hessian="finite_difference").step(lambda: (p**2).sum())


# --- "auto" ---


def test_auto_takes_a_gradient_only_closure_by_differences_and_says_why() -> None:
    params = start((3,), (2, 2))
    optimizer = AdaHessian(params, generator=torch.Generator().manual_seed(1))
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = quartic(params)
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)
    optimizer.step(closure)
    assert "no graph" in optimizer.reason
    assert calls == 3 + 2
    with pytest.raises(RuntimeError, match="no graph"):
        AdaHessian(params, hessian="double_backward").step(closure)


class Undifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.mul(x, g) * 2


def test_auto_falls_back_where_a_second_derivative_is_missing() -> None:
    p = torch.full((3,), 2.0, requires_grad=True)
    optimizer = AdaHessian([p])
    once: Any = Undifferentiable
    optimizer.step(lambda: once.apply(p).square().sum())
    assert "differentiable once" in optimizer.reason
    d = optimizer.state[p]["exp_hessian_diag_sq"].sqrt() / 0.001**0.5
    assert torch.allclose(d, torch.full((3,), 12 * 2.0**2), rtol=1e-2)


def test_attention_is_differentiated_by_its_math_kernel() -> None:
    q = torch.randn(1, 2, 8, 4).requires_grad_()
    optimizer = AdaHessian([q], hessian="double_backward")
    optimizer.step(lambda: scaled_dot_product_attention(q, q, q).square().sum())
    with optimizer.graph_context():
        loss = scaled_dot_product_attention(q, q, q).square().sum()
        torch.autograd.backward(loss, create_graph=optimizer.create_graph)
    optimizer.step()
    assert torch.isfinite(q).all()


def test_a_compiled_model_is_refused_or_taken_by_differences() -> None:
    net, x, y = classifier()
    compiled = torch.compile(net, backend="aot_eager")
    with pytest.raises(RuntimeError, match="compiled model"):
        AdaHessian(net.parameters(), hessian="double_backward").step(lambda: cross_entropy(compiled(x), y))
    optimizer = AdaHessian(net.parameters())
    optimizer.step(lambda: cross_entropy(compiled(x), y))
    assert "compiled model" in optimizer.reason


# --- GradScaler ---


@pytest.mark.parametrize("hessian", ["double_backward", "finite_difference"])
def test_a_scaled_loss_gives_the_unscaled_step(
    hessian: Literal["double_backward", "finite_difference"],
) -> None:
    plain, x, y = classifier()
    scaled, _, _ = classifier()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    one = AdaHessian(plain.parameters(), hessian=hessian, generator=torch.Generator().manual_seed(1))
    two = AdaHessian(
        scaled.parameters(), hessian=hessian, generator=torch.Generator().manual_seed(1), scaler=scaler
    )
    for _ in range(3):
        one.step(lambda: cross_entropy(plain(x), y))
        two.step(lambda: cross_entropy(scaled(x), y))
        scaler.update()
    for p, q in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


def test_scaler_step_works_after_a_scaled_backward() -> None:
    plain, scaled = start((3,)), start((3,))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    one = AdaHessian(plain, generator=torch.Generator().manual_seed(1))
    two = AdaHessian(scaled, generator=torch.Generator().manual_seed(1), scaler=scaler)
    for _ in range(3):
        one.step(lambda: quartic(plain))
        two.zero_grad()
        with two.graph_context():
            torch.autograd.backward(scaler.scale(quartic(scaled)), create_graph=two.create_graph)
        scaler.step(two)
        scaler.update()
    assert torch.allclose(plain[0], scaled[0], rtol=1e-9)


def test_an_overflow_skips_the_step_and_lowers_the_scale() -> None:
    p = torch.ones(2, requires_grad=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = AdaHessian([p], scaler=scaler, update_each=2)
    optimizer.step(lambda: (p**2 * float("inf")).sum())
    scaler.update()
    assert torch.equal(p, torch.ones(2))
    assert scaler.get_scale() == 512.0
    assert optimizer.hessian_due  # the skipped step does not count


# --- what it is for ---


def test_it_beats_adam_on_an_ill_conditioned_quadratic() -> None:
    scales = torch.logspace(-4, 0, 20, dtype=torch.float64)

    def loss(p: Tensor) -> Tensor:
        return 0.5 * (scales * p**2).sum()

    final = {}
    for name in ("adahessian", "adam"):
        p = torch.full((20,), 10.0, dtype=torch.float64, requires_grad=True)
        if name == "adahessian":
            optimizer: Any = AdaHessian([p], lr=0.15, eps=1e-8)
        else:
            optimizer = torch.optim.Adam([p], lr=0.15)

        def closure(p: Tensor = p, optimizer: Any = optimizer) -> Tensor:
            value = loss(p)
            if isinstance(optimizer, torch.optim.Adam):
                optimizer.zero_grad()
                torch.autograd.backward(value)
            return value

        for _ in range(200):
            optimizer.step(closure)
        final[name] = loss(p).item()
    assert final["adahessian"] < 0.1 * final["adam"]
