"""A run as Optuna studies, for optuna-dashboard: one over all trials, and one per optimizer.

Of the rest of the program only `tuning/study.py` knows Optuna too, which asks it for proposals.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from autoopt.errors import DiskFull, RunError, UsageError
from autoopt.export import bulk, staged
from autoopt.export.exported import RUNNING, Exported, Trial
from autoopt.export.target import WAY_OUT
from autoopt.optim.spec import Range
from autoopt.records import Outcome

_MARK = "autoopt_export"
"""Attribute of the studies that an export wrote: its name. Others' studies are never touched."""
_SQLITE = "sqlite:///"
_POINTS = 30
"""Of a curve: what a dashboard draws of hundreds of trials at once."""
_STATES = {
    Outcome.COMPLETED.value: TrialState.COMPLETE,
    # It was cut short because nothing good could come of it any more, and says so of its settings.
    Outcome.DIVERGED.value: TrialState.PRUNED,
    RUNNING: TrialState.RUNNING,
}
"""What is not here says nothing of its settings: it failed."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


class _Staged(sqlite3.Connection):
    """To a file that is flushed to the disk as a whole, and thrown away if anything goes wrong before."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA synchronous=OFF").close()
        self.execute("PRAGMA journal_mode=MEMORY").close()


class OptunaDatabase:
    """Studies in a database. An SQLite file is replaced in one step; what else is in it stays in it.

    Args:
        url: "sqlite:///study.db", the path of such a file, or another URL of SQLAlchemy.
        overwrite: whether studies of an earlier export under this name give way.
    """

    def __init__(self, url: str, *, overwrite: bool = False) -> None:
        self.url = url if "://" in url else f"{_SQLITE}{url}"
        self.overwrite = overwrite
        file = self.url.removeprefix(_SQLITE)
        self.path = Path(file) if self.url.startswith(_SQLITE) and file not in ("", ":memory:") else None
        if self.path is None and self.url.startswith("sqlite:"):
            raise UsageError(f"--optuna {url} names no file.", "Write it like sqlite:///study.db.")

    def check(self, run: Exported) -> None:
        """No study has the name of one that is to be written, or it may be replaced."""
        if self.path is not None and not self.path.exists():
            return
        if self.path is not None:
            _refuse_other_files(self.path)
        with _open(self.url, self.url) as storage:
            _in_the_way(storage, run, overwrite=self.overwrite)

    def write(self, run: Exported) -> dict[str, Any]:
        """All studies, or none."""
        if self.path is None:
            with _open(self.url, self.url) as storage:
                _fill(storage, run, overwrite=self.overwrite)
        else:
            with staged.file(self.path) as beside:
                if self.path.exists():
                    _copy(self.path, beside)
                with _open(f"{_SQLITE}{beside}", self.url, {"factory": _Staged}) as storage:
                    _fill(storage, run, overwrite=self.overwrite)
        return {"target": "optuna", "to": self.url, "studies": [run.name, *_parts(run)]}


@contextmanager
def _open(url: str, told: str, connect: Mapping[str, Any] | None = None) -> Iterator[RDBStorage]:
    """The storage; what goes wrong with it is told with the URL that the user gave."""
    storage = None
    try:
        storage = RDBStorage(url, engine_kwargs={"connect_args": dict(connect or {})})
        yield storage
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--optuna {told} needs {error.name}, which is not installed.", f"pip install {error.name}"
        ) from error
    except RunError:
        raise
    except Exception as error:
        # SQLAlchemy's and its drivers' errors have no common base that Optuna would hand on.
        _raise_database_error(error, told)
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


def _raise_database_error(error: Exception, told: str) -> None:
    reason = str(error.__cause__ or error).strip().splitlines()[0]
    if "disk is full" in reason or "disk I/O error" in reason:
        message = f"The disk is full: {told} could not be written. Nothing was changed there."
        raise DiskFull(message, "Free some space, or export to another place.") from error
    raise RunError(
        f"{told} cannot be used: {reason}", "Check the URL, and that an Optuna database may be there."
    ) from error


def _refuse_other_files(path: Path) -> None:
    """Optuna would make its tables in any database that it is given, also in one of another program."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as there:
            tables = {
                name for (name,) in there.execute("select name from sqlite_master where type = 'table'")
            }
    except sqlite3.Error as error:
        raise RunError(
            f"{path} is no SQLite database that can be read: {error}.", "Choose another file for --optuna."
        ) from error
    if tables and not tables >= {"studies", "trials", "version_info"}:
        raise RunError(f"{path} is a database of another program.", "Choose another file for --optuna.")


def _copy(source: Path, target: Path) -> None:
    """Also of a database that a dashboard has open."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def _parts(run: Exported) -> dict[str, str]:
    """The name of each optimizer's study."""
    return {f"{run.name}/{optimizer}": optimizer for optimizer in run.optimizers}


def _in_the_way(storage: RDBStorage, run: Exported, *, overwrite: bool) -> list[int]:
    """The studies of an earlier export under this name.

    Raises:
        RunError: there are some, and they may not be replaced; or one that is not ours has a name that is needed.
    """
    earlier, names = [], {run.name, *_parts(run)}
    for study in storage.get_all_studies():
        if study.user_attrs.get(_MARK) == run.name:
            if not overwrite:
                raise RunError(f"The database has a study {study.study_name!r} already.", WAY_OUT)
            earlier.append(study._study_id)
        elif study.study_name in names:
            raise RunError(
                f"The database has a study {study.study_name!r} that no export of this name wrote.",
                "Choose another --name, or another database.",
            )
    return earlier


def _fill(storage: RDBStorage, run: Exported, *, overwrite: bool) -> None:
    for study_id in _in_the_way(storage, run, overwrite=overwrite):
        storage.delete_study(study_id)
    written: list[str] = []
    try:
        for name, optimizer in _parts(run).items():
            own = [trial for trial in run.trials if trial.spec.optimizer == optimizer]
            space = _space(own, {key: [span] for key, span in run.ranges.get(optimizer, {}).items()})
            _study(storage, run, name, own, space, written)
        # The last one is the first that a dashboard lists.
        _study(storage, run, run.name, run.trials, _common(run), written)
    except BaseException:
        # Of a server's database: a file is thrown away as a whole.
        for name in written:
            optuna.delete_study(study_name=name, storage=storage)
        raise


def _study(
    storage: RDBStorage,
    run: Exported,
    name: str,
    trials: list[Trial],
    space: Mapping[str, BaseDistribution],
    written: list[str],
) -> None:
    compared, direction = run.compared
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="minimize" if direction == "min" else "maximize",
    )
    written.append(name)
    title = "validation loss" if compared == "loss" else compared
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([title])
    for key, value in {
        _MARK: run.name,
        "target": run.started.target,
        "objective": f"{title} at the end of the trial's own length",
        "intermediate values": "training loss",
        "state": run.state,
        "steps of the real run": run.report.settings.steps,
        "device": run.report.device,
        "parameters": run.report.parameters,
        "autoopt": run.started.version,
    }.items():
        study.set_user_attr(key, value)
    added = {
        storage.create_new_trial(study._study_id, _frozen(run, trial, number)): trial
        for number, trial in enumerate(trials)
    }
    told = {key: distribution_to_json(distribution) for key, distribution in space.items()}
    with storage.engine.begin() as connection:
        bulk.add(
            connection,
            parameters={
                id_: {key: (space[key].to_internal_repr(value), told[key]) for key, value in known.items()}
                for id_, trial in added.items()
                for known in [_parameters(trial, space)]
            },
            curves={id_: _thinned(trial.curve) for id_, trial in added.items()},
            attributes={
                id_: _attributes(trial) | {key: v for key, v in trial.hyper.items() if key not in space}
                for id_, trial in added.items()
            },
        )


def _parameters(trial: Trial, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    known: dict[str, Any] = {**trial.hyper, "optimizer": trial.spec.optimizer, "steps": trial.spec.steps}
    return {key: known[key] for key in space if key in known}


def _frozen(run: Exported, trial: Trial, number: int) -> FrozenTrial:
    """Without parameters, curve and attributes, which are added to all trials at once."""
    state = _STATES.get(trial.outcome, TrialState.FAIL)
    value = run.value(trial)
    if state is TrialState.COMPLETE and value is None:
        state = TrialState.FAIL
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=value if state is TrialState.COMPLETE else None,
        datetime_start=_moment(trial.began if trial.began is not None else trial.ended),
        datetime_complete=None if state is TrialState.RUNNING else _moment(trial.ended),
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def _attributes(trial: Trial) -> dict[str, Any]:
    told, result = trial.facts, trial.result
    if result is not None:
        told |= {
            "seconds": result.seconds.get("total"),
            "step_seconds": result.step_seconds,
            "state_bytes": result.state_bytes,
            "peak_bytes": result.peak_bytes,
            "message": result.message,
        }
    return {key: value for key, value in told.items() if value not in (None, "")}


def _common(run: Exported) -> dict[str, BaseDistribution]:
    """Of the study over all: the optimizer is a parameter like the others."""
    spans: dict[str, list[Range]] = {}
    for ranges in run.ranges.values():
        for key, span in ranges.items():
            spans.setdefault(key, []).append(span)
    return {"optimizer": CategoricalDistribution(run.optimizers), **_space(run.trials, spans)}


def _space(trials: Iterable[Trial], spans: Mapping[str, list[Range]]) -> dict[str, BaseDistribution]:
    """The policy's ranges, wider where a trial went beyond; what has no range spans the values that were tried.

    The length of the trials is a parameter where it differs: what is due to it is then not taken for the rates'. What is
    the same in all trials is none: a dashboard would offer plots of it.
    """
    trials = list(trials)
    values: dict[str, list[float]] = {}
    for trial in trials:
        for key, value in trial.hyper.items():
            values.setdefault(key, []).append(value)
    space: dict[str, BaseDistribution] = {}
    for key, tried in values.items():
        if key != "lr" and len(set(tried)) == 1:
            continue
        known = spans.get(key, [])
        low = min([*tried, *(span.low for span in known)])
        high = max([*tried, *(span.high for span in known)])
        log = bool(known) and low > 0 and all(span.scale == "log" for span in known)
        space[key] = FloatDistribution(low, high, log=log)
    lengths = {trial.spec.steps for trial in trials}
    if len(lengths) > 1:
        space["steps"] = IntDistribution(min(lengths), max(lengths), log=True)
    return space


def _thinned(curve: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Evenly, the last point among them."""
    every = -(-len(curve) // _POINTS) or 1
    return curve[::-1][::every][::-1]


def _moment(at: float | None) -> datetime | None:
    """Optuna's own are in local time, without a zone."""
    return None if at is None else datetime.fromtimestamp(at)
