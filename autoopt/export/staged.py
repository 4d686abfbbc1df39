"""All or nothing: written under another name beside the target, flushed to the disk, then renamed over it.

`files.write_text` does it for text; here somebody else's library does the writing.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autoopt.files import raise_unwritable, sync_folder

_ELSEWHERE = "export to another place"


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` if the block ends well, and is gone otherwise.

    Raises:
        RunError: the disk is full, or the place cannot be written to; what was at `path` is as it was.
    """
    target = Path(os.path.realpath(path))
    beside = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _flush(beside)
        beside.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise_unwritable(error, path, "Nothing was changed there.", elsewhere=_ELSEWHERE)
    finally:
        # SQLite's journal lies beside its database, under the same name and more.
        for left in beside.parent.glob(f"{beside.name}*"):
            with suppress(OSError):
                left.unlink()


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """The same for a folder; one that is at `path` gives way.

    Raises:
        RunError: as of `file`.
    """
    target = Path(os.path.realpath(path))
    beside, old = _beside(target), _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        yield beside
        for written in beside.rglob("*"):
            if written.is_file():
                _flush(written)
        if target.exists():
            target.rename(old)
        try:
            beside.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        sync_folder(target.parent)
    except OSError as error:
        raise_unwritable(error, path, "Nothing was changed there.", elsewhere=_ELSEWHERE)
    finally:
        for left in (beside, old):
            shutil.rmtree(left, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
