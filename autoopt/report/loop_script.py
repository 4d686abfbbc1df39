"""train.py for a training loop of the user's own: it calls their `run` with the recommended optimizer."""

from __future__ import annotations

import os
from pathlib import Path

from autoopt.records import Recommendation
from autoopt.report import script as scripts
from autoopt.report.snippets import facts
from autoopt.report.templating import code


def script(rec: Recommendation, folder: str | Path, target: str | None = None) -> str:
    """The text of train.py.

    Args:
        rec: the recommendation for a file with `run(make_optimizer, steps, seed, report)`.
        folder: where the script will lie; it finds the user's file relative to itself.
        target: the user's file; by default what was profiled.
    """
    choice, named = rec.recommendation, target or rec.workload.target
    return code("loop.py.j2").render(
        rec=rec,
        choice=choice,
        hyper=dict(choice.hyper) if choice.tuned or not facts.keeps_optimizer(rec) else {},
        keeps=facts.keeps_optimizer(rec),
        target=scripts.target_from(named, Path(folder)),
        is_file=":" not in Path(named).name,
        project=os.path.relpath(Path.cwd(), Path(folder).resolve()),
        target_arguments=facts.target_arguments(rec),
        metric="loss" if rec.settings.metric is None else rec.settings.metric[0],
        next_choice=scripts.next_choice(rec),
        threads=rec.workload.threads if rec.workload.device == "cpu" else None,
    )
