"""The rows of a table: what one training of one configuration gave. JSON lines in `tables/WORKLOAD.json.gz`.

| column | meaning |
|---|---|
| workload, optimizer | names; `baseline` is the workload's own, AdamW as torch has it (lr 1e-3) |
| settings | flat hyperparameters, all that can be searched: {"lr": ..., "weight_decay": ..., ...} |
| length_fraction, steps | of the real run's T steps; the run has its own whole warm-up and decay |
| seed | 0: the grid; 1 and 2: repeats of the best; 1000 and above: fresh, for scoring alone |
| loss | validation loss at the end; null if the run diverged |
| initial_loss | validation loss before training, of this seed |
| metric | of the workload's METRIC, or null |
| diverged | the training loss was not finite, or far above the first one for long |
| seconds | of the training steps, data included: steps_done x the cost of a step that `costs.py` measured |
| cpu_seconds | CPU time that these steps took when the row was made, beside other processes |
| startup_seconds | CPU time of restoring the weights and building the optimizer |
| evaluate_seconds | CPU time of the validation |
| wall_seconds | all of the run on the clock |
| steps_done | fewer than `steps` if it diverged |
| curve | at most ten pairs (fraction of the run, mean training loss since the pair before) |
| code | digest of the workload's files |
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autoopt.records import Outcome, TrialResult

Row = dict[str, Any]
TABLES = Path(__file__).with_name("tables")
POINTS = 10


def read(path: Path) -> list[Row]:
    """The rows of a file; a last one that a killed process left half written is dropped."""
    text = b""
    if path.exists():
        try:
            with gzip.open(path) as file:
                while piece := file.read1(1 << 20):
                    text += piece
        except (EOFError, gzip.BadGzipFile, zlib.error):
            pass  # the torn end
    whole, _, _ = text.rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]


def append(path: Path, row: Row) -> None:
    """Adds one row as a gzip member of its own: what was there before cannot be harmed."""
    with path.open("ab") as file:
        file.write(gzip.compress(_line(row), mtime=0))


def write(path: Path, rows: Iterable[Row]) -> None:
    """All rows as one member, a quarter of the size, in a fixed order; the old file is replaced in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(
        rows, key=lambda row: (row["optimizer"], row["settings"]["lr"], row["steps"], row["seed"])
    )
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(gzip.compress(b"".join(map(_line, ordered)), mtime=0))
    beside.replace(path)


def row(workload: str, result: TrialResult, **others: Any) -> Row:
    """The row of a finished trial; `others` are the columns that it does not know."""
    spec, seconds = result.spec, result.seconds
    share = others.pop("cpu_seconds") / seconds["total"]
    return {
        "workload": workload,
        "optimizer": spec.optimizer,
        "settings": spec.hyper,
        "steps": spec.steps,
        "seed": spec.seed,
        "loss": _short(result.loss),
        "metric": _short(result.metric),
        "diverged": result.outcome is Outcome.DIVERGED,
        "seconds": _short(share * (seconds["train"] + seconds["data"])),  # until `costs.py` prices it
        "cpu_seconds": _short(share * (seconds["train"] + seconds["data"])),
        "startup_seconds": _short(share * seconds["build"]),
        "evaluate_seconds": _short(share * seconds["evaluate"]),
        "wall_seconds": _short(seconds["total"]),
        "steps_done": result.steps_done,
        "curve": _thinned(result.curve, spec.steps),
        **others,
    }


def digest(files: Iterable[Path]) -> str:
    """Eight digits that change with the content of the files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def _thinned(curve: list[tuple[int, float]], steps: int) -> list[tuple[float, float]]:
    """Each point a mean over a tenth of what was trained.

    >>> _thinned([(1, 4.0), (2, 2.0), (3, 1.0)], 6)
    [(0.1667, 4.0), (0.3333, 2.0), (0.5, 1.0)]
    """
    cuts = sorted({round(len(curve) * part / POINTS) for part in range(POINTS + 1)})
    found = []
    for begin, end in itertools.pairwise(cuts):
        chunk = [loss for _, loss in curve[begin:end]]
        found.append((round(curve[end - 1][0] / steps, 4), float(f"{sum(chunk) / len(chunk):.4g}")))
    return found


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _line(row: Row) -> bytes:
    return json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"
