"""What the papers report, where it is cheap enough to be seen in a second. The rest: benchmarks/published/."""

from __future__ import annotations

import pytest

from autoopt.workload import load
from benchmarks.published import vit
from benchmarks.published.quadratic import OPTIMIZERS, descend, matrices


def test_adahessian_beats_adam_on_an_ill_conditioned_quadratic() -> None:
    """Condition 1e4, Adam at the best of its rates: at least twenty times as many steps."""
    diagonal = matrices()["diagonal"]
    ours = [descend(diagonal, OPTIMIZERS["AdaHessian"], 1.0, seed) for seed in (1, 2)]
    rates = (0.05, 0.1, 0.2, 0.5, 1.0)
    adam = [descend(diagonal, OPTIMIZERS["Adam"], lr, 1, limit=200) for lr in rates]
    reached = [run.steps for run in adam if run.steps is not None]
    assert all(run.steps is not None and 20 * run.steps < min(reached) for run in ours)


@pytest.mark.parametrize("seed", [1, 2])
def test_one_probe_is_the_hessian_of_a_diagonal_quadratic_so_a_rate_of_one_is_newtons_step(seed: int) -> None:
    run = descend(matrices()["diagonal"], OPTIMIZERS["AdaHessian"], 1.0, seed)
    assert run.steps == 1
    assert run.loss < 1e-10  # eps 1e-4 beside a smallest eigenvalue of 1


def test_r_of_sgd_sai_is_close_to_the_root_of_the_size_in_every_tensor_of_a_vit() -> None:
    workload = load(str(vit.MODEL))
    try:
        ratios = vit.ratios(workload)
    finally:
        workload.close()
    assert min(ratios) > 0.9
    assert max(ratios) < 1.2


def test_sgd_sai_holds_half_of_adamws_state_on_a_vit() -> None:
    workload = load(str(vit.MODEL))
    try:
        sizes = []
        for name in ("sgd_sai", "adamw"):
            contender = vit.SAI if name == "sgd_sai" else vit.ADAMW
            result = vit.trainer(workload)(
                contender.spec("", contender.grid[0], 0).model_copy(update={"steps": 1})
            )
            sizes.append(result.state_bytes)
        assert sizes[0] == pytest.approx(sizes[1] / 2, rel=0.01)
    finally:
        workload.close()
