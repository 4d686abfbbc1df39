"""Atomic and versioned reading and writing of text and records.

A reader sees the old file or the new one, never half of one, also after a power cut: the text is written
beside the target, flushed to the disk, renamed over it, and the rename is flushed too. What is read is
validated.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from autoopt.errors import DiskFull, RunError

RecordT = TypeVar("RecordT", bound=BaseModel)

_UNICODE_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
_OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT}


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Replace the file at `path` by `text` (UTF-8) in one step; make its folder if need be.

    A symbolic link is followed, and the permissions of an existing file are kept.

    Args:
        path: where to write.
        text: the whole new content.

    Returns:
        The path written to.

    Raises:
        RunError: the disk is full or the place cannot be written to; an old file is as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text(Path(folder) / "a" / "note.txt", "done").read_text()
        'done'
    """
    given = Path(path)
    target = Path(os.path.realpath(given))
    # Beside the target, because a rename is atomic only inside one file system.
    beside = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_new(beside, text.encode("utf-8"))
        if target.exists():
            beside.chmod(target.stat().st_mode & 0o7777)
        beside.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise_unwritable(error, given, "Nothing was changed there.")
    finally:
        with suppress(OSError):
            beside.unlink()
    return given


def write_record(path: str | os.PathLike[str], record: BaseModel) -> Path:
    """Write a record as YAML (`.yaml`, `.yml`) or JSON (`.json`), by the suffix.

    Raises:
        RunError: as `write_text`.
        ValueError: the suffix is neither, or the record holds a number that is not finite.
    """
    data = plain(record)
    if _is_yaml(Path(path)):
        text = to_yaml(data)
    else:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return write_text(path, text)


def read_record(path: str | os.PathLike[str], kind: type[RecordT]) -> RecordT:
    """Read and validate a record of type `kind` from YAML or JSON, by the suffix.

    Raises:
        RunError: no such file, not YAML or JSON, another schema than `kind` has, or an invalid value; the
            message names the file and the key.
        ValueError: the suffix is neither.
    """
    where = Path(path)
    as_yaml = _is_yaml(where)
    try:
        text = where.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunError(f"There is no file {where}.", "Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{where} cannot be read: {error}.", "Check its permissions and content.") from error
    try:
        data = yaml.safe_load(text) if as_yaml else json.loads(text)
    except (yaml.YAMLError, ValueError) as error:
        language = "YAML" if as_yaml else "JSON"
        raise RunError(f"{where} is not {language}: {error}", "Repair it, or write it anew.") from error
    return _validated(where, data, kind)


def plain(record: BaseModel) -> dict[str, Any]:
    """A record as dicts, lists, strings and finite numbers, by its aliases.

    Raises:
        ValueError: a number is NaN or infinite; the message says under which key.

    Example:
        >>> from autoopt.records import Noted
        >>> plain(Noted(at=1.5, text="hello"))
        {'kind': 'noted', 'at': 1.5, 'text': 'hello'}
    """
    # Before the dump as JSON, which turns NaN into null without a word.
    if bad := _not_finite(record.model_dump(by_alias=True)):
        raise ValueError(f"{type(record).__name__}: {bad} is not a finite number; what is unknown is None")
    return record.model_dump(mode="json", by_alias=True)


def to_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML in the order of its keys, short lists of numbers on one line."""
    options: Any = {"sort_keys": False, "default_flow_style": None, "width": 110}
    text: str = yaml.safe_dump(data, allow_unicode=True, **options)
    if _UNICODE_BREAKS.search(text):
        # PyYAML writes these unquoted, and folds them when it reads.
        text = yaml.safe_dump(data, allow_unicode=False, **options)
    return text


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename or a new file in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def raise_unwritable(
    error: OSError, path: Path, kept: str, *, elsewhere: str = "choose another folder with --out"
) -> NoReturn:
    """Raise the RunError (DiskFull) for a write that failed; `kept` says what is still there, `elsewhere` the way out."""
    if error.errno in _OUT_OF_SPACE:
        message = f"The disk is full: {path} could not be written. {kept}"
        raise DiskFull(message, f"Free some space, or {elsewhere}.") from error
    reason = error.strerror or str(error)
    message = f"{path} could not be written: {reason}. {kept}"
    raise RunError(message, f"Check the permissions, or {elsewhere}.") from error


def _write_new(path: Path, content: bytes) -> None:
    # Not tempfile: its files are 0600, and these are to follow the user's umask.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _is_yaml(path: Path) -> bool:
    if path.suffix in (".yaml", ".yml"):
        return True
    if path.suffix == ".json":
        return False
    raise ValueError(f"a record is written as .yaml, .yml or .json, not as '{path.name}'")


def _validated(where: Path, data: object, kind: type[RecordT]) -> RecordT:
    if not isinstance(data, dict):
        raise RunError(f"{where} holds no {kind.__name__}: it is not a table of keys.", "Check the path.")
    field = kind.model_fields.get("schema_")
    known = get_args(field.annotation) if field else ()
    if known and data.get("schema") not in known:
        found = data.get("schema", "no schema")
        raise RunError(
            f"{where} has {found!r} where this version reads {' or '.join(map(repr, known))}.",
            "Read it with the version of autoopt that wrote it, or run autoopt profile again.",
        )
    if bad := _not_finite(data):
        raise RunError(f"{where}: {bad} is not a finite number.", "Remove it, or write null.")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the top level"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise RunError(f"{where}: {key}: {first['msg']}{more}.", "Correct that key.") from error


def _not_finite(value: object, key: str = "") -> str | None:
    """The key of the first NaN or infinity inside `value`."""
    if isinstance(value, float):
        return None if math.isfinite(value) else key
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = dict(enumerate(value)).items()
    else:
        return None
    for name, part in parts:
        if bad := _not_finite(part, f"{key}.{name}" if key else str(name)):
            return bad
    return None
