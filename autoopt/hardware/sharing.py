"""Who uses a GPU, judged from samples of it: ours, CUDA's context, others; and whether somebody came. Pure functions.

Process ids tell it where the driver gives them and they are ours to read. In a container they may be hidden, or be those
of the host, which match none of ours. Then memory tells it: what is in use less what our allocator holds is the driver's,
our context's and the others', and it grows only when somebody comes.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from autoopt.hardware.gpu import Process
from autoopt.hardware.monitor import Sample

SLACK = 300 * 2**20
"""Bytes by which a context may grow while kernels are loaded; one of somebody else's takes more by itself."""


@dataclass(frozen=True)
class Quiet:
    """A GPU as it was before the first trial.

    Args:
        others: bytes in use before we came: the driver's and other processes'.
        strangers: ids of the processes that were there before us.
        outside: the fewest bytes in use beyond our allocator's when a trial began; None: not known yet.
        arrived: ids of those that came later, as far as they were noticed.
    """

    others: int
    strangers: frozenset[int] = frozenset()
    outside: int | None = None
    arrived: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Judged:
    """What the samples of a trial tell; sizes in bytes, None: not known.

    Args:
        disturbed: who came; empty: nobody.
        quiet: for the next trial.
    """

    used: int
    ours: int | None
    context: int | None
    disturbed: str
    quiet: Quiet


def judge(
    quiet: Quiet,
    before: Sample,
    during: Sequence[Sample],
    ours: Set[int],
    *,
    reserved: int | None,
    reserved_begin: int | None,
    alone: bool = True,
) -> Judged:
    """Judges one trial.

    Args:
        quiet: the GPU as it was.
        before: the last sample before the trial began.
        during: those while it ran.
        ours: ids of our processes.
        reserved: most bytes that our allocator held in the trial.
        reserved_begin: those that it held when the trial began.
        alone: whether no other trial of ours ran on the GPU; else only process ids are judged.
    """
    # Who was seen only before it began may have left by then; a trial shorter than the gap between looks has no other.
    samples = during or [before]
    used = max(sample.used for sample in samples)
    listed = {p.pid: p for sample in samples for p in sample.processes or ()}
    matched = bool(ours & listed.keys())
    mine = max(_bytes(sample, ours) or 0 for sample in samples) if matched else 0
    came: list[Process] = []
    if matched:
        came = [p for pid, p in listed.items() if pid not in ours and pid not in quiet.strangers]
        context = mine - reserved if mine and reserved is not None and alone else None
        return Judged(used, mine or None, None if context is None else max(0, context), _named(came), quiet)
    outside = None if reserved_begin is None else max(0, before.used - reserved_begin)
    if outside is not None:
        quiet = replace(quiet, outside=min(outside, quiet.outside or outside))
    if listed and alone:
        # Ids of the host's: which are ours is not told, but ours were there when the trial began.
        known = {p.pid for p in before.processes or ()} - quiet.arrived
        came = [p for pid, p in listed.items() if pid not in known and pid not in quiet.strangers]
        quiet = replace(quiet, arrived=quiet.arrived | {p.pid for p in came})
    disturbed = _named(came)
    context = total = None
    if alone and quiet.outside is not None and reserved is not None:
        context = max(0, quiet.outside - quiet.others)
        total = context + reserved
        beyond = used - reserved - quiet.outside
        if not disturbed and beyond > SLACK:
            disturbed = f"another process took {beyond / 2**30:.1f} GiB of its memory"
    return Judged(used, total, context, disturbed, quiet)


def _bytes(sample: Sample, ours: Set[int]) -> int | None:
    sizes = [p.memory_bytes for p in sample.processes or () if p.pid in ours]
    return None if not sizes or None in sizes else sum(size for size in sizes if size is not None)


def _named(came: Sequence[Process]) -> str:
    if not came:
        return ""
    first = min(came, key=lambda p: p.pid)
    more = f" and {len(came) - 1} more" if len(came) > 1 else ""
    return f"process {first.pid} of {first.owner or 'an unknown user'}{more} came onto it"
