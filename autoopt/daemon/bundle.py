"""A project that arrives as an archive: packed by the client, unpacked by the daemon so that nothing leaves its folder.

An archive is data of a stranger until it is unpacked. Taken are .zip, .tar and .tar.gz with regular files and folders.
Refused are paths that are absolute or climb up, links of any kind, devices, encrypted or doubled entries, and whatever
grows beyond the limits: what counts is what comes out, not what the archive says of itself.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from autoopt.errors import UsageError
from autoopt.files import raise_unwritable

_CHUNK = 1 << 16
_LEFT_OUT = frozenset({"__pycache__", "node_modules", "autoopt-out", "venv", "env", "site-packages"})
"""Folders that are no part of a project's code or data."""


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold."""

    files: int = 20_000
    total_bytes: int = 2 << 30
    depth: int = 32
    directory_bytes: int = 4 << 20
    """Of a zip's list of entries, all of which is read into memory."""


LIMITS = Limits()
MAX_ARCHIVE = 512 << 20
"""Bytes of an archive that is uploaded."""


class BadBundle(UsageError):
    """The uploaded archive cannot be taken."""


def pack(root: Path, archive: Path, limits: Limits = LIMITS) -> None:
    """Write the files under `root` as a zip; hidden files, caches and environments stay out, links are followed to files.

    Raises:
        UsageError: more than the daemon takes.
        RunError: the archive cannot be written.
    """
    total, count = 0, 0
    try:
        with zipfile.ZipFile(
            archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False
        ) as zipped:
            for path in _project(root):
                total, count = total + path.stat().st_size, count + 1
                if total > limits.total_bytes or count > limits.files:
                    raise UsageError(
                        f"{root} holds more than a project that can be uploaded: "
                        f"{limits.files} files, {limits.total_bytes >> 20} MiB.",
                        "Put the model into a folder of its own, and large data where the daemon's machine has it.",
                    )
                zipped.write(path, path.relative_to(root).as_posix())
    except OSError as error:
        raise_unwritable(error, archive, "Nothing was submitted.")


def unpack(archive: Path | IO[bytes], into: Path, limits: Limits = LIMITS) -> None:
    """Unpack `archive` into `into`, a folder that is not there yet; after an error it is not there either.

    Args:
        archive: a file's path, or a file that is open for reading and can be positioned.
        into: made by this, readable by its user only.
        limits: what is refused beyond.

    Raises:
        BadBundle: refused; the message says which entry and why.
        RunError: the disk is full, or cannot be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     here = Path(folder)
        ...     with zipfile.ZipFile(here / "a.zip", "w") as zipped:
        ...         zipped.writestr("../model.py", "")
        ...     unpack(here / "a.zip", here / "out")
        Traceback (most recent call last):
        ...
        autoopt.daemon.bundle.BadBundle: '../model.py' in the archive would leave the project's folder.
        ...
    """
    try:
        into.mkdir(mode=0o700)
        with archive.open("rb") if isinstance(archive, Path) else nullcontext(archive) as stream:
            if zipfile.is_zipfile(stream):
                _unzip(stream, into, limits)
            else:
                _untar(stream, into, limits)
        if not any(path.is_file() for path in into.rglob("*")):
            raise BadBundle("The archive holds no file.", _WAY_OUT)
    except BaseException as error:
        with suppress(OSError):
            shutil.rmtree(into)
        # zlib and the archive modules have errors of their own for damaged files; OSError is the disk's.
        if isinstance(error, _DAMAGED) and not isinstance(error, UsageError):
            raise BadBundle(f"The archive is damaged: {error}.", _WAY_OUT) from error
        if isinstance(error, OSError):
            raise_unwritable(error, into, "Nothing was submitted.")
        raise


_WAY_OUT = "Upload a .zip, .tar or .tar.gz of regular files."
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


class _Writer:
    """Writes entries below a folder, and counts."""

    def __init__(self, into: Path, limits: Limits) -> None:
        self._into = into
        self._limits = limits
        self._entries = 0
        self._bytes = 0

    def folder(self, name: str) -> None:
        self._count()
        self._place(name, is_folder=True)

    def file(self, name: str, content: IO[bytes]) -> None:
        self._count()
        path = self._place(name, is_folder=False)
        try:
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
        except (FileExistsError, IsADirectoryError) as error:
            raise BadBundle(f"{name!r} is in the archive twice.", _WAY_OUT) from error
        with os.fdopen(descriptor, "wb") as stream:
            while chunk := content.read(_CHUNK):
                self._bytes += len(chunk)
                if self._bytes > self._limits.total_bytes:
                    raise BadBundle(
                        f"The archive holds more than {self._limits.total_bytes >> 20} MiB.",
                        "Put large data where the daemon's machine has it, and name that place in your file.",
                    )
                stream.write(chunk)

    def _count(self) -> None:
        self._entries += 1
        if self._entries > self._limits.files:
            raise BadBundle(f"The archive holds more than {self._limits.files} files.", "Upload less.")

    def _place(self, name: str, *, is_folder: bool) -> Path:
        parts = _parts(name, self._limits)
        path = self._into
        inner = parts if is_folder else parts[:-1]
        for part in inner:
            path = path / part
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise BadBundle(f"{name!r} lies below something in the archive that is a file.", _WAY_OUT)
        return path if is_folder else path / parts[-1]


def _parts(name: str, limits: Limits) -> tuple[str, ...]:
    """The steps of an entry's path, none of which leads out."""
    if "\0" in name or "\\" in name:
        raise BadBundle(f"{name!r} in the archive is no path of this system.", _WAY_OUT)
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise BadBundle(f"{name!r} in the archive would leave the project's folder.", _WAY_OUT)
    if not path.parts:
        raise BadBundle("An entry of the archive has no name.", _WAY_OUT)
    try:
        longest = max(len(part.encode()) for part in path.parts)
    except UnicodeEncodeError:
        raise BadBundle(f"{name!r} in the archive is not UTF-8.", _WAY_OUT) from None
    if len(path.parts) > limits.depth or longest > 255:
        raise BadBundle(f"{name[:80]!r}... in the archive is nested or named too long.", _WAY_OUT)
    return path.parts


# --- zip --------------------------------------------------------------------------------------------------


def _unzip(stream: IO[bytes], into: Path, limits: Limits) -> None:
    _check_directory(stream, limits)
    writer = _Writer(into, limits)
    with zipfile.ZipFile(stream) as zipped:
        for entry in zipped.infolist():
            name = entry.orig_filename
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if entry.flag_bits & 1:
                raise BadBundle(f"{name!r} in the archive is encrypted.", _WAY_OUT)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise BadBundle(f"{name!r} in the archive is a link or a device.", _WAY_OUT)
            # The other methods may ask for gigabytes of memory before the first byte comes out.
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BadBundle(f"{name!r} in the archive is compressed in an unusual way.", _WAY_OUT)
            if entry.is_dir() or kind == stat.S_IFDIR:
                writer.folder(name)
                continue
            with zipped.open(entry) as content:
                writer.file(name, content)


def _check_directory(stream: IO[bytes], limits: Limits) -> None:
    """The list of entries must be small: zipfile reads all of it, before anything can be counted."""
    stream.seek(0, os.SEEK_END)
    size = stream.tell()
    tail_at = max(0, size - (1 << 16) - 22 - 20)
    stream.seek(tail_at)
    tail = stream.read()
    # As zipfile looks for it: at the very end, or with a comment behind it.
    end = len(tail) - 22
    if not (tail[end : end + 4] == b"PK\5\6" and tail[-2:] == b"\0\0"):
        end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        raise BadBundle("The archive has no end.", _WAY_OUT)
    entries, length = struct.unpack_from("<HL", tail, end + 10)
    if tail[max(0, end - 20) : end].startswith(b"PK\6\7") or entries == 0xFFFF or length == 0xFFFFFFFF:
        raise BadBundle("The archive is of the kind for more than 4 GiB or 65535 files.", "Upload less.")
    if entries > limits.files or length > limits.directory_bytes:
        raise BadBundle(f"The archive holds more than {limits.files} files.", "Upload less.")
    stream.seek(0)


# --- tar --------------------------------------------------------------------------------------------------


class _Bounded:
    """What tarfile reads from: no single read may be large, and the whole neither. Its own headers may claim anything."""

    _LARGEST = 1 << 20

    def __init__(self, stream: IO[bytes], total: int) -> None:
        self._stream = stream
        self._total = total

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._LARGEST:
            raise BadBundle("A header in the archive is too large.", _WAY_OUT)
        found = self._stream.read(size)
        self._check(self._stream.tell())
        return found

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET:
            self._check(position)
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, position: int) -> None:
        if position > self._total:
            raise BadBundle("The archive holds more than can be taken.", "Upload less.")


def _untar(stream: IO[bytes], into: Path, limits: Limits) -> None:
    stream.seek(0)
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    plain: IO[bytes] = gzip.GzipFile(fileobj=stream, mode="rb") if packed else stream  # type: ignore[assignment]
    # Every entry adds a header and padding of at most a few blocks.
    bounded = _Bounded(plain, limits.total_bytes + limits.files * 4096)
    writer = _Writer(into, limits)
    with tarfile.open(fileobj=bounded, mode="r:") as tar:  # type: ignore[call-overload]
        for entry in tar:
            if entry.isdir():
                if PurePosixPath(entry.name).parts:  # "./" itself
                    writer.folder(entry.name)
            elif entry.isreg() and not entry.issparse():
                content = tar.extractfile(entry)
                assert content is not None
                writer.file(entry.name, content)
            else:
                raise BadBundle(f"{entry.name!r} in the archive is a link or a device.", _WAY_OUT)
            tar.members = []  # they are kept otherwise, for archives that are read twice


def _project(root: Path) -> Iterator[Path]:
    """The regular files of a project, in order."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _LEFT_OUT
            and not (Path(folder, name) / "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and not name.endswith(".pyc") and path.is_file():
                yield path
