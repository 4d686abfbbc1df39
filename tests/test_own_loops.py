"""`tune()`: loops that only their owner can drive."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import autoopt
from autoopt import policy as policies
from autoopt.errors import UsageError, WorkloadError
from autoopt.job import Job
from autoopt.records import BASELINE, Flags, Recommendation
from autoopt.sitting import run_job
from autoopt.trials.inprocess import InProcess
from autoopt.trials.own_loop import LoopEngine
from autoopt.workload.entry import load_any

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def line(make_optimizer: Any, steps: int, seed: int, report: Any) -> Any:
    """Fits a line."""
    x = torch.linspace(-1, 1, 16).unsqueeze(1)
    model = nn.Linear(1, 1)
    optimizer = make_optimizer(model.parameters())
    for step in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - 3 * x - 1).square().mean()
        loss.backward()
        optimizer.step()
        report(step, loss)
    return (model(x) - 3 * x - 1).square().mean()


def gan(make_optimizer: Any, steps: int, seed: int, report: Any) -> Any:
    """A generator that learns a normal distribution, a discriminator that steps twice as often."""
    torch.manual_seed(seed)
    generator = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
    critic = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))
    ours, theirs = make_optimizer(generator), make_optimizer(critic, lr_scale=2.0)
    score = nn.functional.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
    for step in range(steps):
        for _ in range(2):
            real, fake = 2 + 0.5 * torch.randn(16, 1), generator(torch.randn(16, 2)).detach()
            theirs.zero_grad()
            (score(critic(real), ones) + score(critic(fake), zeros)).backward()
            theirs.step()
        ours.zero_grad()
        loss = score(critic(generator(torch.randn(16, 2))), ones)
        loss.backward()
        ours.step()
        report(step, loss)
    with torch.no_grad():
        made = torch.sort(generator(torch.randn(256, 2)).flatten()).values
        wanted = torch.sort(2 + 0.5 * torch.randn(256)).values
        return (made - wanted).abs().mean()


def agent(make_optimizer: Any, steps: int, seed: int, report: Any) -> dict[str, Any]:
    """REINFORCE on a corridor: to the right is better."""
    torch.manual_seed(seed)
    policy = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = make_optimizer(policy)

    def episodes(n: int) -> tuple[Any, Any]:
        place, log, total = torch.zeros(n), torch.zeros(n), torch.zeros(n)
        for _ in range(4):
            choice = torch.distributions.Categorical(logits=policy(place.unsqueeze(1)))
            action = choice.sample()
            log, place = log + choice.log_prob(action), place + (2.0 * action - 1) / 4
            total = total + place
        return log, total

    for step in range(steps):
        log, total = episodes(8)
        optimizer.zero_grad()
        loss = -(log * (total - total.mean())).mean()
        loss.backward()
        optimizer.step()
        report(step, loss)
    with torch.no_grad():
        return {"return": episodes(64)[1].mean()}


@pytest.mark.long
def test_a_gan_with_two_optimizers() -> None:
    state = torch.get_rng_state(), random.getstate()
    rec = autoopt.tune(gan, steps=60, budget=8, optimizers=["adamw", "sgd"], progress=False)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert rec.recommendation.tuned
    assert rec.workload.kind == "own loop"
    assert rec.expected.loss is not None
    assert rec.expected.loss < rec.workload.initial_loss
    labels = {group.label.partition(":")[0] for group in rec.workload.groups}
    assert labels == {"1. Sequential", "2. Sequential"}
    assert {g.lr_scale for g in rec.workload.groups} == {1.0, 2.0}
    assert any("unpaired" in reason for reason in rec.confidence.reasons)
    for given in (nn.Linear(2, 2), list(nn.Linear(2, 2).parameters())):
        optimizer, scheduler = rec.build(given)  # type: ignore[arg-type]
        assert sum(len(g["params"]) for g in optimizer.param_groups) == 2
        assert scheduler is not None


@pytest.mark.long
def test_an_agent_whose_return_is_maximised(tmp_path: Path) -> None:
    rec = autoopt.tune(
        agent,
        steps=40,
        budget=8,
        metric=("return", "max"),
        optimizers=["adamw", "sgd"],
        configure_optimizers=lambda policy: torch.optim.Adam(policy.parameters(), lr=1e-4),
        paired=True,
        out=tmp_path / "run",
        progress=False,
    )
    assert rec.settings.metric == ("return", "max")
    assert rec.expected.metric is not None
    assert rec.expected.metric > 1, "at random it is 0, at best 2.5"
    assert rec.workload.baseline.optimizer == "Adam"
    assert rec.recommendation.optimizer != BASELINE
    assert rec.promise == [], "the loss of a policy promises nothing"
    assert not any("unpaired" in reason for reason in rec.confidence.reasons)
    assert Recommendation.load(tmp_path / "run") == rec
    assert not (tmp_path / "run" / "train.py").exists(), "no file for a script to import"


def test_ctrl_c_keeps_the_best_so_far() -> None:
    runs = []

    def run(make_optimizer: Any, steps: int, seed: int, report: Any) -> Any:
        runs.append(steps)
        if len(runs) == 6:  # two that measured, three trials, and this one
            os.kill(os.getpid(), signal.SIGINT)
        return line(make_optimizer, steps, seed, report)

    rec = autoopt.tune(run, steps=30, budget=60, optimizers=["adamw"], progress=False)
    assert not rec.complete
    assert rec.recommendation.tuned
    assert len(runs) == 6


def test_the_baseline_of_a_program_is_for_the_program_to_build() -> None:
    rec = autoopt.tune(
        line,
        steps=10_000_000,  # no trial of a sensible length fits
        budget=3,
        optimizers=["adamw"],
        configure_optimizers=lambda given: torch.optim.SGD(given, lr=0.1),
        progress=False,
    )
    assert not rec.recommendation.tuned
    assert rec.recommendation.optimizer == BASELINE
    with pytest.raises(UsageError, match="only your program can build"):
        rec.build(nn.Linear(1, 1))


def test_mistakes_are_told_before_trials() -> None:
    def forgets(make_optimizer: Any, steps: int, seed: int, report: Any) -> None:
        line(make_optimizer, steps, seed, report)

    with pytest.raises(WorkloadError, match=r"forgets\(\) in test_own_loops\.py:\d+ returned None"):
        autoopt.tune(forgets, steps=30, budget=10, progress=False)

    def own_length(make_optimizer: Any, steps: int, seed: int, report: Any) -> Any:
        return line(make_optimizer, 1000, seed, report)

    with pytest.raises(WorkloadError, match="this run has 6"):
        autoopt.tune(own_length, steps=30, budget=10, progress=False)


FILE = """
import torch
from torch import nn

STEPS = 30


def run(make_optimizer, steps, seed, report):
    x = torch.linspace(-1, 1, 16).unsqueeze(1)
    model = nn.Linear(1, 1)
    optimizer = make_optimizer(model)
    for step in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - 3 * x - 1).square().mean()
        loss.backward()
        optimizer.step()
        report(step, loss)
    return loss.detach()
"""


@pytest.mark.long
def test_a_file_and_its_script(tmp_path: Path) -> None:
    target = tmp_path / "loop.py"
    target.write_text(FILE)
    loop: Any = load_any(str(target))
    job = Job(
        target=str(target),
        out=tmp_path / "run",
        budget=6,
        policy=policies.load("balanced"),
        flags=Flags(),
        optimizers=["adamw"],
    )
    rec = run_job(job, InProcess(loop, LoopEngine))  # type: ignore[arg-type]
    assert isinstance(rec, Recommendation)
    assert rec.recommendation.tuned
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "run" / "train.py"), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["steps"] == 30
    assert result["loss"] < rec.workload.initial_loss
    optimizer, _ = rec.build(nn.Linear(1, 1))
    assert optimizer.param_groups
