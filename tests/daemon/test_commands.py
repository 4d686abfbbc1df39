from __future__ import annotations

import sys
from pathlib import Path

import pytest

from autoopt.daemon import commands
from autoopt.daemon.guard import MARKER
from autoopt.daemon.jobs import Job, Options, Submission
from autoopt.daemon.snapshot import Snapshot
from autoopt.errors import UsageError
from autoopt.hardware.leases import INHERITED
from autoopt.records import Cluster
from autoopt.trials.cluster.allotted import PLACES


def job(**options: object) -> Job:
    submission = Submission(target="m.py", arguments=["-x", "1"], options=Options.model_validate(options))
    return Job(id="a", submission=submission, created=1.0, folder="jobs/a")


SNAPSHOT = Snapshot(target="/copy/m.py", cwd="/cwd")


def test_every_option_becomes_a_flag() -> None:
    given = {
        "steps": 5,
        "budget": 90,
        "policy": "speed",
        "limit": "memory=1GB",
        "optimizers": ["adamw", "sgd"],
        "workers": 2,
        "precision": "bf16",
        "accumulate": 2,
        "global_batch": 64,
        "clip": 1.0,
        "schedule": "linear",
        "warmup": 0.1,
        "seed": 3,
        "prior": ["/a", "/b"],
    }
    command = commands.profile(job(**given), SNAPSHOT, Path("/f"), resume=False, device="cuda:0")
    assert command[:4] == [sys.executable, "-m", "autoopt", "profile"]
    assert command[-3:] == ["--", "-x", "1"]
    for flag in (
        "--steps=5",
        "--budget=90.0s",
        "--optimizers=adamw,sgd",
        "--prior=/b",
        "--seed=3",
        "--clip=1.0",
        "--global-batch=64",
        "--name=m",
    ):
        assert flag in command
    assert command[command.index("--device") + 1] == "cuda:0"
    # Whoever adds an option has to hand it on.
    assert set(given) | {"epochs", "device", "ship"} == set(Options.model_fields)


def test_a_resume_goes_on_with_what_was_given_first() -> None:
    command = commands.profile(job(steps=5), SNAPSHOT, Path("/f"), resume=True, device="cuda:0")
    assert "--resume" in command
    assert not any(word.startswith(("--steps", "--device")) for word in command)


def test_a_job_on_a_cluster_is_told_where_and_what_a_trial_takes_also_when_it_goes_on(tmp_path: Path) -> None:
    cluster = Cluster(address="head:6379", cpus=2.0, gpus=0.5)
    taken = SNAPSHOT.model_copy(update={"root": "/proj"})
    for resume in (False, True):
        command = commands.profile(
            job(ship="/proj/data"), taken, tmp_path, resume=resume, device="cuda", cluster=cluster
        )
        there = ["--cluster=head:6379", "--cpus-per-trial=2", "--gpus-per-trial=0.5"]
        at = command.index("--cluster=head:6379")
        assert command[at : at + 3] == there
        assert f"--ship={tmp_path / 'project' / 'data'}" in command
        assert command[-3:] == ["--", "-x", "1"]
    with pytest.raises(UsageError, match="not in the project"):
        commands.shipped("/elsewhere", taken, tmp_path)


def test_the_clusters_token_is_for_jobs_on_the_cluster(tmp_path: Path) -> None:
    base = {"RAY_AUTH_TOKEN": "secret", "RAY_AUTH_MODE": "token"}
    here = commands.environment(Submission(target="m.py"), "home:a", [], base)
    assert "RAY_AUTH_TOKEN" not in here
    there = commands.environment(Submission(target="m.py"), "home:a", [], base, places=tmp_path)
    assert (there["RAY_AUTH_TOKEN"], there[PLACES]) == ("secret", str(tmp_path))


def test_a_job_sees_its_devices_and_nothing_of_systemds() -> None:
    submission = Submission(
        target="m.py", environment={"A": "theirs", "CUDA_VISIBLE_DEVICES": "all", MARKER: "x"}
    )
    base = {"A": "ours", "B": "ours", "NOTIFY_SOCKET": "/run/x"}
    found = commands.environment(submission, "home:a", ["GPU-1"], base)
    assert found == {
        "A": "theirs",
        "B": "ours",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-1",
        INHERITED: "GPU-1",
        MARKER: "home:a",
    }


def test_what_a_submitter_may_edit_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    folder = tmp_path / "job"
    folder.mkdir()
    given = Submission(target="m.py", options=Options(policy="mine.yaml", prior=["earlier", "/abs"]))
    kept = commands.make_durable(given, tmp_path, folder).options
    assert kept.policy == str(folder / "policy.yaml")
    assert kept.prior == [str(tmp_path / "earlier"), "/abs"]
    (tmp_path / "mine.yaml").unlink()
    assert (folder / "policy.yaml").read_text() == "name: mine\n"
    assert (
        commands.make_durable(
            Submission(target="m.py", options=Options(policy="speed")), tmp_path, folder
        ).options.policy
        == "speed"
    )
