"""The loss falls, the same way each time; half batches, shared weights and the state's size are right."""

from __future__ import annotations

import torch
from torch import nn

from autoopt.optim.build import state_bytes
from autoopt.optim.spec import Need
from tests.optim.conformance.cases import Case, close, net, regression, same
from tests.optim.conformance.deviations import conforms, demand


@conforms("a convex loss falls")
def test_a_convex_loss_falls(case: Case) -> None:
    start = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    p = start.clone().requires_grad_()
    curvature = torch.logspace(-1, 1, 5)
    optimizer = case.make([p])

    def loss() -> torch.Tensor:
        return 0.5 * (curvature * p.square()).sum()

    losses = [case.step(optimizer, loss) for _ in range(200)]
    demand(losses[-1] < 0.8 * losses[0], f"the loss went from {losses[0]:.3g} to {losses[-1]:.3g}")


@conforms("a net's loss falls")
def test_a_nets_loss_falls_as_the_product_builds_it(case: Case) -> None:
    model = net()
    optimizer = case.build(model)
    losses = [case.step(optimizer, regression(model)) for _ in range(80)]
    demand(losses[-1] < 0.5 * losses[0], f"the loss went from {losses[0]:.3g} to {losses[-1]:.3g}")


@conforms("determinism")
def test_two_runs_have_the_same_bits(case: Case) -> None:
    ends = []
    for _ in range(2):
        model = net()
        optimizer = case.build(model)
        torch.manual_seed(5)
        for _ in range(5):
            case.step(optimizer, regression(model))
        ends.append(list(model.parameters()))
    demand(same(*ends), "two runs with the same seed differ")


@conforms("gradient accumulation")
def test_two_half_batches_are_one_whole(case: Case) -> None:
    halves, whole = net(torch.float64), net(torch.float64)
    dtype = torch.float64
    parts = [regression(halves, slice(0, 32), dtype), regression(halves, slice(32, 64), dtype)]
    one, two = case.build(whole), case.build(halves)
    torch.manual_seed(5)
    for _ in range(4):
        case.step(one, regression(whole, dtype=dtype))
    torch.manual_seed(5)
    for _ in range(4):
        if case.second_order:
            two.step(lambda: (parts[0]() + parts[1]()) / 2)
            continue
        two.zero_grad()
        for part in parts:
            (part() / 2).backward()
        two.step()
    demand(close(halves.parameters(), whole.parameters(), 1e-6), "two halves give another result")


class Tied(nn.Module):
    """An embedding whose weight is the output layer's too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(6, 8)
        self.hidden = nn.Linear(8, 8)
        self.out = nn.Linear(8, 6, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.hidden(self.embedding(x)).tanh())  # type: ignore[no-any-return]


@conforms("tied weights")
def test_a_weight_used_twice_is_moved_once(case: Case) -> None:
    model = Tied()
    optimizer = case.build(model)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    demand(len(held) == len({id(p) for p in held}) == 3, "the shared weight is held twice")
    x = torch.arange(6)
    losses = [
        case.step(optimizer, lambda: nn.functional.cross_entropy(model(x), (x + 1) % 6)) for _ in range(80)
    ]
    demand(losses[-1] < 0.8 * losses[0], f"the loss went from {losses[0]:.3g} to {losses[-1]:.3g}")
    demand(model.out.weight is model.embedding.weight, "the weight is no longer shared")


KEPT = {"sgd_sai-bare": 0, "adahessian-lazy": 3}
"""Full-size tensors where a variant has others than its optimizer's row of the table."""


@conforms("size of the state")
def test_the_state_is_as_large_as_the_table_says(case: Case) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 1))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.01)  # Prodigy keeps no copy of what starts at zero
    optimizer = case.build(model)
    for _ in range(2):
        case.step(optimizer, regression(model))
    size = sum(4 * p.numel() for p in model.parameters())
    got, expected = state_bytes(optimizer), KEPT.get(case.name, case.spec.state_tensors) * size
    scalars = 16 * len(list(model.parameters()))  # a step count, a ratio
    if Need.MATRICES_ONLY in case.spec.needs:
        rest = [p for group in optimizer.param_groups if not group["matrices"] for p in group["params"]]
        expected += sum(4 * p.numel() for p in rest)  # AdamW keeps a second tensor there
    low = 0 if case.spec.state_tensors < 1 else expected - scalars  # rows and columns: a bound
    message = f"{got / size:.3f} tensors instead of {expected / size:.3f}"
    demand(low <= got <= expected + scalars, message)
