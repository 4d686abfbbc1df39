"""Resident memory of this process: how much it holds, and the most it held since a moment. Imports no torch."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class ResidentPeak:
    """The most resident memory of this process since it was made.

    Linux keeps the peak and sets it back when asked ("5" to `/proc/self/clear_refs`), so nothing between two looks
    is missed. Elsewhere, and where that is forbidden, the peak is that of the moments at which `look` was called.

    Args:
        clear: where Linux is asked to set the peak back; for tests.

    >>> peak = ResidentPeak()
    >>> peak.look()
    >>> peak.bytes() > 1e6
    True
    """

    def __init__(self, clear: Path = _CLEAR) -> None:
        self._seen = 0
        self._exact = sys.platform == "linux" and _set_back(clear)

    def look(self) -> None:
        """Takes the present size into account; costs nothing where the system keeps the peak."""
        if not self._exact:
            self._seen = max(self._seen, int(psutil.Process().memory_info().rss))

    def bytes(self) -> int:
        """The peak so far, in bytes."""
        if self._exact and (high := _high_water()) is not None:
            return high
        self._exact = False
        self.look()
        return self._seen


def _set_back(clear: Path) -> bool:
    try:
        clear.write_text("5")
    except OSError:  # a sandbox without it
        return False
    return _high_water() is not None


def _high_water() -> int | None:
    """Bytes of VmHWM."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
