"""What several processes cannot train together, and the way out."""

from __future__ import annotations

from autoopt.errors import WorkloadError
from autoopt.workload.contract import Contract


def check_contract(given: Contract) -> None:
    """Raises WorkloadError where a framework's own loop trains the model, which starts processes by itself."""
    if given.lightning is not None:
        raise refused(f"{given.label} is a LightningModule", "its Trainer starts processes by itself")
    if given.score is not None or given.device is not None:
        raise refused(
            f"{given.label} gives a Trainer of transformers", "it takes part in torch.distributed by itself"
        )


def refused(what: str, why: str) -> WorkloadError:
    """The error for a workload that --nproc is not for."""
    return WorkloadError(
        f"--nproc trains the model of a build_model() with its loss in several processes, and {what}: {why}.",
        "Leave --nproc out and profile in one process, with --global-batch for the samples of a whole step; or write "
        "build_model(), train_dataloader() and loss() in a model.py.",
    )
