"""Builds a C file once per machine and keeps the result on disk."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

_NAMES = ("cc", "gcc", "clang")
# No -ffast-math: infinities and NaN keep their meaning. Without errno the square root is one instruction.
_FLAGS = ("-O3", "-fno-math-errno", "-shared", "-fPIC")


class CompilerError(RuntimeError):
    """There is no C compiler, or it refused the source."""


@dataclass(frozen=True)
class Built:
    """A loaded library, and what it took."""

    library: ctypes.CDLL
    compiler: str
    """Its own words: "gcc (Debian 12.2.0-14) 12.2.0"."""
    seconds: float
    """Time of the compilation; 0 where the result was found on disk."""


def compiler() -> list[str]:
    """The C compiler's command: $CC, else the first of cc, gcc and clang that is installed.

    Raises:
        CompilerError: there is none.
    """
    asked = shlex.split(os.environ.get("CC", ""))
    found = next((name for name in ([asked[0]] if asked else _NAMES) if shutil.which(name)), None)
    if found is None:
        looked = f"$CC is {asked[0]!r}, which is not found" if asked else "none of cc, gcc, clang is found"
        raise CompilerError(
            f"fused=True needs a C compiler, and {looked}. Install one, or leave fused=None: pure torch."
        )
    return [found, *asked[1:]]


def cache() -> Path:
    """Where compiled kernels are kept: $AUTOOPT_CACHE, else the user's cache directory."""
    asked = os.environ.get("AUTOOPT_CACHE")
    return (Path(asked) if asked else user_cache_path("autoopt")) / "kernels"


def build(source: Path, folder: Path | None = None) -> Built:
    """Compiles and loads a C file, or loads the earlier result for the same source, compiler and processor.

    Args:
        source: one file without dependencies but the C library.
        folder: where results are kept; None is `cache()`. Where it cannot be written, the result serves this
            process only.

    Raises:
        CompilerError: no compiler, or it refused; its message is passed on.
    """
    command = compiler()
    version = _run([*command, "--version"]).splitlines()[0]
    folder = folder or cache()
    name = f"{source.stem}-{_key(source, command, version)}.so"
    kept = folder / name
    with contextlib.suppress(OSError):  # absent, or damaged: made anew
        return Built(ctypes.CDLL(str(kept)), version, 0.0)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / name
        _compile(command, source, made)
        seconds = time.perf_counter() - begin
        with contextlib.suppress(OSError):  # no space, no permission: this process has its own copy
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = folder / f"{name}.{os.getpid()}"
            try:
                shutil.copyfile(made, part)
                part.replace(kept)
            finally:
                part.unlink(missing_ok=True)
        return Built(ctypes.CDLL(str(made)), version, seconds)  # a loaded file may be unlinked


def _compile(command: list[str], source: Path, target: Path) -> None:
    # Some compilers of some processors do not know "native" for one of these, or for both.
    for tuning in (["-march=native"], ["-mcpu=native"], []):
        try:
            _run([*command, *_FLAGS, *tuning, str(source), "-o", str(target), "-lm"])
            return
        except CompilerError:
            if not tuning:
                raise


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise CompilerError(f"the C compiler does not start: {shlex.join(command)}: {error}") from error
    if done.returncode:
        raise CompilerError(f"the C compiler refused: {shlex.join(command)}\n{done.stderr.strip()}")
    return done.stdout


def _key(source: Path, command: list[str], version: str) -> str:
    parts = (source.read_text(), shlex.join(command), version, shlex.join(_FLAGS), _processor())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@functools.cache
def _processor() -> str:
    """What "native" depends on: a cache in a shared home serves machines of several kinds."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "features", "cpu part")
    first = info.read_text().split("\n\n")[0].lower().splitlines()
    return "\n".join(line for line in first if line.startswith(wanted))
