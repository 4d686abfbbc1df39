from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from autoopt.cli.main import run
from autoopt.records import TrialResult, TrialSpec
from autoopt.trials.execute import execute
from autoopt.workload import Workload, load
from benchmarks.choice import HELD_OUT, LONG, WORKLOADS, jobs

FOLDER = Path(__file__).parents[2] / "benchmarks" / "choice" / "workloads"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def loaded() -> Iterator[dict[str, Workload]]:
    """Workloads that are closed at the end, by name; `open_` adds to it."""
    found: dict[str, Workload] = {}
    yield found
    for workload in found.values():
        workload.close()


def open_(name: str, loaded: dict[str, Workload]) -> Workload:
    loaded[name] = load(str(FOLDER / f"{name}.py"))
    return loaded[name]


def module(name: str, loaded: dict[str, Workload]) -> ModuleType:
    open_(name, loaded)
    return sys.modules[f"benchmarks.choice.workloads.{name}"]


def short(workload: Workload, seed: int) -> TrialResult:
    hyper = {"lr": 1e-3}
    spec = TrialSpec(id=0, stage="", optimizer="adamw", hyper=hyper, steps=3, seed=seed)
    *_, result = execute(workload, spec)
    assert isinstance(result, TrialResult)
    return result


def test_every_workload_has_its_file_and_two_are_held_out() -> None:
    shared = {"__init__", "attention", "batches", "data"}
    assert {file.stem for file in FOLDER.glob("*.py")} - shared == {*WORKLOADS, *LONG}
    assert not set(LONG) & {*WORKLOADS, *HELD_OUT}
    assert len(WORKLOADS) == 10
    assert len(HELD_OUT) == 2
    assert set(WORKLOADS) >= HELD_OUT


@pytest.mark.parametrize("name", WORKLOADS + LONG)
def test_the_checker_finds_nothing_amiss(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(FOLDER / f"{name}.py"), "--device", "cpu", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["devices"]
    assert report["restore"] == "in_place"
    assert report["reproducible_data"]
    assert report["validation"] == "own"
    assert report["settings"]["origins"]["steps"] == "file"
    assert report["baseline"]["source"] == "default"  # the tables' baseline is the same for all
    ours = {"muon", "adan", "adahessian", "sgd_sai"}
    assert not ours & set(report["unavailable"])


@pytest.mark.parametrize("name", WORKLOADS + LONG)
def test_a_run_repeats_itself_and_another_seed_is_another_run(name: str, loaded: dict[str, Workload]) -> None:
    workload = open_(name, loaded)
    first, again, other = short(workload, 0), short(workload, 0), short(workload, 1)
    assert first.loss is not None
    assert (first.loss, first.curve, first.digests) == (again.loss, again.curve, again.digests)
    assert other.loss != first.loss
    assert other.digests != first.digests


@pytest.mark.parametrize("name", LONG)
def test_a_long_workload_has_5000_steps_and_gives_whole_batches_in_another_order_each_epoch(
    name: str, loaded: dict[str, Workload]
) -> None:
    workload = open_(name, loaded)
    assert workload.settings.steps >= 5000
    assert all(float(workload.settings.steps * share).is_integer() for share in jobs.fractions(name))
    source = workload.train_source
    first, again, second, other = (
        list(source.epoch(seed, epoch)) for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert len(first) == source.length
    assert {len(batch[0]) for batch in first} == {len(first[0][0])}
    assert all(map(torch.equal, first[0], again[0]))
    assert not torch.equal(first[0][0], second[0][0])
    assert not torch.equal(first[0][0], other[0][0])


def test_the_adapters_alone_are_trained_and_begin_at_the_pretrained_net(loaded: dict[str, Workload]) -> None:
    lora = module("lora", loaded)
    assert lora.BASE.stat().st_size < 300_000
    torch.manual_seed(0)
    one, two = lora.build_model(), lora.build_model()
    codes = torch.randint(128, (2, 8))
    assert torch.equal(one(codes), two(codes))  # other adapters, and their product is zero at first
    names = {name for name, parameter in one.named_parameters() if parameter.requires_grad}
    assert names
    assert all(name.endswith((".down", ".up")) for name in names)


def test_the_pretrained_net_has_learned(loaded: dict[str, Workload]) -> None:
    lora = module("lora", loaded)
    (batch, *_) = lora.val_dataloader()
    with torch.no_grad():
        assert lora.loss(lora.build_model(), batch) < 2.6  # untrained 4.9


def test_the_residual_of_a_solution_of_burgers_equation_is_zero(loaded: dict[str, Workload]) -> None:
    pinn = module("pinn", loaded)
    points = pinn.points(64, seed=3)

    class Known(nn.Module):
        def __init__(self, power: int) -> None:
            super().__init__()
            self.power = power

        def forward(self, points: Tensor) -> Tensor:
            x, t = points.unbind(1)
            return x / (1 + t) ** self.power

    # u = x / (1 + t): u_t + u u_x = 0 and u_xx = 0
    assert pinn.loss(Known(1), (points,)) < 1e-12
    assert pinn.loss(Known(2), (points,)) > 1e-3


def test_the_ansatz_keeps_the_initial_condition_and_the_walls(loaded: dict[str, Workload]) -> None:
    field = module("pinn", loaded).build_model()
    x = torch.linspace(-1, 1, 9)
    start = field(torch.stack([x, torch.zeros(9)], dim=1))
    torch.testing.assert_close(start, -torch.sin(torch.pi * x))
    walls = field(torch.tensor([[-1.0, 0.7], [1.0, 0.7]]))
    torch.testing.assert_close(walls, torch.zeros(2), atol=1e-6, rtol=0)


def test_a_gpt_does_not_see_the_future(loaded: dict[str, Workload]) -> None:
    model = module("gpt", loaded).build_model().eval()
    text = torch.randint(128, (1, 20))
    changed = text.clone()
    changed[0, 12:] = 0
    with torch.no_grad():
        before, after = model(text), model(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_what_the_recommender_is_asked_in_validation_it_was_not_told(loaded: dict[str, Workload]) -> None:
    recommender = module("recommender", loaded)
    rows, users, items = recommender.interactions()
    assert int(rows[:, 0].max()) < users
    assert int(rows[:, 1:].max()) < items
    used = [tuple(pair) for pair in rows[:, :2].tolist()]
    assert len(set(used)) == len(used)
    wrong = sum(tuple(pair) in set(used[:500]) for pair in rows[:500, [0, 2]].tolist())
    assert wrong == 0


def test_held_out_images_and_topics_are_not_trained_on(loaded: dict[str, Workload]) -> None:
    module("vit", loaded)
    data = sys.modules["benchmarks.choice.workloads.data"]
    trained, held = ({image.numpy().tobytes() for image in data.digits(part)[0]} for part in (False, True))
    assert not trained & held
    assert data.prose(True)[:400] not in data.prose(False)
