"""How replays are asked for and told, alike in all reports: flags, tables, and where they go."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from benchmarks import results
from benchmarks.choice import HELD_OUT


class OfWorkload(Protocol):
    """Anything that was found on one workload."""

    @property
    def workload(self) -> str: ...


T = TypeVar("T", bound=OfWorkload)


def parts(found: Iterable[T]) -> Iterator[tuple[bool, list[T]]]:
    """(whether held out, what was found): first of the workloads that are open to tuning; an empty part is left out."""
    found = list(found)
    for held in (False, True):
        some = [one for one in found if (one.workload in HELD_OUT) is held]
        if some:
            yield held, some


def title(held: bool, some: Iterable[OfWorkload]) -> str:
    """ "Held out: autoencoder, recurrent"."""
    kind = "Held out" if held else "Workloads open to tuning"
    return f"{kind}: {', '.join(sorted({one.workload for one in some}))}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown; without a line's end at its end."""
    lines = [columns, *rows]
    text = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([text[0], "|" + "---|" * len(columns), *text[1:]])


def parser(
    command: str, doc: str | None, *, budgets: Sequence[float], tunings: int = 20, jobs: int = 1
) -> argparse.ArgumentParser:
    """The flags that all reports have, with their defaults."""
    made = argparse.ArgumentParser(prog=command, description=(doc or "").split("\n")[0])
    made.add_argument("--budgets", type=float, nargs="+", default=list(budgets), help="in full runs")
    made.add_argument("--tunings", type=int, default=tunings, help="simulated ones per workload and budget")
    made.add_argument("--jobs", type=int, default=jobs, help="processes")
    made.add_argument("--record", action="store_true", help="add it to benchmarks/RESULTS.md")
    return made


def tell(heading: str, command: str, flags: argparse.Namespace, text: str, more: str = "") -> None:
    """Prints it, and with `--record` adds it to RESULTS.md under the command that repeats it.

    Args:
        heading: of the section.
        command: without flags.
        flags: as `parser` reads them.
        text: what was found.
        more: flags of this report alone, as they were given.
    """
    if not flags.record:
        print(text)
        return
    told = f"{command} --budgets {' '.join(f'{b:g}' for b in flags.budgets)} --tunings {flags.tunings}{more}"
    results.append(results.heading(heading, told) + text)
