from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoopt.cli.main import run
from tests.workload.files import PLAIN, write


def test_json_is_alone_on_stdout_whoever_prints(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = write(tmp_path, PLAIN + "\nimport os\nos.write(1, b'from below python\\n')\n")
    assert run(["check", str(target), "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["devices"]
    assert "from below python" in err


def test_check_prints_what_a_trial_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = write(tmp_path, PLAIN.replace("STEPS = 40", "STEPS = 40\nprint('from the file')"))
    assert run(["check", target, "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    for text in (
        "21, of which 21 trainable",
        "2 Linear",
        "list(float32[8, 3], float32[8, 1])",
        "steps 40 (file)",
    ):
        assert text in out
    assert "enters autocast" in out
    assert "adahessian\tyes" in out
    assert "held out" in out
    assert "from the file" in err
    assert "from the file" not in out


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = write(
        tmp_path, "import sys\n" + PLAIN.replace("STEPS = 40", "STEPS = int(sys.argv[1])\nprint('noise')")
    )
    assert run(["check", target, "--json", "--device", "cpu", "--precision", "bf16", "--", "12"]) == 0
    found = json.loads(capsys.readouterr().out)["devices"]
    assert [report["device"] for report in found] == ["cpu"]
    assert found[0]["settings"]["steps"] == 12
    assert found[0]["settings"]["precision"] == "bf16"


LOOP = """
import torch
from torch import nn

STEPS = 40


def run(make_optimizer, steps, seed, report):
    model = nn.Linear(3, 1)
    optimizer = make_optimizer(model)
    for step in range(steps):
        optimizer.zero_grad()
        loss = (model(torch.randn(8, 3)) - 1).square().mean()
        loss.backward()
        optimizer.step()
        report(step, loss)
    return loss
"""


def test_a_loop_of_ones_own_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = write(tmp_path, LOOP)
    assert run(["check", target, "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in (
        "(own loop)",
        "4, of which 4 trainable",
        "loss (min), which run() returns",
        "two runs with one seed reported the same losses",
        "where run() calls make_optimizer(...)",
        "if your data depends on `seed` alone, say so (PAIRED = True",
        "adahessian\tno: it needs a closure",
    ):
        assert text in out
    assert "build_model" not in out


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("report(step, loss)", "pass"), "report"),
        (("    return loss", "    return 'good'"), "returned a str, not a number"),
        (("make_optimizer(model)", "torch.optim.SGD(model.parameters())"), "make_optimizer"),
    ],
)
def test_what_a_loop_does_wrong_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: tuple[str, str], message: str
) -> None:
    target = write(tmp_path, LOOP.replace(*edit))
    assert run(["check", target, "--device", "cpu"]) == 3
    err = capsys.readouterr().err
    assert message in err
    assert f"{Path(target).name}:" in err


def test_json_of_a_loop_is_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = write(tmp_path, LOOP + "METRIC = ('return', 'max')\nPAIRED = True\n")
    assert run(["check", target, "--device", "cpu", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["devices"]
    assert (found["kind"], found["pairing"], found["reproducible_data"]) == ("own loop", "yours", True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.py"], 3, "does not exist"),
        (["model.py", "--precision", "fp8"], 2, "no precision 'fp8'"),
        (["model.py", "--device", "tpu"], 2, "tpu"),
        (["model.py", "--device", "cpu"], 3, "model.py has no build_model()"),
    ],
)
def test_errors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "")
    assert run(["check", *arguments]) == code
    assert message in capsys.readouterr().err
