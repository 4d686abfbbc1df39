"""A checkpoint goes on to the bit in a new process, and so do pickles and copies."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.optim._sequences import gradients, parameters
from tests.optim.conformance._resume import BEFORE, SEED, go_on
from tests.optim.conformance.cases import CASES, SHAPES, Case, net, regression, same
from tests.optim.conformance.deviations import conforms, demand

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """For every case the uninterrupted run's end, and what a new process made of its checkpoint."""
    folder = tmp_path_factory.mktemp("resume")
    ends: dict[str, Any] = {}
    for case in CASES:
        try:
            model = net()
            optimizer = case.build(model)
            torch.manual_seed(SEED)
            for _ in range(BEFORE):
                case.step(optimizer, regression(model))
            checkpoint = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "random": torch.get_rng_state(),
            }
            torch.save(checkpoint, folder / f"{case.name}.pt")
            ends[case.name] = {"whole": go_on(case, model, optimizer)}
        except Exception as error:
            ends[case.name] = {"error": error}
    command = [sys.executable, "-m", "tests.optim.conformance._resume", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name, end in ends.items():
        result = folder / f"{name}.end"
        end["resumed"] = torch.load(result, weights_only=True) if result.exists() else {}
    return ends


@conforms("resume in a new process")
def test_a_new_process_goes_on_to_the_bit(case: Case, resumed: dict[str, Any]) -> None:
    end = resumed[case.name]
    if "error" in end:
        raise end["error"]
    whole, other = end["whole"], end["resumed"]
    demand("error" not in other, str(other.get("error")))
    demand(same(whole["params"], other["params"]), "the resumed run ends elsewhere")
    demand(whole["state"].keys() == other["state"].keys(), "the resumed run has another state")
    for key, value in whole["state"].items():
        demand(value.dtype == other["state"][key].dtype, f"{key} has another dtype")
        demand(torch.equal(value, other["state"][key]), f"{key} has other numbers")


@conforms("resume in bfloat16")
def test_a_bfloat16_checkpoint_goes_on_to_the_bit(case: Case, tmp_path: Path) -> None:
    resume(case, torch.bfloat16, tmp_path)


@conforms("resume in float64")
def test_a_float64_checkpoint_goes_on_to_the_bit(case: Case, tmp_path: Path) -> None:
    resume(case, torch.float64, tmp_path)


def resume(case: Case, dtype: torch.dtype, folder: Path) -> None:
    """Compares a run that goes through a file with one that goes on."""
    one, two = parameters(SHAPES, dtype), parameters(SHAPES, dtype)
    grads = gradients(one, 6)
    first, second = case.make(one), case.make(two)
    case.drive(first, one, grads[:3])
    torch.save({"optimizer": first.state_dict(), "params": [p.detach() for p in one]}, folder / "c.pt")
    loaded = torch.load(folder / "c.pt", weights_only=True)
    case.drive(first, one, grads[3:])
    with torch.no_grad():
        for p, q in zip(two, loaded["params"], strict=True):
            p.copy_(q)
    second.load_state_dict(loaded["optimizer"])
    case.drive(second, two, grads[3:])
    demand(same(one, two), "the resumed run ends elsewhere")


@conforms("copies and pickles")
@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["deepcopy", "pickle"]
)
def test_a_copy_goes_on_as_the_original(case: Case, how: Callable[[Any], Any]) -> None:
    params = parameters(SHAPES, torch.float32)
    grads = gradients(params, 6)
    optimizer = case.make(params)
    case.drive(optimizer, params, grads[:3])
    twin, twins = how((optimizer, params))
    before = [p.detach().clone() for p in params]
    case.drive(twin, twins, grads[3:])
    demand(same(params, before), "the copy moves the original's parameters")
    case.drive(optimizer, params, grads[3:])
    demand(same(params, twins), "the copy goes elsewhere")


@conforms("parameters with names")
def test_named_parameters_keep_their_names_through_a_checkpoint(case: Case) -> None:
    model = net()
    optimizer = case.make(model.named_parameters())
    case.step(optimizer, regression(model))
    saved = optimizer.state_dict()
    names = [name for group in saved["param_groups"] for name in group["param_names"]]
    demand(sorted(names) == sorted(n for n, _ in model.named_parameters()), "names are lost")
    case.make(net().named_parameters()).load_state_dict(saved)


@conforms("hooks of the state")
def test_hooks_run_around_saving_and_loading(case: Case) -> None:
    model = net()
    optimizer = case.build(model)
    case.step(optimizer, regression(model))
    seen = []
    optimizer.register_state_dict_pre_hook(lambda *_: seen.append("save"))
    optimizer.register_state_dict_post_hook(lambda *_: seen.append("saved"))
    optimizer.register_load_state_dict_pre_hook(lambda *_: seen.append("load"))
    optimizer.register_load_state_dict_post_hook(lambda *_: seen.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    demand(seen == ["save", "saved", "load", "loaded"], f"hooks ran as {seen}")
