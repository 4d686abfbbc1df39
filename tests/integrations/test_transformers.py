"""What is recommended, trained by a real Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoopt.errors import UsageError
from autoopt.integrations.transformers import Recommended, build, use
from autoopt.optim import _curvature
from autoopt.records import Flags, Recommendation, TrialResult, TrialSpec
from autoopt.trials.execute import execute
from autoopt.workload import from_callables
from tests.report.factory import recommendation
from tests.workload import trainers
from tests.workload.trainers import transformers

STEPS = 8


class Trainer(Recommended, transformers.Trainer):  # type: ignore[misc]
    """The mixin with nothing beside it."""


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def advice(optimizer: str, rate: float, *, kind: str = "callables", **options: Any) -> Recommendation:
    """A recommendation of `STEPS` steps of that optimizer."""
    from autoopt.optim import registry

    spec = registry.get(optimizer)
    hyper = {**spec.start(), "lr": rate, **options}
    made = recommendation()
    choice = made.recommendation.model_copy(
        update={
            "optimizer": optimizer,
            "class_": spec.target,
            "arguments": spec.arguments({k: v for k, v in hyper.items() if k != "clip"}),
            "hyper": hyper,
            "schedule": "constant" if "schedule" in optimizer else "linear",
            "warmup_steps": 0,
            "steps": STEPS,
        }
    )
    settings = made.settings.model_copy(update={"steps": STEPS, "clip": 1.0, "schedule": "linear"})
    workload = made.workload.model_copy(update={"kind": kind})
    return made.model_copy(update={"recommendation": choice, "settings": settings, "workload": workload})


def ours(folder: Path, optimizer: str, rate: float, **options: Any) -> tuple[Tensor, TrialResult]:
    """Weights and result of our own loop, in the order of the data set."""
    trainer = trainers.language(folder, max_steps=STEPS, train_sampling_strategy="sequential", **options)
    from autoopt.optim import registry

    workload = from_callables(model=trainer, flags=Flags())
    spec = registry.get(optimizer)
    hyper = {**spec.start(), "lr": rate}
    result = list(
        execute(
            workload, TrialSpec(id=0, stage="race", optimizer=optimizer, hyper=hyper, steps=STEPS, seed=0)
        )
    )[-1]
    found = weights(workload.model)
    workload.close()
    assert isinstance(result, TrialResult)
    return found, result


WAYS: dict[str, tuple[str, float, dict[str, Any]]] = {
    "AdamW": ("adamw", 1e-2, {}),
    "Adan, accumulated": (
        "adan",
        1e-2,
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    ),
    "schedule-free": ("schedule_free_adamw", 1e-2, {}),
    "AdaHessian": ("adahessian", 0.05, {}),
    "AdaHessian, accumulated": (
        "adahessian",
        0.05,
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_trainer_reaches_what_a_trial_reached(
    way: tuple[str, float, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # AdaHessian's probes: the same for both, as else their noise hides everything.
    monkeypatch.setattr(_curvature, "shared_generator", lambda: torch.Generator().manual_seed(3))
    name, rate, options = way
    found, result = ours(tmp_path, name, rate, **options)
    trainer = trainers.language(
        tmp_path, Trainer, max_steps=STEPS, train_sampling_strategy="sequential", **options
    )
    before = weights(trainer.model)
    assert use(advice(name, rate), trainer) is trainer
    trainer.train()
    moved = (found - before).norm()
    assert (weights(trainer.model) - found).norm() < 1e-3 * moved
    # Ours weighs by tokens, a Trainer by samples.
    assert trainer.evaluate()["eval_loss"] == pytest.approx(result.loss, rel=0.05)


def test_by_differences_where_the_loss_cannot_be_differentiated_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad

    class Opaque(Trainer):
        def compute_loss(self, model: nn.Module, inputs: Any, *_: Any, num_items_in_batch: Any = None) -> Any:
            logits = Once.apply(model(**inputs).logits)
            return model.loss_function(  # type: ignore[operator]
                logits, inputs["labels"], trainers.VOCABULARY, num_items_in_batch=num_items_in_batch
            )

    monkeypatch.setattr(_curvature, "shared_generator", lambda: torch.Generator().manual_seed(3))
    runs = []
    for kind in (Trainer, Opaque):
        trainer = trainers.language(tmp_path, kind, max_steps=STEPS, train_sampling_strategy="sequential")
        use(advice("adahessian", 0.05), trainer)
        outcome = trainer.train()
        runs.append((weights(trainer.model), outcome.training_loss, trainer.optimizer.optimizer.reason))
    (exact, loss, none), (near, close, reason) = runs
    assert none == ""
    assert "differentiable once only" in reason
    assert close == pytest.approx(loss, rel=0.05)
    assert not torch.equal(near, exact)


def test_a_checkpoint_holds_the_weights_that_are_to_be_used(tmp_path: Path) -> None:
    """Schedule-free trains others; the run that goes on from a checkpoint ends with the same."""
    runs = []
    for resume in (None, str(tmp_path / "checkpoint-4")):
        trainer = trainers.language(tmp_path, Trainer, max_steps=STEPS, save_strategy="steps", save_steps=4)
        use(advice("schedule_free_adamw", 1e-2), trainer)
        trainer.train(resume_from_checkpoint=resume)
        runs.append(weights(trainer.model))
    assert torch.allclose(runs[0], runs[1], atol=1e-6)
    saved = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "checkpoint-8")
    assert torch.equal(weights(saved), runs[1])


def test_a_model_init_trains_with_it_too(tmp_path: Path) -> None:
    trainer = Trainer(
        recommendation=advice("adan", 1e-2, clip=0.25),
        model_init=trainers.gpt,
        args=trainers.arguments(tmp_path, max_steps=STEPS),
        train_dataset=trainers.sentences(),
        data_collator=trainers.collate,
    )
    trainer.train()
    assert type(trainer.optimizer.optimizer).__name__ == "Adan"
    held = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in trainer.model.parameters()}
    assert trainer.args.max_grad_norm == 0.25


def test_a_plain_trainer_takes_what_needs_no_help(tmp_path: Path) -> None:
    trainer = trainers.language(tmp_path, max_steps=STEPS)
    trainer.train()
    plain = use(advice("adan", 1e-2), trainers.language(tmp_path, max_steps=STEPS))
    assert plain.train().global_step == STEPS
    for name in ("adahessian", "schedule_free_adamw"):
        with pytest.raises(UsageError, match=r"Trainer does not do what .* needs") as caught:
            use(advice(name, 1e-2), trainers.language(tmp_path))
        assert "Recommended, Trainer" in caught.value.hint


def test_without_a_recommendation_it_is_the_trainer_that_it_was(tmp_path: Path) -> None:
    runs = [trainers.language(tmp_path, kind, max_steps=4) for kind in (Trainer, transformers.Trainer)]
    for run in runs:
        run.train()
    assert torch.equal(*(weights(run.model) for run in runs))


def test_adahessian_with_fp16_is_refused(tmp_path: Path) -> None:
    trainer = trainers.language(tmp_path, Trainer)
    trainer.args.fp16 = True
    use(advice("adahessian", 0.05), trainer)
    with pytest.raises(UsageError, match="AdaHessian cannot be trained with fp16"):
        trainer.create_optimizer()


def test_what_is_kept_of_the_users_own_comes_from_the_trainer(tmp_path: Path) -> None:
    """A recommendation from a file knows the groups, and not the Trainer that makes them."""
    trainer = trainers.language(tmp_path, max_steps=STEPS, weight_decay=0.1, lr_scheduler_type="polynomial")
    workload = from_callables(model=trainer)
    report = workload.report(quick=True)
    workload.close()
    made = advice("adan", 1e-2, weight_decay=0.5)
    rec = made.model_copy(
        update={
            "workload": report,
            "recommendation": made.recommendation.model_copy(
                update={"groups": report.groups, "schedule": "yours"}
            ),
        }
    )
    with pytest.raises(UsageError, match="which only your program can build"):
        rec.build(trainer.model)
    optimizer, scheduler = build(rec, trainer)
    assert sorted({g["weight_decay"] for g in optimizer.param_groups}) == [0.0, 0.5]
    for _ in range(STEPS // 2):
        optimizer.step()
        scheduler.step()
    assert scheduler.get_last_lr()[0] == pytest.approx(0.5e-2, rel=1e-3)
    assert trainer.optimizer is None
