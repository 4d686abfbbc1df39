"""A run against its promise: where the verdicts fall, what they say, and what a resume keeps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import autoopt
from autoopt.records import Band
from autoopt.watch import Verdict, Watch
from tests.report import factory

BANDS = [
    Band(of="training loss", share=0.1, begin=0, step=10, low=0.9, high=1.1),
    Band(of="training loss", share=0.5, begin=40, step=50, low=0.4, high=0.6),
    Band(of="training loss", share=1.0, begin=90, step=100, low=0.1, high=0.2),
    Band(of="validation loss", share=1.0, begin=90, step=100, low=0.1, high=0.2),
]


def told(watch: Watch, losses: dict[int, float], start: int = 1, end: int = 100) -> list[Verdict]:
    """Verdicts of a run whose loss is 0 but at some steps."""
    verdicts = (watch(step, losses.get(step, 0.0)) for step in range(start, end + 1))
    return [v for v in verdicts if v is not None]


def test_verdicts_fall_on_the_bands_last_steps() -> None:
    losses = {step: 1.0 for step in range(1, 11)} | {step: 0.7 for step in range(41, 51)}
    inside, above, below = told(Watch(BANDS), losses)
    assert (inside.step, inside.state, inside.advice) == (10, "inside", "")
    assert inside.loss == pytest.approx(1.0)
    assert (above.step, above.state) == (50, "above")
    assert "half the learning rate" in above.advice
    assert str(above).startswith(
        "training loss 0.7 at 50 % of the run: above the expected [0.4, 0.6]; check that"
    )
    assert (below.step, below.state, below.loss) == (100, "below", 0.0)
    assert "better than expected" in below.advice


def test_the_window_alone_is_averaged() -> None:
    losses = {40: 100.0, 41: 5.0, 51: 100.0}
    assert told(Watch(BANDS[1:2]), losses)[0].loss == pytest.approx(0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_said_at_once_and_once(value: float) -> None:
    (verdict,) = told(Watch(BANDS), {3: value})
    assert (verdict.state, verdict.step, verdict.band) == ("not finite", 3, None)
    assert "step 3" in str(verdict)


def test_tensors_are_read_at_checkpoints_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    item = torch.Tensor.__float__
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: reads.append(1) or item(self))
    watch = Watch(BANDS)
    loss = torch.tensor(1.0, requires_grad=True)
    verdicts = [watch(step, loss) for step in range(1, 101)]
    assert [v.step for v in verdicts if v] == [10, 50, 100]
    assert len(reads) == 3
    nan = Watch(BANDS)
    found = [v for step in range(1, 101) if (v := nan(step, torch.tensor(math.nan)))]
    assert [(v.state, v.step) for v in found] == [("not finite", 10)]


def test_a_resume_goes_on_in_mid_window() -> None:
    losses = {step: step / 100 for step in range(1, 101)}
    whole = told(Watch(BANDS), losses)
    first = Watch(BANDS)
    before = told(first, losses, end=45)
    second = Watch(BANDS)
    second.load_state_dict(first.state_dict())
    assert before + told(second, losses, start=46) == whole
    with pytest.raises(ValueError, match="other bands"):
        Watch(BANDS[:1]).load_state_dict(first.state_dict())


def test_half_a_window_is_no_window() -> None:
    assert [v.step for v in told(Watch(BANDS), {}, start=46)] == [100]


def test_a_step_that_is_told_twice_counts_once() -> None:
    watch = Watch(BANDS[:1])
    for step in (1, 1, 2, *range(1, 10)):
        watch(step, 1.0)
    verdict = watch(10, 1.0)
    assert verdict is not None
    assert verdict.loss == pytest.approx(1.0)


def test_the_validation_loss_is_judged_too() -> None:
    verdict = Watch(BANDS).validation(torch.tensor(0.3))
    assert verdict is not None
    assert verdict.state == "above"
    assert "larger budget" in verdict.advice
    assert Watch(BANDS[:3]).validation(0.3) is None
    broken = Watch(BANDS).validation(math.nan)
    assert broken is not None
    assert broken.state == "not finite"


def test_it_is_made_of_a_recommendation_or_its_folder(tmp_path: Path) -> None:
    rec = factory.recommendation(promise=BANDS)
    rec.save(tmp_path)
    assert autoopt.Watch.load(tmp_path).bands == Watch(rec).bands == BANDS


def test_a_trainer_of_transformers_calls_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": self.layer(x).square().mean() + 1.0}

    said: list[str] = []
    bands = [Band(of="training loss", share=0.5, begin=0, step=2, low=0.0, high=0.5)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=4, logging_steps=1, report_to=[], use_cpu=True, disable_tqdm=True
    )
    data = [{"x": torch.ones(2)} for _ in range(8)]
    trainer = transformers.Trainer(
        model=Net(), args=arguments, train_dataset=data, callbacks=[Watch(bands).callback(said.append)]
    )
    trainer.train()
    assert len(said) == 1
    assert "above the expected [0, 0.5]" in said[0]
