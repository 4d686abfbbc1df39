"""How patient the daemon is with what it runs, and how careful with the disk."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Limits:
    """How patient the service is, in seconds, and how careful with the disk, in bytes."""

    grace: float = 5.0
    """That a cancelled run has, to end by itself."""
    pause: float = 5.0
    """Before a job is tried again that found the disk full; doubled each time, up to `longest_pause`."""
    longest_pause: float = 300.0
    free: int = 64 * 2**20
    """No job starts while less is free on the disk."""
