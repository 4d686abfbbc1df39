from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoopt import policy as policies
from autoopt.errors import BudgetError, PolicyError
from autoopt.job import DEFAULT_POLICY, Job, default_out, make_job, started
from autoopt.records import Flags, RunStarted
from autoopt.run import Run


def made(out: Path, **changes: Any) -> Job:
    """A job for which nothing was given but the changes."""
    given: dict[str, Any] = dict.fromkeys(("budget", "policy", "optimizers", "seed", "device", "workers"))
    given |= {"out": out, "resume": False, "flags": Flags(), "arguments": []}
    return make_job("model.py", **given | changes)


def begun(out: Path) -> None:
    """A run that has begun."""
    with Run.create(out) as run:
        run.append(
            RunStarted(
                at=0.0,
                target="model.py",
                arguments=["--width", "8"],
                flags=Flags(steps=500),
                budget_seconds=100.0,
                policy=policies.load("balanced").restrict(["adamw", "sgd"]).model_dump(mode="json"),
                optimizers=["adamw", "sgd"],
                seed=4,
                device="cpu",
                workers=3,
                version="0.0",
                name="mlp",
            )
        )


def test_a_resume_takes_what_was_not_given_from_the_run(tmp_path: Path) -> None:
    begun(tmp_path)
    again = made(tmp_path, resume=True)
    assert (again.budget, again.seed, again.device, again.workers) == (100.0, 4, "cpu", 3)
    assert again.flags == Flags(steps=500)
    assert again.optimizers == ["adamw", "sgd"]
    assert list(again.policy.candidates) == ["adamw", "sgd"]
    assert again.arguments == ["--width", "8"]
    assert again.name == "mlp"
    given = made(tmp_path, resume=True, budget="5m", seed=0, optimizers=["lion"], workers=1)
    assert (given.budget, given.seed, given.optimizers, given.workers) == (300.0, 0, ["lion"], 1)


def test_without_a_run_a_job_has_defaults(tmp_path: Path) -> None:
    fresh = made(tmp_path)
    assert (fresh.budget, fresh.seed, fresh.device, fresh.workers) == (300.0, 0, "auto", None)
    assert fresh.policy == policies.load(DEFAULT_POLICY)
    assert fresh.optimizers is None
    assert started(tmp_path) is None
    with pytest.raises(BudgetError):
        made(tmp_path, budget="never")


def test_what_cannot_be_used_is_refused_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        made(tmp_path / "out", policy="ballanced")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "folder"),
    [("model.py", "model"), ("some/where/net.py", "net"), ("package.module:make", "package.module.make")],
)
def test_the_folder_is_named_after_the_target(target: str, folder: str) -> None:
    assert default_out(target) == Path("autoopt-out") / folder
