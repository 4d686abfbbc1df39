from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoopt.errors import UserCodeError, WorkloadError
from autoopt.memory.answer import MemoryAnswer, MemoryRequest, OptimizerMemory
from autoopt.memory.predict import WORKSPACE, predict
from benchmarks.memory.measure import measure
from tests.workload.files import PLAIN, write

ROOT = Path(__file__).resolve().parents[2]
NETS = "benchmarks.memory.nets:make"


def ask(target: str, *names: str, **more: object) -> MemoryAnswer:
    request = {"target": target, "optimizers": names or ("adamw",), "kind": "cpu", **more}
    return predict(MemoryRequest.model_validate(request))


def row(answer: MemoryAnswer, name: str = "adamw") -> OptimizerMemory:
    return next(r for r in answer.optimizers if r.optimizer == name)


@pytest.mark.parametrize("name", ["char_gpt", "digits_resnet", "flights"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd_sai", "adahessian"])
def test_the_predicted_peak_is_what_the_allocator_sees(name: str, optimizer: str) -> None:
    """Within a tenth, by a count that knows nothing of traces: torch's profiler sees every allocation."""
    from autoopt.memory.batches import longest
    from autoopt.workload import load

    target = str(ROOT / "examples" / name / "model.py")
    found = row(ask(target, optimizer), optimizer)
    workload = load(target)
    try:
        real = measure(workload, workload.sketch(), optimizer, longest(workload).value)
    finally:
        workload.close()
    assert found.source == "fake-tensor trace"
    assert found.state_bytes == real["state_bytes"]
    assert found.peak_bytes == pytest.approx(real["peak_bytes"], rel=0.1)


def test_seven_billion_parameters_on_a_laptop() -> None:
    answer = ask(
        NETS, "sgd_sai", "adamw", arguments=["llama_7b", "1", "128"], kind="cuda", capacity_bytes=85 * 10**9
    )
    assert answer.parameters == 6_738_415_616
    adamw, sai = row(answer), row(answer, "sgd_sai")
    assert adamw.state_bytes is not None
    assert adamw.state_bytes - 8 * answer.parameters < 10_000
    assert sai.state_bytes is not None
    assert sai.state_bytes - 4 * answer.parameters < 10_000
    assert adamw.fits is False
    assert adamw.largest_batch == 0
    assert (adamw.peak_bytes or 0) > (sai.peak_bytes or 0) > 3 * 4 * answer.parameters + WORKSPACE


def test_a_smaller_state_buys_a_larger_batch(tmp_path: Path) -> None:
    target = write(tmp_path, PLAIN)
    answer = ask(target, "adamw", "sgd", capacity_bytes=60_000)
    adamw, sgd = row(answer), row(answer, "sgd")
    assert adamw.largest_batch is not None
    assert sgd.largest_batch is not None
    assert sgd.largest_batch > adamw.largest_batch > 8
    at_most = row(ask(target, "adamw", capacity_bytes=60_000, batch_size=adamw.largest_batch))
    beyond = row(ask(target, "adamw", capacity_bytes=60_000, batch_size=adamw.largest_batch + 1))
    assert (at_most.fits, beyond.fits) == (True, False)


def test_the_longest_batch_counts_and_is_named() -> None:
    answer = ask(NETS, arguments=["padded", "2", "64"])
    assert "number 4, the largest of the first" in answer.batch


def test_what_code_reads_of_a_fake_value_makes_an_estimate_and_is_said(tmp_path: Path) -> None:
    begin = "def loss(model, batch):"
    reads = PLAIN.replace(begin, f"{begin}\n    assert float(next(model.parameters()).sum()) < 1e9")
    traced, estimated = row(ask(write(tmp_path, PLAIN))), ask(write(tmp_path, reads, name="reads.py"))
    found = row(estimated)
    assert found.source == "analytic state plus estimate"
    assert found.state_bytes == traced.state_bytes
    assert found.peak_bytes == pytest.approx(traced.peak_bytes, rel=0.5)
    assert any("could not be traced" in note and "reads.py" in note for note in estimated.notes)


def test_an_error_of_the_user_s_own_is_their_error(tmp_path: Path) -> None:
    broken = PLAIN.replace("def loss(model, batch):", "def loss(model, batch):\n    batch.no_such_thing")
    with pytest.raises(UserCodeError, match="no_such_thing"):
        ask(write(tmp_path, broken))
    with pytest.raises(WorkloadError, match="does not exist"):
        ask(str(tmp_path / "none.py"))


def test_accumulation_keeps_the_gradients_beside_the_activations(tmp_path: Path) -> None:
    once, twice = (row(ask(write(tmp_path, PLAIN), accumulate=n)) for n in (1, 2))
    assert (twice.peak_bytes or 0) > (once.peak_bytes or 0)


def test_mixed_precision_keeps_less_for_backward() -> None:
    full, half = (
        row(ask(NETS, arguments=["vit_s", "4", "224"], kind="cuda", precision=p)) for p in ("fp32", "bf16")
    )
    assert half.activation_bytes is not None
    assert full.activation_bytes is not None
    assert half.activation_bytes < 0.8 * full.activation_bytes
    assert half.state_bytes == full.state_bytes


def test_random_state_and_modes_of_the_process_are_left_alone(tmp_path: Path) -> None:
    ask(write(tmp_path, PLAIN), kind="cuda")
    assert type(torch.ones(2) + 1) is torch.Tensor
    assert torch.autograd._engine_run_backward.__module__ == "torch.autograd.graph"
