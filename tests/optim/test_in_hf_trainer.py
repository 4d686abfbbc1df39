"""Our optimizers in real runs of Hugging Face's Trainer, on a GPT-2 built from scratch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autoopt.optim.adahessian import AdaHessian
from autoopt.optim.adan import Adan
from autoopt.optim.sgd_sai import SGDSaI

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

VOCABULARY, LENGTH = 16, 8


class ExactTrainer(transformers.Trainer):  # type: ignore[misc]
    """The recipe for the exact way: the backward keeps its graph where the optimizer asks for it."""

    def training_step(self, *arguments: Any, **options: Any) -> Tensor:
        optimizer = self.optimizer.optimizer  # within Accelerate's wrapper
        plain = self.accelerator.backward
        self.accelerator.backward = partial(plain, create_graph=optimizer.create_graph)
        try:
            with optimizer.graph_context():
                return super().training_step(*arguments, **options)
        finally:
            self.accelerator.backward = plain


class DifferenceTrainer(transformers.Trainer):  # type: ignore[misc]
    """The recipe for differences: the step evaluates its batches again, as often as it needs."""

    def create_optimizer(self, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(*arguments, **options)
        self.batches: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        optimizer.register_step_pre_hook(self.with_closure)
        return optimizer

    def training_step(self, *arguments: Any, **options: Any) -> Tensor:
        self.batches.append((arguments, options))
        return super().training_step(*arguments, **options)

    def with_closure(self, optimizer: AdaHessian, *_: Any) -> Any:
        batches, self.batches = self.batches, []

        def closure() -> Tensor:
            optimizer.zero_grad()
            step = super(DifferenceTrainer, self).training_step
            return torch.stack([step(*arguments, **options) for arguments, options in batches]).sum()

        return ((optimizer, closure), {}) if optimizer.hessian_due else None


class Handed(transformers.Trainer):  # type: ignore[misc]
    """The Trainer as it comes, for the optimizers that need no recipe."""


def model() -> Any:
    config = transformers.GPT2Config(
        n_layer=1,
        n_head=2,
        n_embd=16,
        vocab_size=VOCABULARY,
        n_positions=LENGTH,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config)


def samples(count: int = 64) -> list[dict[str, Tensor]]:
    """Sequences that count upwards from anywhere."""
    starts = torch.randint(0, VOCABULARY, (count,), generator=torch.Generator().manual_seed(1))
    rows = (starts[:, None] + torch.arange(LENGTH)) % VOCABULARY
    return [{"input_ids": row, "labels": row} for row in rows]


def curved(net: Any, hessian: str, **options: Any) -> AdaHessian:
    settings: dict[str, Any] = {"lr": 0.05, "eps": 1e-2} | options
    generator = torch.Generator().manual_seed(3)
    return AdaHessian(net.parameters(), hessian=hessian, module=net, generator=generator, **settings)


Way = tuple[Callable[..., torch.optim.Optimizer], Any]
WAYS: dict[str, Way] = {
    "Adan": (lambda net: Adan(net.parameters(), lr=2e-2), Handed),
    "SGDSaI": (lambda net: SGDSaI(net.parameters(), lr=3e-2), Handed),
    "exact": (lambda net: curved(net, "double_backward"), ExactTrainer),
    "auto": (lambda net: curved(net, "auto"), ExactTrainer),
    "difference": (lambda net: curved(net, "finite_difference", max_grad_norm=1.0), DifferenceTrainer),
}


def trainer(way: Way, tmp_path: Path, **options: Any) -> Any:
    settings: dict[str, Any] = {
        "output_dir": str(tmp_path),
        "use_cpu": True,
        "max_steps": 12,
        "per_device_train_batch_size": 8,
        "max_grad_norm": 0.0 if way[1] is DifferenceTrainer else 1.0,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "warmup_steps": 2,
        "seed": 0,
    }
    net = model()
    arguments = transformers.TrainingArguments(**settings | options)
    return way[1](model=net, args=arguments, train_dataset=samples(), optimizers=(way[0](net), None))


def weights(net: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def mean_loss(net: Any) -> float:
    rows = torch.stack([sample["input_ids"] for sample in samples()])
    with torch.no_grad():
        return float(net(input_ids=rows, labels=rows).loss)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("way", WAYS)
def test_it_learns(way: str, bf16: bool, tmp_path: Path) -> None:
    run = trainer(WAYS[way], tmp_path, bf16=bf16, max_steps=24)
    before = mean_loss(run.model)
    outcome = run.train()
    assert outcome.global_step == 24
    assert mean_loss(run.model) < before - 0.1
    assert all(p.dtype == torch.float32 for p in run.model.parameters())


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_run_has_the_same_bits(way: str, tmp_path: Path) -> None:
    whole = trainer(WAYS[way], tmp_path, save_strategy="steps", save_steps=6)
    whole.train()
    second = trainer(WAYS[way], tmp_path)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert torch.equal(weights(whole.model), weights(second.model))


@pytest.mark.parametrize("way", WAYS)
def test_accumulated_batches_are_one_batch(way: str, tmp_path: Path) -> None:
    whole = trainer(WAYS[way], tmp_path, max_steps=4)
    parts = trainer(
        WAYS[way], tmp_path, max_steps=4, per_device_train_batch_size=4, gradient_accumulation_steps=2
    )
    for run in (whole, parts):
        run.train()
    start = weights(model())
    moved, apart = weights(whole.model) - start, weights(whole.model) - weights(parts.model)
    assert apart.norm() < 0.02 * moved.norm()


@pytest.mark.parametrize("way", ["Adan", "SGDSaI", "exact", "auto"])
def test_the_trainer_clips_before_the_step(way: str, tmp_path: Path) -> None:
    run = trainer(WAYS[way], tmp_path, max_steps=3, max_grad_norm=1e-3)
    norms: list[float] = []

    def note(*_: Any) -> None:
        norms.append(torch.cat([p.grad.flatten() for p in run.model.parameters()]).norm().item())

    run.optimizer.register_step_post_hook(note)
    run.train()
    assert norms == pytest.approx([1e-3] * 3, rel=1e-2)


def test_the_way_of_differences_follows_the_exact_one(tmp_path: Path) -> None:
    def quiet(hessian: str) -> Callable[..., torch.optim.Optimizer]:
        return lambda net: curved(net, hessian, max_grad_norm=1.0, update_each=2, lr=0.02, eps=0.1)

    runs = [
        trainer((quiet("double_backward"), ExactTrainer), tmp_path, max_grad_norm=0.0),
        trainer((quiet("finite_difference"), DifferenceTrainer), tmp_path),
    ]
    for run in runs:
        run.train()
    start, exact, near = weights(model()), *(weights(run.model) for run in runs)
    assert (near - exact).norm() < 0.2 * (exact - start).norm()


@pytest.mark.parametrize(
    ("hessian", "message"), [("auto", "create_graph"), ("finite_difference", "step\\(closure\\)")]
)
def test_without_a_recipe_it_is_refused_with_the_cure(hessian: str, message: str, tmp_path: Path) -> None:
    run = trainer((lambda net: curved(net, hessian), Handed), tmp_path)
    with pytest.raises(RuntimeError, match=message):
        run.train()


def test_a_subclass_may_make_the_optimizer(tmp_path: Path) -> None:
    class OwnTrainer(transformers.Trainer):  # type: ignore[misc]
        def create_optimizer(self, *_: Any) -> torch.optim.Optimizer:
            self.optimizer = Adan(self.model.parameters(), lr=2e-2)
            return self.optimizer

    run, handed = (trainer((WAYS["Adan"][0], kind), tmp_path) for kind in (OwnTrainer, Handed))
    run.optimizer = None
    for each in (run, handed):
        each.train()
    assert torch.equal(weights(run.model), weights(handed.model))
