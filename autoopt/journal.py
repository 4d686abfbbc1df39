"""What a run's events say: reading them back, the time spent, what finished, what has changed since.

Pure functions of a folder's `events.jsonl` or of a list of events; `run.Run` writes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from autoopt.errors import RunError
from autoopt.files import plain
from autoopt.records import (
    Event,
    RunResumed,
    RunStarted,
    SlotsUsed,
    WorkloadLoaded,
    WorkloadReport,
)

FILE_NAME = "events.jsonl"

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)
_COMPARED = ("target", "arguments", "flags", "policy", "optimizers", "seed", "device", "version")
"""Of `RunStarted`. Budget and workers may change: they move no trial's result."""


def has_run(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder holds a run with at least one whole event."""
    try:
        return bool(read(Path(folder) / FILE_NAME)[0])
    except RunError:
        return False


def replay(folder: str | os.PathLike[str]) -> list[Event]:
    """The events of a run's folder, in order; a torn last line is left out. Takes no lock.

    Raises:
        RunError: no run there, or a line that is no event; the message says which.
    """
    path = Path(folder) / FILE_NAME
    return parse(read(path)[0], path)


def read(path: Path) -> tuple[bytes, bytes]:
    """The whole lines of an events file, and the torn rest after the last line end.

    Raises:
        RunError: no such file, or not readable.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise RunError(f"There is no run in {path.parent}.", "Check the path.") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    end = content.rfind(b"\n") + 1
    return content[:end], content[end:]


def parse(whole: bytes, path: Path) -> list[Event]:
    """Events from whole lines; `path` is for the message.

    Raises:
        RunError: a line that is no event.
    """
    events = []
    for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
        try:
            events.append(_EVENT.validate_python(json.loads(line, parse_constant=_refuse_constant)))
        except ValueError as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise RunError(
                f"{path}, line {number} is damaged: {reason}.",
                "Restore the file from a copy, or start anew without --resume, which keeps this folder aside.",
            ) from error
    return events


def slots_used(events: Iterable[Event]) -> SlotsUsed | None:
    """What the slots did in all sittings of a run that ended; `None`: in none."""
    found: SlotsUsed | None = None
    for event in events:
        if isinstance(event, SlotsUsed):
            found = event if found is None else found + event
    return found


def spent_seconds(events: Iterable[Event]) -> float:
    """Wall-clock seconds of all sessions: from each start or resume to the last event before the next."""
    spent, begin, last = 0.0, None, 0.0
    for event in events:
        if isinstance(event, RunStarted | RunResumed):
            spent += 0.0 if begin is None else last - begin
            begin = last = event.at
        # A clock that was set back must not give time back.
        last = max(last, event.at)
    return spent if begin is None else spent + (last - begin)


def changed_settings(events: Sequence[Event], started: RunStarted) -> list[str]:
    """What differs between the run's settings and `started`, in words; empty when nothing does.

    Compared are target, arguments, flags, policy, optimizers, seed, device and version; with the last
    `RunStarted`, so that a change that was accepted and recorded by another one counts as known.
    """
    before = [event for event in events if isinstance(event, RunStarted)]
    if not before:
        return []
    old, new = plain(before[-1]), plain(started)
    return [line for key in _COMPARED for line in _differences(key, old[key], new[key])]


def changed_workload(events: Sequence[Event], report: WorkloadReport) -> list[str]:
    """What differs in the project's files, the checkpoint and package versions since the last loading, in words."""
    before = [event.report for event in events if isinstance(event, WorkloadLoaded)]
    if not before:
        return []
    old = before[-1]
    changes = []
    for name in sorted({*old.modules, *report.modules}):
        if name not in report.modules:
            changes.append(f"{name} is no longer loaded")
        elif name not in old.modules:
            changes.append(f"{name} is new")
        elif old.modules[name] != report.modules[name]:
            changes.append(f"{name} was edited")
    was, now = old.checkpoint, report.checkpoint
    # A path that is another one is told by the settings. Runs of earlier versions know no digest.
    if was is not None and now is not None and was.digest and was.digest != now.digest:
        changes.append(f"the checkpoint {now.source} has other content")
    return changes + _differences("version of", old.versions, report.versions, separator=" ")


def refuse_changes(changes: Sequence[str], *, accept: bool = False) -> None:
    """Refuse to mix trials of different code or settings.

    Raises:
        RunError: `changes` is not empty and `accept` is false.
    """
    if changes and not accept:
        shown = "".join(f"\n  - {change}" for change in changes)
        raise RunError(
            f"The run cannot go on, because this has changed since it started:{shown}",
            "Undo the change, start a new run without --resume, or resume with --accept-changes.",
        )


def refuse_another_begin(first: WorkloadReport, now: WorkloadReport) -> None:
    """Refuse a checkpoint of another step, also where changes are accepted: what remains is then another run.

    Raises:
        RunError: it is one.
    """
    was = first.checkpoint.step if first.checkpoint is not None else 0
    step = now.checkpoint.step if now.checkpoint is not None else 0
    if was != step:
        raise RunError(
            f"The run began from step {was}, and would go on from step {step}: what remains is another run.",
            "Start a new run without --resume; --prior DIR lets it know the trials of this one.",
        )


def _differences(key: str, old: Any, new: Any, separator: str = ".") -> list[str]:
    if old == new:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = dict.fromkeys([*old, *new])
        return [
            line
            for name in names
            for line in _differences(f"{key}{separator}{name}", old.get(name), new.get(name))
        ]
    return [f"{key}: {_word(old)} -> {_word(new)}"]


def _word(value: object) -> str:
    return "not given" if value is None else json.dumps(value, ensure_ascii=False)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")
