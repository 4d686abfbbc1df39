"""A new process that goes on from every checkpoint in a folder: `python -m tests.optim.conformance._resume DIR`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.optim.conformance.cases import CASES, Case, net, regression

SEED, BEFORE, AFTER = 5, 3, 3


def go_on(case: Case, model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """The rest of the run: its parameters and state tensors."""
    for _ in range(AFTER):
        case.step(optimizer, regression(model))
    return {"params": [p.detach() for p in model.parameters()], "state": _tensors(optimizer.state_dict())}


def _tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value
        for name, entry in state["state"].items()
        for key, value in entry.items()
        if isinstance(value, Tensor)
    }


def main(folder: Path) -> None:
    """Writes `<case>.end` beside each `<case>.pt`."""
    torch.set_num_threads(1)
    for case in CASES:
        file = folder / f"{case.name}.pt"
        if not file.exists():
            continue
        try:
            saved = torch.load(file, weights_only=True)
            model = net()
            with torch.no_grad():
                for p in model.parameters():
                    p.zero_()
            optimizer = case.build(model)
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            torch.set_rng_state(saved["random"])  # AdaHessian draws its probes from there
            end = go_on(case, model, optimizer)
        except Exception as error:
            end = {"error": f"{type(error).__name__}: {error}"}
        torch.save(end, folder / f"{case.name}.end")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
