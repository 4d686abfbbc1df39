from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoopt.errors import UserCodeError
from autoopt.optim import build, groups, registry
from autoopt.records import BASELINE, Flags, Hyper, Outcome, TrialResult, TrialSpec
from autoopt.schedule import multiplier, warmup_steps
from autoopt.trials.execute import execute
from autoopt.trials.runner import Progress
from autoopt.workload import Workload, from_callables

Make = Callable[..., Workload]
STEPS = 24


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))


def data(n: int = 64, seed: int = 0) -> torch.utils.data.TensorDataset:
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))


def squared(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    error: Tensor = model(x) - y
    return error.square().mean()


@pytest.fixture
def made() -> Iterator[Make]:
    """Makes workloads and closes them."""
    found: list[Workload] = []

    def make(**changes: Any) -> Workload:
        flags = Flags(**changes.pop("flags", {"steps": STEPS}))
        given: dict[str, Any] = {
            "model": net,
            "train": torch.utils.data.DataLoader(data(), batch_size=8, shuffle=True),
            "val": torch.utils.data.DataLoader(data(32, 1), batch_size=8),
            "loss": squared,
        }
        found.append(from_callables(**given | changes, flags=flags))
        return found[-1]

    yield make
    for workload in found:
        workload.close()


def trial(
    optimizer: str, lr: float | None = 0.01, *, steps: int = STEPS, seed: int = 0, **more: Any
) -> TrialSpec:
    hyper: Hyper = {} if lr is None else {"lr": lr}
    return TrialSpec(id=4, stage="test", optimizer=optimizer, hyper=hyper, steps=steps, seed=seed, **more)


def result(workload: Workload, spec: TrialSpec) -> TrialResult:
    found = list(execute(workload, spec))[-1]
    assert isinstance(found, TrialResult)
    return found


def test_a_trial_is_progress_and_then_one_result(made: Make) -> None:
    workload, spec = made(), trial("adamw")
    *progress, found = list(execute(workload, spec))
    assert isinstance(found, TrialResult)
    assert [item.step for item in progress if isinstance(item, Progress)] == list(range(1, STEPS + 1))
    assert {(item.trial, item.steps) for item in progress if isinstance(item, Progress)} == {(4, STEPS)}
    assert found.outcome is Outcome.COMPLETED
    assert (found.spec, found.steps_done, found.message) == (spec, STEPS, "")
    assert found.loss is not None
    assert found.loss < workload.report(quick=True).initial_loss
    assert found.metric is None
    assert found.step_seconds is not None
    assert found.step_seconds > 0
    assert found.samples_per_second is not None
    assert 0 < found.samples_per_second <= 8 / found.step_seconds
    assert found.curve[-1][0] == STEPS


def test_seconds_are_a_ledger_of_the_whole_trial(made: Make) -> None:
    seconds = result(made(), trial("adamw")).seconds
    assert set(seconds) == {"build", "data", "compile", "train", "evaluate", "total"}
    parts = sum(value for name, value in seconds.items() if name != "total")
    # The hashing of a few batches belongs to no part.
    assert 0.5 * seconds["total"] < parts <= seconds["total"] * (1 + 1e-9)


def test_it_is_the_loop_that_the_user_would_write(made: Make) -> None:
    workload = made()
    found = result(workload, trial("adamw", 0.02, seed=7))
    model = workload.start(7, STEPS)
    optimizer = build.build(registry.get("adamw"), groups.split(model), {"lr": 0.02})
    rates = [group["lr"] for group in optimizer.param_groups]
    for step, batch in zip(range(STEPS), workload.batches(7), strict=False):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * multiplier("cosine", step, STEPS, warmup_steps(0.05, STEPS))
        optimizer.zero_grad()
        torch.autograd.backward(squared(model, batch))
        optimizer.step()
    assert found.loss == workload.evaluate(model).loss


@pytest.mark.parametrize("name", ["adamw", "adahessian", "schedule_free_adamw"])
def test_a_seed_repeats_to_the_last_bit_and_another_one_does_not(made: Make, name: str) -> None:
    if name == "schedule_free_adamw":
        pytest.importorskip("schedulefree")
    workload = made()
    first = result(workload, trial(name, seed=1))
    result(workload, trial("sgd", seed=2))
    again, other = result(workload, trial(name, seed=1)), result(workload, trial(name, seed=3))
    assert (first.loss, first.curve, first.digests) == (again.loss, again.curve, again.digests)
    assert other.loss != first.loss
    assert other.digests != first.digests


def test_a_second_workload_of_the_same_file_gives_the_same_trial(made: Make) -> None:
    """Workers are such: each loads for itself."""
    first, second = made(), made()
    result(second, trial("sgd", seed=5))
    a, b = result(first, trial("adamw", seed=1)), result(second, trial("adamw", seed=1))
    assert (a.loss, a.digests) == (b.loss, b.digests)


def test_every_optimizer_sees_the_same_batches_and_a_shorter_trial_their_beginning(made: Make) -> None:
    workload = made()
    names = ["adamw", "sgd", "adahessian", "muon", BASELINE]
    seen = {n: result(workload, trial(n, None if n == BASELINE else 0.01)).digests for n in names}
    assert len({tuple(digests) for digests in seen.values()}) == 1
    assert len(seen["adamw"]) == 5, "steps 1, 2, 4, 8, 16 of 24"
    short = result(workload, trial("adamw", steps=9)).digests
    assert short == seen["adamw"][:4]


@pytest.mark.parametrize(
    ("name", "tensors"), [("sgd", 1), ("adamw", 2), ("adahessian", 2), ("adan", 4), ("lion", 1)]
)
def test_the_optimizers_state_is_counted_tensor_by_tensor(made: Make, name: str, tensors: int) -> None:
    workload = made()
    found = result(workload, trial(name))
    assert found.outcome is Outcome.COMPLETED
    size = 4 * sum(p.numel() for p in workload.model.parameters())
    assert found.state_bytes is not None
    # Beside the full-size tensors there may be a step counter for each parameter.
    assert tensors * size <= found.state_bytes <= tensors * size + 8 * 16


def test_schedule_free_is_scored_with_its_averaged_weights_and_no_decay_from_outside(made: Make) -> None:
    schedulefree = pytest.importorskip("schedulefree")
    workload = made()
    found = result(workload, trial("schedule_free_adamw", 0.05))
    model = workload.start(0, STEPS)
    known = registry.get("schedule_free_adamw")
    optimizer = build.build(known, groups.split(model), {"lr": 0.05})
    rates = [group["lr"] for group in optimizer.param_groups]
    assert isinstance(optimizer, schedulefree.AdamWScheduleFree)
    optimizer.train()
    for step, batch in zip(range(STEPS), workload.batches(0), strict=False):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * multiplier("constant", step, STEPS, warmup_steps(0.05, STEPS))
        optimizer.zero_grad()
        torch.autograd.backward(squared(model, batch))
        optimizer.step()
    training_weights = workload.evaluate(model).loss
    optimizer.eval()
    assert found.loss == workload.evaluate(model).loss
    assert found.loss != training_weights


# --- divergence ---------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_trial_as_diverged(made: Make) -> None:
    calls = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls.append(model.training)
        return squared(model, batch) * (math.nan if sum(calls) == 6 else 1.0)

    workload = made(loss=loss)
    workload.start(0, STEPS)  # checks that weights come back, with calls of its own
    calls.clear()
    *progress, found = list(execute(workload, trial("adamw")))
    assert isinstance(found, TrialResult)
    assert found.outcome is Outcome.DIVERGED
    assert found.loss is None
    assert found.steps_done == 6
    assert "not finite at step 6" in found.message
    assert isinstance(progress[-1], Progress)
    assert progress[-1].loss is None
    assert all(math.isfinite(value) for _, value in found.curve)


def test_a_loss_that_stays_far_above_the_first_one_ends_the_trial(made: Make) -> None:
    calls = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls.append(model.training)
        return squared(model, batch) * (1e6 if sum(calls) > 4 else 1.0)

    workload = made(loss=loss)
    workload.start(0, STEPS)
    calls.clear()
    found = result(workload, trial("sgd", 1e-9, steps=100))
    assert found.outcome is Outcome.DIVERGED
    assert "above 100 times the first one" in found.message
    assert found.steps_done == 4 + 20, "a while is waited for it to come back"


def test_one_bad_step_is_no_divergence(made: Make) -> None:
    calls = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls.append(model.training)
        return squared(model, batch) * (1e6 if sum(calls) == 10 else 1.0)

    workload = made(loss=loss, flags={"steps": STEPS, "clip": 1.0})
    workload.start(0, STEPS)
    calls.clear()
    found = result(workload, trial("adamw"))
    assert found.outcome is Outcome.COMPLETED
    assert found.steps_done == STEPS


def test_a_validation_loss_that_is_not_finite_is_a_divergence(made: Make) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        trained = model.training or not any(p.grad is not None for p in model.parameters())
        return squared(model, batch) * (1.0 if trained else math.inf)

    found = result(made(loss=loss), trial("adamw"))
    assert (found.outcome, found.loss, found.steps_done) == (Outcome.DIVERGED, None, STEPS)


def test_what_the_users_code_raises_goes_up(made: Make) -> None:
    calls = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls.append(1)
        if len(calls) > 12:
            raise KeyError("column")
        return squared(model, batch)

    with pytest.raises(UserCodeError, match="KeyError"):
        result(made(loss=loss), trial("adamw"))


# --- the user's own -----------------------------------------------------------------------------------------


def own(model: nn.Module) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 6, 0.1)


def by_hand(workload: Workload, steps: int, rate: Callable[[int], float]) -> float:
    model = workload.start(0, steps)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step, batch in zip(range(steps), workload.batches(0), strict=False):
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.zero_grad()
        torch.autograd.backward(squared(model, batch))
        optimizer.step()
    return workload.evaluate(model).loss


def test_the_baseline_is_the_users_optimizer_with_the_users_schedule(made: Make) -> None:
    workload = made(configure_optimizers=own)
    assert workload.settings.schedule == "yours"
    found = result(workload, trial(BASELINE, None))
    assert found.loss == pytest.approx(by_hand(workload, STEPS, lambda s: 0.1 * 0.1 ** (s // 6)), rel=1e-5)


def test_a_short_trial_goes_through_the_whole_of_the_users_schedule(made: Make) -> None:
    workload = made(configure_optimizers=own)
    found = result(workload, trial(BASELINE, None, steps=STEPS // 2))
    assert found.loss == pytest.approx(
        by_hand(workload, STEPS // 2, lambda s: 0.1 * 0.1 ** (s // 3)), rel=1e-5
    )


def test_the_users_optimizer_at_another_rate(made: Make) -> None:
    workload = made(configure_optimizers=own)
    found = result(workload, trial(BASELINE, 0.05))
    assert found.loss == pytest.approx(by_hand(workload, STEPS, lambda s: 0.05 * 0.1 ** (s // 6)), rel=1e-5)


def test_others_follow_the_users_schedule_too(made: Make) -> None:
    mine = result(made(configure_optimizers=own), trial("adamw"))
    plain = result(made(), trial("adamw"))
    assert mine.digests == plain.digests
    assert mine.loss != plain.loss


def test_without_one_the_baseline_is_adamw_at_its_default(made: Make) -> None:
    workload = made()
    own_result = result(workload, trial(BASELINE, None))
    model = workload.start(0, STEPS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step, batch in zip(range(STEPS), workload.batches(0), strict=False):
        optimizer.param_groups[0]["lr"] = 1e-3 * multiplier("cosine", step, STEPS, 1)
        optimizer.zero_grad()
        torch.autograd.backward(squared(model, batch))
        optimizer.step()
    assert own_result.loss == workload.evaluate(model).loss


# --- scores -------------------------------------------------------------------------------------------------


def test_a_metric_is_reported_beside_the_loss(made: Make) -> None:
    def evaluate(model: nn.Module, batches: Any) -> dict[str, float]:
        return {"close": float(sum((model(x) - y).abs().mean() for x, y in batches))}

    workload = made(evaluate=evaluate, metric=("close", "min"))
    found = result(workload, trial("adamw"))
    assert found.metric is not None
    assert found.loss is not None
    assert found.metric != found.loss


def test_a_part_of_the_validation_batches_is_enough(made: Make) -> None:
    workload = made()
    whole, part = result(workload, trial("adamw")), result(workload, trial("adamw", eval_batches=2))
    assert whole.curve == part.curve
    assert whole.loss != part.loss


def test_without_held_out_data_the_last_batches_are_scored_before_they_are_trained_on(made: Make) -> None:
    def stream() -> Iterator[Any]:
        yield from torch.utils.data.DataLoader(data(), batch_size=8, shuffle=True)

    workload = made(train=stream, val=None)
    assert workload.validation == "prequential"
    *progress, found = list(execute(workload, trial("adamw", steps=30)))
    losses = [item.loss for item in progress if isinstance(item, Progress) and item.loss is not None]
    assert isinstance(found, TrialResult)
    assert found.loss == pytest.approx(sum(losses[-3:]) / 3)


def test_a_curve_is_thinned_to_a_hundred_means(made: Make) -> None:
    *progress, found = list(execute(made(), trial("sgd", steps=250)))
    losses = [item.loss for item in progress if isinstance(item, Progress) and item.loss is not None]
    assert isinstance(found, TrialResult)
    assert len(found.curve) <= 100
    step, mean = found.curve[0]
    assert (step, mean) == (3, sum(losses[:3]) / 3)
    assert found.curve[-1][0] == 250


def test_memory_of_a_step_holds_weights_gradients_and_state(made: Make) -> None:
    workload = made()
    found = result(workload, trial("adamw"))
    size = 4 * sum(p.numel() for p in workload.model.parameters())
    assert found.peak_source == "tracked"
    assert found.peak_bytes is not None
    assert found.peak_bytes >= 4 * size


@pytest.mark.parametrize(
    ("option", "flag"), [({"clip": 0.05}, {"clip": 0.05}), ({"warmup": 0.5}, {"warmup": 0.5})]
)
def test_an_option_of_a_configuration_trains_as_the_setting_of_that_name(
    made: Make, option: Hyper, flag: dict[str, float]
) -> None:
    spec = trial("sgd", 0.1)
    by_option = spec.model_copy(update={"hyper": spec.hyper | option})
    plain = result(made(), spec).loss
    assert result(made(), by_option).loss == result(made(flags={"steps": STEPS, **flag}), spec).loss != plain


def test_a_configuration_may_leave_out_the_clipping_of_the_real_run(made: Make) -> None:
    spec = trial("sgd", 0.1)
    free = spec.model_copy(update={"hyper": spec.hyper | {"clip": 0.0}})
    clipped = made(flags={"steps": STEPS, "clip": 0.05})
    assert result(clipped, free).loss == result(made(), spec).loss != result(clipped, spec).loss


def test_the_time_of_a_step_is_told_by_its_parts(made: Make) -> None:
    results = {name: _last(made(), name, steps=STEPS) for name in ("adamw", "adahessian")}
    speed = results["adamw"].speed
    assert speed is not None
    assert speed.forward is not None
    assert speed.backward is not None
    assert speed.optimizer is not None
    assert (speed.clock, speed.steps, speed.warmup_steps) == ("host", STEPS - 3, 3)
    parts = speed.forward.seconds + speed.backward.seconds + speed.optimizer.seconds
    assert (
        0 < parts < 1.2 * speed.step.seconds
    )  # medians of parts on a busy machine: less than that of the sum
    assert speed.warmup_seconds > 0
    assert speed.compile_seconds == 0
    assert results["adamw"].step_seconds == speed.step.seconds
    assert results["adamw"].samples_per_second == speed.samples_per_second
    inside = results["adahessian"].speed
    assert inside is not None
    assert inside.forward is None


def _last(workload: Workload, name: str, steps: int) -> TrialResult:
    spec = TrialSpec(
        id=1, stage="test", optimizer=name, hyper=registry.get(name).start(), steps=steps, seed=0
    )
    *_, result = execute(workload, spec)
    assert isinstance(result, TrialResult)
    return result


def test_with_a_larger_batch_a_trial_is_the_loop_of_a_run_with_more_accumulation(made: Make) -> None:
    """As many samples in fewer steps: to the last bit what --accumulate and --steps make of it."""
    larger = trial("adamw", 0.02, seed=7)
    larger = larger.model_copy(update={"hyper": {**larger.hyper, "batch": 2.0}})
    *progress, found = list(execute(made(), larger))
    assert isinstance(found, TrialResult)
    assert {item.steps for item in progress if isinstance(item, Progress)} == {STEPS // 2}
    assert (found.spec.steps, found.steps_done, found.curve[-1][0]) == (STEPS, STEPS // 2, STEPS // 2)
    by_hand = made(flags={"steps": STEPS // 2, "accumulate": 2})
    same = result(by_hand, trial("adamw", 0.02, steps=STEPS // 2, seed=7))
    assert (found.loss, found.curve, found.digests) == (same.loss, same.curve, same.digests)
    assert found.samples_per_second is not None
    assert found.step_seconds is not None
    assert found.samples_per_second <= 16 / found.step_seconds


def test_with_half_the_batch_it_takes_twice_the_steps(made: Make) -> None:
    halved = trial("sgd", 0.02).model_copy(update={"hyper": {"lr": 0.02, "batch": 0.5}})
    found = result(made(flags={"steps": STEPS, "accumulate": 4}), halved)
    same = result(made(flags={"steps": 2 * STEPS, "accumulate": 2}), trial("sgd", 0.02, steps=2 * STEPS))
    assert found.steps_done == 2 * STEPS
    assert (found.loss, found.digests) == (same.loss, same.digests)


def test_without_held_out_data_the_last_tenth_of_the_samples_counts_whatever_the_batch(made: Make) -> None:
    def batches() -> Iterator[Any]:
        yield from torch.utils.data.DataLoader(data(), batch_size=8, shuffle=True)

    workload = made(train=batches, val=None, flags={"steps": 40})
    larger = trial("sgd", 1e-9, steps=40).model_copy(update={"hyper": {"lr": 1e-9, "batch": 2.0}})
    found = result(workload, larger)
    assert workload.validation == "prequential"
    assert found.loss == pytest.approx(result(workload, trial("sgd", 1e-9, steps=40)).loss, rel=1e-5)


def test_the_users_functions_see_the_steps_that_are_taken(made: Make) -> None:
    seen = set()

    def after_step(model: nn.Module, ctx: Any) -> None:
        seen.add((ctx.total_steps, ctx.real_steps))

    workload = made(flags={"steps": 4 * STEPS})
    workload.contract.after_step = after_step
    result(workload, trial("sgd").model_copy(update={"hyper": {"lr": 0.1, "batch": 4.0}}))
    assert seen == {(STEPS // 4, STEPS)}
