"""build(): what was recommended, over the user's own model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from autoopt.batch import BatchWarning
from autoopt.errors import UsageError
from autoopt.records import Baseline, EffectiveBatch, GroupRecord, Recommendation
from tests.report import factory

MODEL = """
import torch
from torch import nn

STEPS = 10

def build_model():
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))

def train_dataloader():
    return [(torch.ones(2, 4), torch.zeros(2, 2))] * 4

def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()

def configure_optimizers(model):
    groups = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[1].parameters(), "lr": 0.04}]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)
"""


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


@pytest.fixture
def own(tmp_path: Path) -> Recommendation:
    """A recommendation that keeps groups and schedule of a file's configure_optimizers."""
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    baseline = Baseline(
        source="configure_optimizers",
        optimizer="SGD",
        registry_name="sgd",
        hyper={"lr": 0.01},
        schedule="StepLR",
    )
    groups = [GroupRecord(label="group 0: matrices", tensors=4, parameters=30, lr_scale=1.0)]
    return factory.recommendation(
        recommendation=factory.choice(schedule="yours", steps=10, warmup_steps=0, groups=groups),
        workload=factory.workload(target=str(path), baseline=baseline),
        settings=factory.settings(steps=10, clip=None, origins={"steps": "file"}),
    )


def test_arguments_of_the_recommendation_hold() -> None:
    optimizer, scheduler = factory.recommendation().build(model())
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {tuple(group["betas"]) for group in optimizer.param_groups} == {(0.9, 0.98)}
    assert sorted({group["weight_decay"] for group in optimizer.param_groups}) == [0.0, 0.03]
    assert scheduler.get_last_lr()[0] == pytest.approx(2.4e-3 / 75)


def test_groups_and_schedule_of_the_users_own_are_kept(own: Recommendation) -> None:
    net = model()
    optimizer, scheduler = own.build(net)
    assert isinstance(optimizer, torch.optim.AdamW)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    first, second = (rates[id(net[i].weight)] for i in (0, 1))  # type: ignore[index]
    assert second == pytest.approx(4 * first)
    for _ in range(6):
        optimizer.step()
        scheduler.step()
    assert {group["lr"] / group["initial_lr"] for group in optimizer.param_groups} == {0.5}


def test_a_scheduler_of_the_users_own_sees_the_flags_and_arguments_of_the_run(
    own: Recommendation, tmp_path: Path
) -> None:
    """The scheduler counts steps, so that its shape over a run of 40 steps is another one than over the file's 10."""
    path = tmp_path / "model.py"
    path.write_text(MODEL.replace("5, 0.5)", "20, float(sys.argv[1]))") + "import sys")
    run = own.model_copy(
        update={
            "recommendation": own.recommendation.model_copy(update={"steps": 40}),
            "settings": factory.settings(steps=40, clip=None, origins={"steps": "flag"}),
            "provenance": {"arguments": ["0.1"]},
        }
    )
    optimizer, scheduler = run.build(model())
    seen = []
    for _ in range(40):
        seen.append({round(group["lr"] / group["initial_lr"], 6) for group in optimizer.param_groups})
        optimizer.step()
        scheduler.step()
    assert seen == [{1.0}] * 20 + [{0.1}] * 20


def test_the_users_own_optimizer_with_its_rate_tuned(own: Recommendation) -> None:
    kept = own.recommendation.model_copy(update={"optimizer": "baseline", "hyper": {"lr": 0.03}})
    optimizer, _ = own.model_copy(update={"recommendation": kept}).build(model())
    assert isinstance(optimizer, torch.optim.SGD)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.03, 0.12])


def test_the_default_baseline_needs_no_file() -> None:
    default = Baseline(
        source="default", optimizer="AdamW", registry_name="adamw", hyper={"lr": 1e-3}, schedule=None
    )
    workload = factory.workload(baseline=default, kind="callables", target="choose")
    rec = factory.keep().model_copy(update={"workload": workload})
    optimizer, _ = rec.build(model())
    assert len(optimizer.param_groups) == 1
    assert optimizer.param_groups[0]["initial_lr"] == 1e-3


def test_what_only_the_program_has_is_refused_clearly(own: Recommendation) -> None:
    lost = own.model_copy(update={"workload": own.workload.model_copy(update={"kind": "callables"})})
    with pytest.raises(UsageError, match="only your program"):
        lost.build(model())


def test_a_batch_that_the_rate_was_not_chosen_for_is_warned_of_and_nothing_is_changed() -> None:
    seen = EffectiveBatch(samples=256, samples_per_batch=64, accumulate=4)
    rec = factory.recommendation(recommendation=factory.choice(effective_batch=seen))
    with pytest.warns(
        BatchWarning, match=r"sees 64 samples, and the learning rate 0\.0024 was chosen for 256"
    ) as told:
        optimizer, _ = rec.build(model(), effective_batch=64)
    assert "begin with is 0.0012 (with the square root" in str(told[0].message)
    assert told[0].filename == __file__, "the user's own line"
    assert optimizer.param_groups[0]["initial_lr"] == 2.4e-3
    rec.build(model(), effective_batch=256)  # warnings are errors here
    rec.build(model())


def test_an_older_recommendation_does_not_know_its_batch_and_says_so() -> None:
    with pytest.warns(BatchWarning, match="not known"):
        factory.recommendation().build(model(), effective_batch=64)
