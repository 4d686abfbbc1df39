"""A small net, recommendations for it, and the steps that `Recommendation.build` takes: what snippets are held to."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoopt.optim import registry
from autoopt.optim._curvature import CurvatureOptimizer
from autoopt.optim.groups import records, split
from autoopt.records import Recommendation
from autoopt.training import second_order, set_mode
from tests.report import factory

OPTIMIZERS = ("adamw", "sgd", "muon", "adan", "adahessian", "sgd_sai", "schedule_free_adamw")
STEPS, SIZE = 6, 4
CLIP = 0.5
"""Low enough that every step's gradient is clipped."""


class Net(nn.Module):
    """Hidden matrices, a normalization, biases: something for each parameter group."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)
        )

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": F.mse_loss(self.net(x), labels)}


def samples() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS * SIZE, 6, generator=generator)
    return [{"x": row, "labels": torch.stack([row.sum(), row[0] * row[1]])} for row in x]


def batches() -> list[dict[str, Tensor]]:
    rows = samples()
    parts = [rows[i : i + SIZE] for i in range(0, len(rows), SIZE)]
    return [{key: torch.stack([row[key] for row in part]) for key in part[0]} for part in parts]


def recommend(name: str, **changes: Any) -> Recommendation:
    """`name` at its defaults, with clipping, warm-up and weight decay on what is to be decayed."""
    spec = registry.get(name)
    groups = records(split(Net()))
    choice = factory.choice(
        optimizer=name,
        class_=spec.target,
        arguments=dict(spec.defaults),
        hyper=spec.start(),
        groups=groups,
        schedule="cosine",
        warmup_steps=2,
        steps=STEPS,
    )
    trainable = sum(group.parameters for group in groups)
    values: dict[str, Any] = {
        "recommendation": choice,
        "settings": factory.settings(steps=STEPS, clip=CLIP),
        "workload": factory.workload(trainable=trainable, samples_per_batch=SIZE, batches_per_epoch=2),
    }
    return factory.recommendation(**values | changes)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def prepared(optimizer: Any) -> Any:
    """The optimizer with random numbers of its own: frameworks draw from torch's."""
    if isinstance(optimizer, CurvatureOptimizer):
        optimizer.generator = torch.Generator().manual_seed(3)
    return optimizer


def noted(optimizer: Any, model: nn.Module) -> list[Tensor]:
    """A list that gets the weights after each step of `optimizer`."""
    seen: list[Tensor] = []
    optimizer.register_step_post_hook(lambda *_: seen.append(weights(model)))
    return seen


def loop(
    model: nn.Module, optimizer: Any, after_step: Callable[[], Any], *, clip: float | None = CLIP
) -> list[Tensor]:
    """The weights after each step, taken as a plain training loop takes them."""
    seen = noted(prepared(optimizer), model)
    set_mode(optimizer, training=True)
    for batch in batches():
        optimizer.zero_grad()
        if isinstance(optimizer, CurvatureOptimizer):
            optimizer.step(lambda batch=batch: model(**batch)["loss"])
        else:
            model(**batch)["loss"].backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
        after_step()
    return seen


def built(rec: Recommendation) -> list[Tensor]:
    """The steps of `rec.build`, with clipping as in trials."""
    model = Net()
    optimizer, scheduler = rec.build(model)
    if isinstance(optimizer, CurvatureOptimizer):
        second_order(optimizer, model, rec.settings.clip, None)
    return loop(model, optimizer, scheduler.step, clip=rec.settings.clip)


def same(found: list[Tensor], expected: list[Tensor], *, atol: float = 0.0) -> None:
    """Step by step to the last bit, unless a tolerance is given; every step moves."""
    assert len(found) == len(expected) == STEPS
    for step, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=atol, msg=lambda m, s=step: f"step {s}: {m}")
    assert all(not torch.equal(a, b) for a, b in pairwise(found))
