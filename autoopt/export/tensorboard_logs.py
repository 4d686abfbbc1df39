"""A run as TensorBoard logs: a folder a trial, scalars and hyperparameters. The only file that knows TensorBoard.

The records are written through TensorBoard's own package, so neither torch nor TensorFlow is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoopt.errors import RunError
from autoopt.export import staged
from autoopt.export.exported import RUNNING, Exported, Trial
from autoopt.export.target import WAY_OUT, needs
from autoopt.records import Outcome

_MARK = ".autoopt-export"
"""In a folder that an export wrote: no other one is ever replaced."""
_CURVE = "training_loss"


class TensorboardLogs:
    """`<folder>/<name>`, for `tensorboard --logdir <folder>`; other runs in that folder stay as they are."""

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        self.folder, self.overwrite = folder, overwrite

    def check(self, run: Exported) -> None:
        """TensorBoard is there, and no run of this name, or it may be replaced."""
        with needs("--tensorboard", "tensorboard"):
            import tensorboard.compat.proto.event_pb2
            import tensorboard.plugins.hparams.metadata
            import tensorboard.summary.writer.record_writer  # noqa: F401
        place = self.folder / run.name
        if self.folder.exists() and not self.folder.is_dir():
            raise RunError(f"{self.folder} is a file.", "Give a folder for --tensorboard.")
        if not place.exists():
            return
        if not self.overwrite:
            raise RunError(f"{place} is there already.", WAY_OUT)
        if not (place / _MARK).exists():
            raise RunError(f"{place} was not written by an export.", "Choose another folder or --name.")

    def write(self, run: Exported) -> dict[str, Any]:
        """The whole folder, or nothing."""
        place = self.folder / run.name
        with staged.folder(place) as beside:
            (beside / _MARK).write_text(f"{run.key}\n", encoding="utf-8")
            with _log(beside, run.started.at) as log:
                log.add(_experiment(run), run.started.at)
            for trial in run.trials:
                _write(beside / trial.title.replace(" ", "_"), run, trial)
        return {"target": "tensorboard", "to": str(place), "runs": len(run.trials)}


def _write(folder: Path, run: Exported, trial: Trial) -> None:
    began = trial.began or trial.ended or run.started.at
    ended = trial.ended or began
    folder.mkdir()
    with _log(folder, began) as log:
        log.add(_session_start(run, trial, began), began)
        for step, loss in trial.curve:
            log.scalar(_CURVE, loss, step, began + (ended - began) * step / trial.spec.steps)
        done = trial.result.steps_done if trial.result is not None else 0
        for name, value in _final(run, trial).items():
            log.scalar(name, value, done, ended)
        if trial.outcome != RUNNING:
            log.add(_session_end(trial, ended), ended)


def _final(run: Exported, trial: Trial) -> dict[str, float]:
    told = {"loss": trial.loss}
    if run.report.settings.metric is not None:
        told[run.report.settings.metric[0]] = trial.metric
    return {name: value for name, value in told.items() if value is not None}


class _Log:
    """One file of events."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, summary: Any, at: float, step: int = 0) -> None:
        from tensorboard.compat.proto import event_pb2

        event = event_pb2.Event(wall_time=at, step=step, summary=summary)
        self._writer.write(event.SerializeToString())

    def scalar(self, name: str, value: float, step: int, at: float) -> None:
        from tensorboard.compat.proto import summary_pb2

        point = summary_pb2.Summary.Value(tag=name, simple_value=value)
        self.add(summary_pb2.Summary(value=[point]), at, step)


@contextmanager
def _log(folder: Path, at: float) -> Iterator[_Log]:
    from tensorboard.compat.proto import event_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    with (folder / f"events.out.tfevents.{int(at)}.autoopt").open("wb") as stream:
        writer = RecordWriter(stream)
        first = event_pb2.Event(wall_time=at, file_version="brain.Event:2")
        writer.write(first.SerializeToString())
        yield _Log(writer)


def _experiment(run: Exported) -> Any:
    """Which columns the table of hyperparameters has."""
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    number, text = api_pb2.DataType.DATA_TYPE_FLOAT64, api_pb2.DataType.DATA_TYPE_STRING
    kinds = dict.fromkeys(["optimizer", "stage"], text) | dict.fromkeys(["steps", "seed"], number)
    kinds |= dict.fromkeys(sorted({name for trial in run.trials for name in trial.hyper}), number)
    metric = run.report.settings.metric
    names = ["loss", *([metric[0]] if metric else [])]
    experiment = api_pb2.Experiment(
        description=f"autoopt: {run.started.target}",
        time_created_secs=run.started.at,
        hparam_infos=[api_pb2.HParamInfo(name=name, type=kind) for name, kind in kinds.items()],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=name)) for name in names],
    )
    return _plugin(metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment))


def _session_start(run: Exported, trial: Trial, at: float) -> Any:
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    spec = trial.spec
    info = plugin_data_pb2.SessionStartInfo(
        start_time_secs=at, group_name=f"{run.key} {spec.id}", model_uri=run.started.target
    )
    for name, value in {"optimizer": spec.optimizer, "stage": spec.stage}.items():
        info.hparams[name].string_value = value
    for name, number in {"steps": spec.steps, "seed": spec.seed, **trial.hyper}.items():
        info.hparams[name].number_value = number
    data = plugin_data_pb2.HParamsPluginData(session_start_info=info)
    return _plugin(metadata.SESSION_START_INFO_TAG, data)


def _session_end(trial: Trial, at: float) -> Any:
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    good = trial.outcome == Outcome.COMPLETED
    status = api_pb2.Status.STATUS_SUCCESS if good else api_pb2.Status.STATUS_FAILURE
    info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=at)
    return _plugin(metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=info))


def _plugin(tag: str, data: Any) -> Any:
    from tensorboard.compat.proto import summary_pb2
    from tensorboard.plugins.hparams import metadata

    value = summary_pb2.Summary.Value(
        tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
    )
    return summary_pb2.Summary(value=[value])
