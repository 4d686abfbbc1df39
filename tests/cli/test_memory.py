from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoopt.cli.main import run
from autoopt.memory.answer import MemoryRequest
from autoopt.memory.predict import predict
from autoopt.trials import ask_memory
from tests.workload.files import PLAIN, write

FIELDS = {
    "optimizer",
    "state_bytes",
    "parameter_bytes",
    "gradient_bytes",
    "activation_bytes",
    "peak_bytes",
    "source",
}


def test_json_is_one_object_with_a_list_of_optimizers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = write(tmp_path, PLAIN + "\nprint('noise')\n")
    assert run(["memory", target, "--gpu", "h100", "--optimizers", "adamw,sgd_sai", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert [row["optimizer"] for row in answer["optimizers"]] == ["adamw", "sgd_sai"]
    assert all(row.keys() >= FIELDS for row in answer["optimizers"])
    assert answer["capacity_bytes"] == 81559 << 20


def test_the_table_tells_what_fits(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predicted in this process."""
    monkeypatch.setattr(ask_memory, "ask", lambda request, **_: predict(request))
    command = ["memory", write(tmp_path, PLAIN), "--gpu", "24GB", "--optimizers", "sgd,adamw"]
    assert run([*command, "--global-batch", "16"]) == 0
    out = capfd.readouterr().out
    assert "fake-tensor trace" in out
    assert "2 batches to a step" in out
    assert "largest batch" in out
    assert "a GPU (24GB), 24 GB" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gpu", "h1000"], "h100"),
        (["--optimizers", "adamv"], "adamw"),
        (["--precision", "fp8"], "bf16"),
        (["--batch-size", "0"], "batch-size"),
        (["--accumulate", "2", "--global-batch", "16"], "same thing twice"),
        (["--batch-size", "4", "--global-batch", "16"], "Leave --batch-size out"),
        (["--global-batch", "12"], "The nearest that can are 8 and 16"),
    ],
)
def test_a_mistake_is_told_with_the_way_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(["memory", write(tmp_path, PLAIN), *arguments]) == 2
    assert said in capfd.readouterr().err


def test_real_steps_are_taken_where_they_are_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = write(tmp_path, PLAIN)
    request = MemoryRequest(target=target, optimizers=["adamw", "sgd"], kind="cpu")
    predicted = [row.model_dump() for row in predict(request).optimizers]
    assert run(["memory", target, "--optimizers", "adamw,sgd", "--measure", "--json"]) == 0
    measured = json.loads(capfd.readouterr().out)["optimizers"]
    assert [row["source"] for row in measured] == ["measured"] * 2
    for before, after in zip(predicted, measured, strict=True):
        assert after["state_bytes"] == before["state_bytes"]
        # On a CPU what passes inside the optimizer's step is not measured, and this net is all step.
        assert 0.6 * before["peak_bytes"] < after["peak_bytes"] < 1.1 * before["peak_bytes"]
    assert run(["memory", target, "--measure", "--gpu", "h100"]) == 2
