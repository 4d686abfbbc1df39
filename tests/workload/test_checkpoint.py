"""Half-trained nets: read in every layout, written in place, and their optimizer restored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoopt.errors import WorkloadError
from autoopt.records import BASELINE, Settings
from autoopt.trials.execute import execute
from autoopt.trials.testing import spec
from autoopt.workload import from_callables
from autoopt.workload.checkpoint import read
from autoopt.workload.workload import Workload

DATA = [(torch.ones(2, 3), torch.zeros(2, 1))]


def trained(steps: int = 3, kind: type[torch.optim.Optimizer] = torch.optim.AdamW) -> tuple[nn.Module, Any]:
    torch.manual_seed(5)
    model = nn.Linear(3, 1)
    optimizer: Any = kind(model.parameters(), lr=0.01)  # type: ignore[call-arg]
    for _ in range(steps):
        optimizer.zero_grad()
        model(DATA[0][0]).square().mean().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("layout", ["ours", "objects", "lightning", "wrapped", "bare", "folder"])
def test_every_layout_is_read(layout: str, tmp_path: Path) -> None:
    model, optimizer = trained()
    weights, state = model.state_dict(), optimizer.state_dict()
    path = tmp_path / "saved.pt"
    given: Any = path
    if layout == "ours":
        torch.save({"model": weights, "optimizer": state, "step": 3}, path)
    elif layout == "objects":
        given = {"model": model, "optimizer": optimizer, "step": 3}
    elif layout == "lightning":
        torch.save({"state_dict": weights, "optimizer_states": [state], "global_step": 3, "epoch": 0}, path)
    elif layout == "wrapped":
        torch.save({"model": {f"module.{k}": v for k, v in weights.items()}, "optimizer": state}, path)
    elif layout == "bare":
        torch.save(weights, path)
    else:
        given = tmp_path
        torch.save(weights, tmp_path / "pytorch_model.bin")
        torch.save(state, tmp_path / "optimizer.pt")
        (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 3}))
    saved = read(given)
    fresh = nn.Linear(3, 1)
    saved.write(fresh)
    assert torch.equal(fresh.weight, model.weight)
    assert saved.step == (None if layout == "bare" else 3), "or as AdamW has counted them"
    assert (saved.optimizer is None) is (layout == "bare")


def test_the_digest_is_of_the_files_content(tmp_path: Path) -> None:
    model, optimizer = trained()
    assert read({"model": model}).digest == "", "objects are in no file"
    torch.save({"model": model.state_dict(), "step": 3}, tmp_path / "a.pt")
    shutil.copy(tmp_path / "a.pt", tmp_path / "b.pt")
    assert len(read(tmp_path / "a.pt").digest) == 64
    assert read(tmp_path / "a.pt").digest == read(tmp_path / "b.pt").digest
    torch.save({"model": trained(4)[0].state_dict(), "step": 3}, tmp_path / "b.pt")
    assert read(tmp_path / "a.pt").digest != read(tmp_path / "b.pt").digest
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    before = read(folder).digest
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    assert read(folder).digest != before


def test_live_objects_are_copied() -> None:
    model, optimizer = trained()
    saved = read({"model": model, "optimizer": optimizer})
    before = saved.model["weight"].clone()
    with torch.no_grad():
        model.weight.zero_()
    assert torch.equal(saved.model["weight"], before)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": 1}, 'has no "model"; it has weights'),
        ([1], "holds a list, not a dictionary"),
        ({"model": nn.Linear(4, 1).state_dict()}, "does not fit the model: size mismatch"),
        ({"model": {"weight": torch.zeros(1, 3)}}, "it has no bias"),
        ({"model": {**nn.Linear(3, 1).state_dict(), "more": torch.zeros(1)}}, "the model has no more"),
    ],
)
def test_what_does_not_fit_is_named(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "saved.pt"
    torch.save(content, path)
    with pytest.raises(WorkloadError, match=message):
        read(path).write(nn.Linear(3, 1))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="There is no checkpoint"):
        read(tmp_path / "none.pt")
    with pytest.raises(WorkloadError, match=r"neither model\.safetensors nor"):
        read(tmp_path)
    text = tmp_path / "text.pt"
    text.write_text("no checkpoint")
    with pytest.raises(WorkloadError, match=r"text\.pt"):
        read(text)
    unsafe = tmp_path / "unsafe.pt"
    torch.save({"model": nn.Linear(1, 1)}, unsafe)
    with pytest.raises(WorkloadError, match="more than tensors"):
        read(unsafe)


def workload(configure: Any = None, *, checkpoint: Any = None, steps: int = 10) -> Workload:
    from autoopt.records import Flags

    return from_callables(
        model=lambda: nn.Linear(3, 1),
        train=lambda: DATA,
        val=lambda: DATA,
        loss=lambda model, batch: (model(batch[0]) - batch[1]).square().mean(),
        configure_optimizers=configure,
        flags=Flags(steps=steps),
        checkpoint=checkpoint,
    )


def adamw(model: nn.Module) -> Any:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 10)


def test_trainings_start_from_the_weights_under_every_seed_and_length_is_what_remains() -> None:
    model, _ = trained()
    made = workload(checkpoint={"model": model, "step": 4})
    for seed in (0, 7):
        assert torch.equal(made.start(seed, 6).weight, model.weight)  # type: ignore[arg-type]
    assert made.settings.steps == 6
    made.close()


def test_nothing_remains() -> None:
    made = workload(checkpoint={"model": trained()[0], "step": 10})
    with pytest.raises(WorkloadError, match="is of step 10, and the run has 10"):
        _ = made.settings
    made.close()


def test_keep_has_state_and_the_rest_of_the_schedule() -> None:
    model, optimizer = trained(4)
    optimizer.param_groups[0]["lr"] = 0.1 * 0.6  # what the schedule has made of it by step 4
    made = workload(adamw, checkpoint={"model": model, "optimizer": optimizer, "step": 4})
    assert made.settings.schedule == "cosine", "what starts anew has a schedule of its own"
    live = made.start(0, 6)
    kept = made.keep(live)
    state = next(iter(kept.optimizer.state.values()))
    assert int(state["step"]) == 4
    assert state["exp_avg"].abs().sum() > 0
    assert kept.hyper["lr"] == pytest.approx(0.06)
    assert kept.schedule is not None
    assert [kept.schedule(j / 6) for j in range(6)] == pytest.approx(
        [(6 - j) / 6 for j in range(6)], abs=1e-6
    )
    # Without the state: fresh, at the rate of that step.
    bare = workload(adamw, checkpoint={"model": model, "step": 4})
    again = bare.keep(bare.start(0, 6))
    assert not again.optimizer.state
    assert again.hyper["lr"] == pytest.approx(0.06)
    made.close()
    bare.close()


def test_without_a_scheduler_the_kept_rate_decays_from_what_it_is() -> None:
    model, optimizer = trained()
    made = workload(
        lambda m: torch.optim.AdamW(m.parameters(), lr=0.01),
        checkpoint={"model": model, "optimizer": optimizer},
    )
    kept = made.keep(made.start(0, 7))
    assert kept.schedule is not None
    assert kept.schedule(0.0) == 1.0
    assert 0 < kept.schedule(6 / 7) < 0.1
    made.close()


def test_trials_do_not_train_the_saved_state() -> None:
    model, optimizer = trained()
    made = workload(
        lambda m: torch.optim.AdamW(m.parameters(), lr=0.01),
        checkpoint={"model": model, "optimizer": optimizer},
    )
    losses = []
    for number in range(2):
        one = spec(number, BASELINE, steps=7).model_copy(update={"hyper": {}})
        *_, result = execute(made, one)
        losses.append(result.loss)  # type: ignore[union-attr]
    assert losses[0] == losses[1]
    made.close()


def test_a_state_that_is_another_optimizers_is_refused() -> None:
    model, optimizer = trained()
    saved = {"model": model, "optimizer": optimizer}
    sgd = workload(lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9), checkpoint=saved)
    with pytest.raises(WorkloadError, match="is not of SGD"):
        sgd.report(quick=True)
    nobody = workload(checkpoint=saved)
    with pytest.raises(WorkloadError, match="nothing says whose it is"):
        nobody.report(quick=True)
    parts = workload(
        lambda m: torch.optim.AdamW([{"params": [m.weight]}, {"params": [m.bias]}]), checkpoint=saved
    )
    with pytest.raises(WorkloadError, match="does not fit your AdamW"):
        parts.report(quick=True)
    for one in (sgd, nobody, parts):
        one.close()


def test_the_report_says_where_trials_start() -> None:
    model, optimizer = trained()
    made = workload(
        lambda m: torch.optim.AdamW(m.parameters(), lr=0.01),
        checkpoint={"model": model, "optimizer": optimizer},
    )
    report = made.report(quick=True)
    made.close()
    assert report.checkpoint is not None
    assert (report.checkpoint.step, report.checkpoint.whole, report.checkpoint.optimizer) == (3, 10, True)
    assert report.settings.steps == 7
    loss: Tensor = (model(DATA[0][0]) - DATA[0][1]).square().mean()
    assert report.initial_loss == pytest.approx(float(loss.detach()))


def test_a_step_that_nothing_tells_is_said() -> None:
    made = workload(checkpoint=trained()[0].state_dict())
    report = made.report(quick=True)
    made.close()
    assert any("does not say of which step" in note for note in report.warnings)
    assert any("no optimizer's state" in note for note in report.warnings)


def test_rest_keeps_what_was_named() -> None:
    rest = read({"model": trained()[0], "step": 3}).rest(Settings(steps=10, schedule="linear", warmup=0.1))
    assert (rest.steps, rest.schedule, rest.warmup) == (7, "linear", 0.1)
