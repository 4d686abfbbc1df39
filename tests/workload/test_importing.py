from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoopt.errors import WorkloadError
from autoopt.workload import load
from tests.workload.files import write

SCRIPT = """
import torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(10**9):
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
"""


def test_a_script_that_trains_at_its_import_is_refused_at_its_first_step(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"train\.py trains while it is imported: train\.py:7 takes"):
        load(write(tmp_path, SCRIPT, "train.py"))


def test_so_is_one_that_is_imported_by_it(tmp_path: Path) -> None:
    write(tmp_path, SCRIPT, "script.py")
    with pytest.raises(WorkloadError, match=r"model\.py trains while it is imported: script\.py:7 takes"):
        load(write(tmp_path, "import script"))


def test_afterwards_optimizers_step_as_ever(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError):
        load(write(tmp_path, SCRIPT, "train.py"))
    weight = torch.ones(1, requires_grad=True)
    weight.sum().backward()
    torch.optim.SGD([weight], lr=1.0).step()
    assert float(weight.detach()) == 0


def test_a_module_without_a_name_in_it_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "", "shop/__init__.py")
    write(tmp_path, "", "shop/train.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WorkloadError, match=r"shop\.train is a module") as caught:
        load("shop.train")
    assert "shop.train:NAME" in caught.value.hint
