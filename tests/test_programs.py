"""The programs on the pages about own loops and advice in mid-run run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGES = Path(__file__).parents[1] / "docs"


@pytest.mark.long
@pytest.mark.parametrize("page", ["own_loops.md", "midrun.md"])
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
def test_the_program_of_a_page_runs(page: str) -> None:
    torch.set_num_threads(1)
    program = re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)[0]
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(program, page, "exec"), names)
    assert names["rec"].recommendation.steps == 60
