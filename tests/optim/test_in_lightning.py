"""Our optimizers in real runs of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from autoopt.optim.adahessian import AdaHessian
from autoopt.optim.adan import Adan
from autoopt.optim.sgd_sai import SGDSaI

lightning = pytest.importorskip("lightning")

# Lightning says how the input could be faster, and what it does without a GPU or a logger.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec"),
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*dataloader is not resumable"),
]

Make = Callable[["Net"], torch.optim.Optimizer]


class Net(lightning.LightningModule):  # type: ignore[misc]
    """A regression net with dropout, so that random numbers matter."""

    def __init__(self, make: Make, halve: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 2))
        self.make, self.halve = make, halve
        self.losses: list[float] = []
        self.loader = batches()
        self.rates: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        loss = F.mse_loss(self(batch[0]).float(), batch[1])
        self.losses.append(loss.item())
        return loss

    def on_train_batch_start(self, *_: Any) -> None:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = self.make(self)
        if not self.halve:
            return optimizer
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Exact(Net):
    """The recipe for the exact way: the backward keeps its graph where the optimizer asks for it."""

    def backward(self, loss: Tensor) -> None:
        optimizer = self.trainer.optimizers[0]
        with optimizer.graph_context():
            loss.backward(create_graph=optimizer.create_graph)


def batches(count: int = 8, size: int = 16) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count * size, 6, generator=generator)
    y = torch.stack([x.sum(1), x[:, 0] * x[:, 1]], 1)
    return DataLoader(TensorDataset(x, y), batch_size=size)


def fit(net: Net, tmp_path: Path, *, resume: Path | None = None, **options: Any) -> Any:
    settings = {
        "max_steps": 40,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": tmp_path,
    }
    trainer = lightning.Trainer(**settings | options)
    net.train()
    torch.manual_seed(2)
    # Checkpoints hold Lightning's own classes too.
    kwargs = {"ckpt_path": resume, "weights_only": False} if resume else {}
    trainer.fit(net, net.loader, **kwargs)
    return trainer


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def adan(net: Net) -> torch.optim.Optimizer:
    return Adan(net.parameters(), lr=1e-2)


def sai(net: Net) -> torch.optim.Optimizer:
    return SGDSaI(net.parameters(), lr=1e-2)


def curved(hessian: str, **options: Any) -> Make:
    def make(net: Net) -> torch.optim.Optimizer:
        generator = torch.Generator().manual_seed(3)
        rest: Any = {"hessian": hessian, "module": net, "generator": generator, "eps": 1e-2, **options}
        return AdaHessian(net.parameters(), lr=0.05, **rest)

    return make


WAYS: dict[str, Callable[[], Net]] = {
    "Adan": lambda: Net(adan),
    "SGDSaI": lambda: Net(sai),
    "exact": lambda: Exact(curved("double_backward")),
    "auto": lambda: Exact(curved("auto")),
    "difference": lambda: Net(curved("finite_difference", update_each=2)),
    "auto, as Lightning comes": lambda: Net(curved("auto")),
}
FIRST_ORDER = ("Adan", "SGDSaI")


@pytest.mark.parametrize("way", WAYS)
def test_it_learns(way: str, tmp_path: Path) -> None:
    net = WAYS[way]()
    fit(net, tmp_path)
    assert sum(net.losses[-8:]) < 0.7 * sum(net.losses[:8])


def test_auto_says_that_lightnings_own_backward_keeps_no_graph(tmp_path: Path) -> None:
    net = Net(curved("auto"))
    trainer = fit(net, tmp_path, max_steps=2)
    assert "graph" in trainer.optimizers[0].reason


def test_the_exact_way_without_its_recipe_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="create_graph"):
        fit(Net(curved("double_backward")), tmp_path, max_steps=2)


@pytest.mark.parametrize("way", WAYS)
def test_the_trainer_gives_what_a_plain_loop_gives(way: str, tmp_path: Path) -> None:
    net, plain = WAYS[way](), WAYS[way]()
    fit(net, tmp_path, max_steps=8)
    optimizer = plain.make(plain)
    torch.manual_seed(2)
    next(iter(batches()))  # Lightning's loader draws a seed too
    torch.manual_seed(2)
    loader = iter(batches())
    for x, y in loader:

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = F.mse_loss(plain(x), y)
            if not isinstance(plain, Exact):
                loss.backward()
            return loss

        optimizer.step(closure)
    torch.testing.assert_close(weights(net), weights(plain), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_run_has_the_same_bits(way: str, tmp_path: Path) -> None:
    whole, first, second = WAYS[way](), WAYS[way](), WAYS[way]()
    for net in (whole, first, second):
        net.net[2].p = 0.0  # Lightning does not keep the state of the random generators
    # By epochs: Lightning resumes at the end of one, and not where max_steps has stopped it.
    fit(whole, tmp_path, max_steps=-1, max_epochs=2)
    trainer = fit(first, tmp_path, max_steps=-1, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    fit(second, tmp_path, max_steps=-1, max_epochs=2, resume=tmp_path / "half.ckpt")
    assert torch.equal(weights(whole), weights(second))
    assert not torch.equal(weights(whole), weights(first))


@pytest.mark.parametrize("way", WAYS)
def test_a_schedule_moves_the_rate_once_per_step(way: str, tmp_path: Path) -> None:
    net = WAYS[way]()
    net.halve = True
    fit(net, tmp_path, max_steps=4)
    assert net.rates == [net.rates[0] * 0.5**n for n in range(4)]


@pytest.mark.parametrize("way", WAYS)
def test_it_learns_under_bf16_mixed(way: str, tmp_path: Path) -> None:
    net = WAYS[way]()
    fit(net, tmp_path, precision="bf16-mixed")
    assert sum(net.losses[-8:]) < 0.7 * sum(net.losses[:8])
    assert all(p.dtype == torch.float32 for p in net.parameters())


@pytest.mark.parametrize("way", [*FIRST_ORDER, "exact", "auto"])
def test_the_trainer_clips_before_the_step(way: str, tmp_path: Path) -> None:
    net, limit = WAYS[way](), 1e-3
    norms: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        norms.append(
            torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).norm().item()
        )

    plain = net.make

    def make(_: Net) -> torch.optim.Optimizer:
        optimizer = plain(net)
        optimizer.register_step_post_hook(note)
        return optimizer

    net.make = make
    fit(net, tmp_path, max_steps=4, gradient_clip_val=limit)
    assert len(norms) == 4
    assert all(norm == pytest.approx(limit, rel=1e-3) for norm in norms)


def test_with_differences_the_optimizer_clips(tmp_path: Path) -> None:
    make = curved("finite_difference")
    free, bound, tight = Net(make), Net(curved("finite_difference", max_grad_norm=1e-3)), Net(make)
    for net in (free, bound):
        fit(net, tmp_path, max_steps=1)
    fit(tight, tmp_path, max_steps=1, gradient_clip_val=1e-3)
    state = [{k: v["exp_hessian_diag_sq"] for k, v in _state(net).items()} for net in (free, bound, tight)]
    # Clipped by the optimizer, the curvature is the loss's. Clipped by the Trainer, within the closure, it is
    # a tiny fraction of it: the difference of two gradients of equal length.
    for name in state[0]:
        torch.testing.assert_close(state[0][name], state[1][name])
    assert sum(s.sum() for s in state[2].values()) < 1e-4 * sum(s.sum() for s in state[0].values())


def _state(net: Net) -> dict[str, Any]:
    names = {p: name for name, p in net.named_parameters()}
    return {names[p]: state for p, state in net.trainer.optimizers[0].state.items()}


def test_differences_are_taken_in_float32_under_bf16_mixed(tmp_path: Path) -> None:
    nets = [Net(curved("finite_difference")) for _ in range(2)]
    for net, precision in zip(nets, ("32-true", "bf16-mixed"), strict=True):
        fit(net, tmp_path, max_steps=2, precision=precision)
    assert torch.equal(weights(nets[0]), weights(nets[1]))


@pytest.mark.parametrize("way", FIRST_ORDER)
def test_two_accumulated_halves_are_one_batch(way: str, tmp_path: Path) -> None:
    whole, halves = WAYS[way](), WAYS[way]()
    for net, size, accumulate in ((whole, 16, 1), (halves, 8, 2)):
        net.net[2].p = 0.0
        net.loader = batches(128 // size, size)
        fit(net, tmp_path, max_steps=4, accumulate_grad_batches=accumulate)
    torch.testing.assert_close(weights(whole), weights(halves), rtol=1e-3, atol=1e-4)


class Accumulated(Net):
    """The recipe for several batches a step: one closure over all of them, so that it can be run again."""

    def __init__(self, make: Make) -> None:
        super().__init__(make)
        self.automatic_optimization = False
        self.waiting: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self.waiting.append(batch)
        if len(self.waiting) < 2:
            return
        optimizer = self.optimizers()

        def closure() -> Tensor:
            optimizer.zero_grad()
            losses = [F.mse_loss(self(x), y) / len(self.waiting) for x, y in self.waiting]
            return torch.stack(losses).sum()

        optimizer.step(closure)
        self.waiting.clear()


@pytest.mark.parametrize("hessian", ["double_backward", "finite_difference", "auto"])
def test_two_halves_in_one_closure_are_one_batch(hessian: str, tmp_path: Path) -> None:
    make = curved(hessian, fd_step=1e-2)  # a long way, on which the order of sums does not matter
    whole = (Net if hessian == "finite_difference" else Exact)(make)
    halves = Accumulated(make)
    for net, size in ((whole, 16), (halves, 8)):
        net.net[2].p = 0.0
        net.loader = batches(128 // size, size)
        fit(net, tmp_path, max_steps=4)
    torch.testing.assert_close(weights(whole), weights(halves), rtol=5e-3, atol=5e-4)
