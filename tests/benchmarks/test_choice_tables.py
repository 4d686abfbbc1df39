from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from autoopt.errors import OptimizerUnavailable
from autoopt.records import BASELINE
from autoopt.workload import load
from benchmarks.choice import HELD_OUT, LONG, WORKLOADS, costs, jobs, rows
from benchmarks.choice.jobs import Job
from benchmarks.choice.rows import Row
from benchmarks.choice.tables import Table, train

TOY = """
import torch
from torch import nn

STEPS = 8
INPUTS = torch.linspace(-1, 1, 32).reshape(8, 4, 1)

def build_model():
    return nn.Linear(1, 1)

def train_dataloader():
    return [(x, 2 * x) for x in INPUTS]

def val_dataloader():
    return [(x, 2 * x) for x in INPUTS[:2]]

def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()
"""
NAMES = ("adamw", "sgd")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.py").write_text(TOY)
    return tmp_path


def row(job: Job, loss: float | None) -> Row:
    return {
        "workload": job.workload,
        "optimizer": job.optimizer,
        "settings": dict(job.settings),
        "length_fraction": job.fraction,
        "steps": round(8 * job.fraction),
        "seed": job.seed,
        "loss": loss,
        "diverged": loss is None,
        "code": "",
    }


def grown(workload: str, best: Callable[[float], float]) -> dict[Job, Row]:
    """SGD's rows of everything that `pending` asks for; the nearer a rate is to the best of its length, the better."""
    done: dict[Job, Row] = {}
    while missing := list(jobs.pending([workload], ["sgd"], done)):
        for job in missing:
            done[job] = row(job, 1.0 + abs(math.log10(dict(job.settings)["lr"] / best(job.fraction))))
    return done


def rates_at(done: dict[Job, Row], fraction: float) -> list[float]:
    """The rates of seed 0 at a length."""
    return sorted(dict(j.settings)["lr"] for j in done if j.fraction == fraction and j.seed == 0)


def finished(loss_of: dict[str, float], names: tuple[str, ...] = NAMES) -> dict[Job, Row]:
    """Rows of everything that `pending` asks for, each optimizer the better the nearer to its own best rate."""
    done: dict[Job, Row] = {}
    while missing := list(jobs.pending(["toy"], names, done, number=3)):
        for job in missing:
            rate = dict(job.settings)["lr"]
            done[job] = row(job, loss_of[job.optimizer] + abs(rate - jobs.rates(job.optimizer)[0]))
    return done


def test_a_table_is_filled_by_worker_processes_kept_and_gone_on_with(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    Table(out, ["toy"], folder).fill(["toy"], ["sgd"], 1, number=2, lengths=(1.0, 0.5))
    first = rows.read(out / "toy.json.gz")
    grid = [r for r in first if r["seed"] == 0]
    assert {(r["settings"]["lr"], r["steps"]) for r in grid} == {
        (0.05, 8),
        (0.05, 4),
        (0.0158, 8),
        (0.0158, 4),
    }
    assert {r["seed"] for r in first} == {0, *jobs.REPEATS, *jobs.FRESH}
    assert all(r["seconds"] > 0 and r["startup_seconds"] > 0 and r["evaluate_seconds"] > 0 for r in first)
    again = Table(out, ["toy"], folder)
    again.fill(["toy"], ["sgd"], 1, number=2, lengths=(1.0, 0.5))
    assert sorted(map(str, rows.read(out / "toy.json.gz"))) == sorted(map(str, first))
    again.fill(["toy"], ["sgd"], 1, seconds=0, number=3)
    assert len(again.rows) == len(first)  # no time, no run


def test_a_row_is_what_a_trial_of_that_length_reports(folder: Path) -> None:
    workload = load(str(folder / "toy.py"))
    try:
        (job, *_) = jobs.pending(["toy"], ["adamw"], {}, number=1, lengths=(0.5,))
        found, same = train(workload, job, 8), train(workload, job, 8)
    finally:
        workload.close()
    assert found["steps"] == found["steps_done"] == 4
    assert found["length_fraction"] == 0.5
    assert found["settings"] == {"lr": 0.003, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.05}
    assert 0 < found["loss"] < found["initial_loss"]
    assert found["curve"][-1][0] == 1.0
    assert [found[key] for key in ("loss", "curve")] == [same[key] for key in ("loss", "curve")]


def test_a_diverged_run_has_no_loss_and_says_so(folder: Path) -> None:
    workload = load(str(folder / "toy.py"))
    try:
        found = train(workload, Job("toy", "sgd", (("lr", 1e30),), 1.0, 0), 8)
        with pytest.raises(OptimizerUnavailable):
            train(workload, Job("toy", "muon", (("lr", 0.01),), 1.0, 0), 8)
    finally:
        workload.close()
    assert found["diverged"]
    assert found["loss"] is None
    assert found["steps_done"] < 8


def test_a_torn_last_row_is_dropped_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "toy.json.gz"
    whole = [row(job, 1.0) for job in jobs.pending(["toy"], ["sgd"], {}, number=2)]
    for one in whole:
        rows.append(file, one)
    assert rows.read(file) == whole
    content = file.read_bytes()
    for lost, left in (
        (1, whole),
        (30, whole[:-1]),
        (120, whole[:-1]),
    ):  # without its checksum a row is whole
        file.write_bytes(content[:-lost])
        assert rows.read(file) == left
    rows.write(file, whole)
    assert file.stat().st_size < len(content)
    assert sorted(map(str, rows.read(file))) == sorted(map(str, whole))
    assert gzip.decompress(file.read_bytes()).count(b"\n") == len(whole)


def test_an_impossible_optimizer_is_left_out_where_it_is_impossible() -> None:
    none = list(jobs.pending(["toy"], ["sgd"], {}, impossible=[("toy", "sgd")]))
    assert none == []
    other = list(jobs.pending(["toy", "toz"], ["sgd"], {}, impossible=[("toy", "sgd")]))
    assert {job.workload for job in other} == {"toz"}


def test_repeats_are_of_the_two_best_rates_and_wait_for_the_grid() -> None:
    done = finished({"adamw": 1.0, "sgd": 2.0})
    repeated = {(j.optimizer, dict(j.settings)["lr"]) for j in done if j.seed in jobs.REPEATS}
    assert repeated == {("adamw", 0.003), ("adamw", 0.000949), ("sgd", 0.05), ("sgd", 0.0158)}
    assert all(job.fraction == 1.0 for job in done if job.seed)
    one_short = dict(done)
    (full,) = [j for j in done if j.optimizer == "sgd" and j.seed == 0 and j.fraction == 1.0][:1]
    del one_short[full]
    left = {job for job in one_short if job.seed == 0}
    asked = list(jobs.pending(["toy"], ["sgd"], {job: done[job] for job in left}, number=3))
    assert asked == [full]


def test_fresh_seeds_go_to_the_four_best_of_all_to_adamws_best_and_to_the_baseline() -> None:
    done = finished(
        {"adamw": 9.0, "sgd": 1.0, "lion": 1.1, BASELINE: 10.0}, ("adamw", "sgd", "lion", BASELINE)
    )
    fresh = {(j.optimizer, dict(j.settings)["lr"]) for j in done if j.seed in jobs.FRESH}
    # sgd: 1 at 0.05, 1.03 and 1.11 half a decade away; lion: 1.1, 1.1004, 1.1013
    best = {("sgd", 0.05), ("sgd", 0.0158), ("lion", 0.0006), ("lion", 0.00019)}
    assert fresh == best | {("adamw", 0.003), (BASELINE, 1e-3)}


def test_a_grid_grows_by_a_decade_on_the_side_where_its_best_rate_is_outermost() -> None:
    usual = sorted(jobs.rates("sgd"))
    for best, more in ((0.5, []), (1.58, [5.0]), (5.0, [5.0, 15.8]), (1e3, [5.0, 15.8])):
        done = grown("toy", lambda _fraction, best=best: best)
        for fraction in jobs.FRACTIONS:
            assert rates_at(done, fraction) == pytest.approx(usual + more, rel=1e-2)
    low = rates_at(grown("toy", lambda _fraction: 1e-9), 1.0)
    assert low == pytest.approx([0.000158, 0.0005, *usual], rel=1e-2)


def test_a_long_workload_has_more_lengths_less_of_the_rest_and_grows_at_each_length_by_itself() -> None:
    (name, *_) = LONG
    assert jobs.fractions(name) == jobs.LONG_FRACTIONS
    assert jobs.fractions("toy") == jobs.FRACTIONS
    assert set(jobs.optimizers(name)) == jobs.LONG_OPTIMIZERS
    asked = list(jobs.pending(["toy", name], None, {}))
    assert {job.optimizer for job in asked if job.workload == name} == jobs.LONG_OPTIMIZERS
    assert {job.optimizer for job in asked if job.workload == "toy"} == set(jobs.optimizers())
    done = grown(name, lambda fraction: 0.05 if fraction > 0.1 else 1.58)
    usual = sorted(jobs.rates("sgd", jobs.LONG_RATES))
    assert len(usual) == 5
    assert rates_at(done, 1.0) == rates_at(done, 0.5) == usual
    assert rates_at(done, 1 / 32) == rates_at(done, 1 / 128) == pytest.approx([*usual, 1.58, 5.0], rel=1e-2)


def test_diverged_runs_are_neither_repeated_nor_scored() -> None:
    done = {job: row(job, None) for job in jobs.pending(["toy"], ["sgd"], {})}
    assert list(jobs.pending(["toy"], ["sgd"], done)) == []


def test_the_rates_lie_around_the_start_and_dear_optimizers_have_fewer() -> None:
    assert sorted(jobs.rates("sgd")) == [0.00158, 0.005, 0.0158, 0.05, 0.158, 0.5, 1.58]
    assert len(jobs.rates("adahessian")) == 5
    assert jobs.rates(BASELINE) == [1e-3]
    assert jobs.optimizers()[:3] == [BASELINE, "adamw", "sgd"]
    assert jobs.optimizers()[-1] == "adahessian"


def test_a_priced_row_costs_its_steps_and_keeps_what_was_measured(folder: Path) -> None:
    found = {"optimizer": "sgd", "seconds": 0.7, "steps_done": 30}
    once = costs.priced(found, {"sgd": 0.01})
    assert (once["seconds"], once["cpu_seconds"]) == (0.3, 0.7)
    again = costs.priced(once, {"sgd": 0.02})
    assert (again["seconds"], again["cpu_seconds"]) == (0.6, 0.7)
    assert costs.priced(found, {"adamw": 1.0}) == found


def test_every_optimizer_that_can_train_a_workload_is_timed(folder: Path) -> None:
    found = costs.measure("toy", rounds=1, folder=folder)
    assert set(found) == set(jobs.optimizers()) - {"muon"}  # it has no hidden matrix
    assert all(seconds > 0 for seconds in found.values())


def test_the_kept_tables_hold_what_the_columns_promise() -> None:
    kept = {file.name.partition(".")[0]: rows.read(file) for file in rows.TABLES.glob("*.json.gz")}
    assert set(WORKLOADS) <= set(kept) <= {*WORKLOADS, *LONG}
    assert set(kept) > HELD_OUT
    for name, found in kept.items():
        assert len({jobs.of(one) for one in found}) == len(found)
        assert len({one["code"] for one in found}) == 1
        for one in found:
            assert one["workload"] == name
            assert one["diverged"] == (one["loss"] is None)
            assert one["initial_loss"] > 0
            assert one["seconds"] > 0
        at = {(one["optimizer"], one["length_fraction"]) for one in found if one["seed"] == 0}
        for optimizer in {BASELINE, "adamw", "sgd", "muon", "adan", "sgd_sai"} & set(jobs.optimizers(name)):
            assert all((optimizer, fraction) in at for fraction in jobs.fractions(name))
        fresh = [one for one in found if one["seed"] in jobs.FRESH]
        assert len([one for one in fresh if one["optimizer"] == BASELINE]) == len(jobs.FRESH)
