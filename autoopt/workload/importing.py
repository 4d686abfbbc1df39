"""A training script that trains while it is imported is told apart at its first step, not after its last."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.optim.optimizer import register_optimizer_step_pre_hook

from autoopt.errors import WorkloadError
from autoopt.workload.boundary import is_project_file


@contextmanager
def without_training(label: str, root: Path) -> Iterator[None]:
    """Refuses optimizer steps inside.

    Args:
        label: what errors call the file.
        root: the folder of the user's project.

    Raises WorkloadError with the line that took the step.
    """

    def refuse(*_: Any) -> None:
        own = [f for f in traceback.extract_stack() if is_project_file(f.filename, root)]
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else label
        raise WorkloadError(
            f"{label} trains while it is imported: {place} takes an optimizer step.",
            'Put its loop under `if __name__ == "__main__":`, or call autoopt.choose(...) in it before the loop.',
        )

    handle = register_optimizer_step_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()
