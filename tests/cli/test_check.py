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
