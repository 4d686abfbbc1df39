"""The terminal: the plan, live progress and the final report. The only file of the report that knows rich."""

from __future__ import annotations

import io
import re
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from autoopt.options import steps_of
from autoopt.records import Event, Plan, PlanMade, Recommendation, Row, RunResumed, RunStarted
from autoopt.report import notebook, snippets, speed, story
from autoopt.report.watch import Watch, label
from autoopt.report.words import (
    by_reason,
    command,
    duration,
    interval,
    length_of,
    measured,
    name_of,
    number,
    other_batches,
    pace,
    promised,
    rate_of,
    scaled,
    spread,
    times_batch,
)
from autoopt.session import Observer, Silent
from autoopt.trials.runner import Progress

_STYLES = {"recommended": "bold green", "tie": "cyan", "failed": "red", "not tried": "dim", "dropped": "dim"}
_WORDS = {"recommended": "chosen", "edge": "at edge"}
_TRUST = {"low": "red", "medium": "yellow", "high": "green"}
_WIDE = 116
_MIDDLE = 92
_NARROW = 72
_NAME = 9


@contextmanager
def observer(*, quiet: bool = False) -> Iterator[Observer]:
    """Who shows a run as it goes on: live on a terminal or in a notebook's cell, lines on stderr elsewhere.

    Nothing when quiet.
    """
    console = Console(stderr=True)
    if quiet:
        yield Silent()
    elif notebook.inside():
        with notebook.shown() as cell:
            yield cell
    elif console.is_terminal:
        view = _View(console)
        with view.live:
            yield view
    else:
        yield Lines()


def show(rec: Recommendation, folder: Path | None = None, console: Console | None = None) -> None:
    """Prints the final report; `folder` is where the files are."""
    out = console or Console(highlight=False)
    for part in _head(rec):
        out.print(part)
    # Lines to paste must not be broken, whatever the width.
    code = Syntax("", "python", theme="ansi_dark", background_color="default").highlight(
        snippets.snippet(rec).text
    )
    out.print(code, no_wrap=True, overflow="ignore", crop=False)
    for part in _rest(rec, folder, out.width):
        out.print(part)


def show_plan(plan: Plan, console: Console | None = None) -> None:
    """Prints the plan."""
    (console or Console(highlight=False)).print(_plan(plan))


def svg(rec: Recommendation, title: str = "autoopt profile model.py") -> str:
    """The final report as a picture; the same record gives the same text."""
    console = Console(record=True, width=_MIDDLE, file=io.StringIO(), force_terminal=True, highlight=False)
    show(rec, console=console)
    drawn = console.export_svg(title=title, unique_id="autoopt")
    # rich names a web font; a picture in a repository should fetch nothing.
    return re.sub(r"@font-face\s*{[^}]*}\s*", "", drawn)


class Lines:
    """Plain lines on stderr, for logs."""

    def __init__(self) -> None:
        self._watch = Watch()

    def event(self, event: Event) -> None:
        """Prints what is worth a line."""
        for line in self._watch.event(event):
            print(line, file=sys.stderr, flush=True)
        if isinstance(event, PlanMade):
            show_plan(event.plan, Console(stderr=True, highlight=False))

    def progress(self, progress: Progress) -> None:
        """Nothing: a log wants no pulse."""

    def tick(self, elapsed: float) -> None:
        """Nothing."""


class _View:
    """A few lines that stay in place at the bottom of the terminal."""

    def __init__(self, console: Console) -> None:
        self._watch = Watch()
        self._console = console
        self._began: float | None = None
        self.live = Live(self, console=console, refresh_per_second=4, transient=True)

    def event(self, event: Event) -> None:
        """Notes and warnings scroll by above; the rest is in the picture."""
        lines = self._watch.event(event)
        if isinstance(event, RunStarted | RunResumed):
            spent = event.spent_seconds if isinstance(event, RunResumed) else 0.0
            self._began = time.monotonic() - spent
        if event.kind in ("workload_loaded", "prior_taken", "noted", "run_resumed"):
            for line in lines:
                self._console.print(Text(line, style="dim"))
        if isinstance(event, PlanMade):
            self._console.print(_plan(event.plan))

    def progress(self, progress: Progress) -> None:
        """A trial moved on."""
        self._watch.progress(progress)

    def tick(self, elapsed: float) -> None:
        """Time passed."""
        self._watch.elapsed = elapsed

    def __rich__(self) -> RenderableType:
        watch = self._watch
        if watch.plan is None and self._began is not None:  # nothing ticks while the user's file is loaded
            watch.elapsed = time.monotonic() - self._began
        failed = f", {watch.failed} failed" if watch.failed else ""
        trials = f"{watch.done} of {watch.total} trials{failed}" if watch.plan else ""
        left = f"{duration(round(watch.left))} left" if watch.budget else ""
        head = Text.assemble((watch.stage, "bold"), "  ", trials, "  ", (left, "cyan"))
        rows: list[RenderableType] = [head, Text.assemble("best  ", (watch.best_words(), "green"))]
        grid = Table.grid(padding=(0, 1))
        for number_, slot in sorted(watch.slots.items()):
            length = steps_of(slot.spec.hyper, slot.spec.steps)
            steps = f"{slot.step}/{length}"
            bar = ProgressBar(total=length, completed=slot.step, width=16)
            grid.add_row(str(number_), Text(label(slot.spec)), bar, steps, f"loss {number(slot.loss)}")
        return Group(*rows, grid)


def _head(rec: Recommendation) -> Iterator[RenderableType]:
    keep = rec.against_yours.verdict == "keep"
    yield Text(rec.against_yours.sentence, style="bold" if keep else "bold green")
    if not rec.complete:
        yield Text("stopped early: this is the best so far", style="yellow")
    yield ""


def _rest(rec: Recommendation, folder: Path | None, width: int) -> Iterator[RenderableType]:
    yield Text.assemble(("why  ", "bold"), rec.reason)
    label_, reasons = rec.confidence.label, "; ".join(rec.confidence.reasons)
    yield Text.assemble(("confidence  ", "bold"), (label_, _TRUST[label_]), f": {reasons}")
    if rec.promise:
        yield Text.assemble(("promise  ", "bold"), promised(rec.promise), " of the real run")
    if rec.recommendation.effective_batch is not None:
        yield Text.assemble(("a step sees  ", "bold"), str(rec.recommendation.effective_batch))
    yield ""
    if measured(rec):
        yield _table(rec, width)
        for remark in filter(None, (length_of(rec), other_batches(rec))):
            yield Text(remark, style="dim")
        if speed.front(rec):
            yield Text(
                "* on the Pareto front: no other is as good in loss, step time and memory", style="dim"
            )
        yield ""
    said = {
        name_of(r.optimizer, rec): r.reason for r in rec.optimizers if r.reason and r.optimizer not in rec.cut
    }
    for reason, names in by_reason(said):
        yield Text(f"{', '.join(names)}: {reason}", style="dim")
    equal = [r for r in rec.optimizers if r.loss_at_equal_time is not None]
    if len(equal) > 1:
        values = ", ".join(f"{name_of(r.optimizer, rec)} {number(r.loss_at_equal_time)}" for r in equal)
        decides = "which decides" if rec.policy.get("objective") == "loss_at_time" else "equal steps decide"
        far = [r for r in rec.optimizers if r.expected is not None and r.loss_at_equal_time is None]
        if far:
            values += f"; not known from its own trials: {', '.join(name_of(r.optimizer, rec) for r in far)}"
        yield Text(f"loss at equal wall-clock (interpolated; {decides}): {values}", style="dim")
    if not rec.race:  # else the race begins with them
        for reason, names in by_reason(rec.cut):
            yield Text(f"not tried: {', '.join(names)} ({reason})", style="dim")
    for note in rec.notes:
        yield Text(f"note: {note}", style="dim")
    yield ""
    yield from _section("what each trades against tuned AdamW", speed.trades(rec))
    yield from _section("the speed of a step", speed.lines(rec))
    yield from _steps(rec, width)
    yield from _section("the race", story.race(rec))
    yield from _section("how the time was spent", story.time_spent(rec))
    if more := story.what_more_buys(rec):
        yield Text.assemble(("what more would buy  ", "bold"), (more, "dim"))
    if folder is not None:
        script, page = folder / "train.py", folder / "report.html"
        following = command(rec, shlex.quote(str(script))) if script.exists() else f"see {page}"
        yield Text.assemble(("next  ", "bold"), following)


def _section(title: str, lines: list[story.Line]) -> Iterator[RenderableType]:
    """A title, and under it heads with the text beside them; nothing where there are no lines."""
    if not lines:
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for head, text in lines:
        grid.add_row(Text(head, style="dim"), Text(text, style="dim"))
    yield Text(title, style="bold")
    yield grid
    yield ""


def _table(rec: Recommendation, width: int) -> Table:
    """Optimizers, best first. A narrow terminal gets half-widths for intervals, and of loss and metric what decides."""
    wide = width >= _WIDE
    metric = rec.settings.metric
    both = metric is None or width >= _MIDDLE
    rows = measured(rec)
    unit, size = _unit(rows)
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1 if width >= _MIDDLE else 0, 0, 0)
    )
    table.add_column("optimizer", overflow="fold", min_width=_NAME)
    if both:
        table.add_column("final loss", no_wrap=True)
    names = ["rate", "ms/step", "samples/s", f"state {unit}", f"peak {unit}"]
    left_out = () if width >= _NARROW else (2, 3)
    for name in [*([metric[0]] if metric else []), *_without(names, left_out)]:
        table.add_column(Text(name), justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        seen = row.expected
        loss = interval(seen) if wide else spread(seen)
        other = f" at {seen.steps}" if seen is not None and seen.steps != rec.expected.steps else ""
        if seen is not None and other:
            loss = number(seen.loss) + other
        name = name_of(row.optimizer, rec) + times_batch(row) + (" *" if row.pareto else "")
        cells = [name, *([loss] if both else [])]
        cells += [number(seen.metric if seen else None) + ("" if both else other)] if metric else []
        costs = [
            number(rate_of(row, rec), 2),
            number(1e3 * seconds if (seconds := pace(row)) else None, 3),
            scaled(seen.samples_per_second if seen else None).replace(" ", ""),
            *(number(v / size if v is not None else None, 3) for v in _sizes(row)),
        ]
        cells += [*_without(costs, left_out), _WORDS.get(row.status, row.status)]
        table.add_row(*(Text(cell) for cell in cells), style=_STYLES.get(row.status, ""))
    return table


def _without(cells: Sequence[str], left_out: Collection[int]) -> list[str]:
    """Of a row, what a very narrow terminal has room for."""
    return [cell for i, cell in enumerate(cells) if i not in left_out]


def _steps(rec: Recommendation, width: int) -> Iterator[RenderableType]:
    """The timed steps, without columns that say nothing; a narrow terminal has no room for the quartiles of the step.

    Nor for samples a second where tokens are told.
    """
    rows = speed.table(rec)
    left_out = set() if width >= _WIDE else {"middle half"}
    if left_out and any(row[speed.COLUMNS.index("tokens/s")] for row in rows):
        left_out.add("samples/s")
    shown = [i for i, name in enumerate(speed.COLUMNS) if name not in left_out and any(r[i] for r in rows)]
    if not shown:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i in shown:
        table.add_column(speed.COLUMNS[i], justify="right" if i else "left", no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[i]) for i in shown), style="dim")
    yield table
    yield ""


def _sizes(row: Row) -> tuple[int | None, int | None]:
    return (row.expected.state_bytes, row.expected.peak_bytes) if row.expected else (None, None)


def _unit(rows: list[Row]) -> tuple[str, float]:
    """One unit of memory for the whole table, so that its columns can be compared at a glance."""
    largest = max((size for row in rows for size in _sizes(row) if size is not None), default=0)
    return next(((u, s) for u, s in (("GB", 1e9), ("MB", 1e6)) if largest >= s), ("kB", 1e3))


def _plan(plan: Plan) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("stage", "optimizers", "trials", "steps", "seeds", "time"):
        table.add_column(name, justify="left" if name in ("stage", "optimizers") else "right")
    for stage in plan.stages:
        numbers = (str(stage.trials), str(stage.steps), str(stage.seeds), duration(stage.seconds))
        table.add_row(Text(stage.name), Text(", ".join(stage.optimizers)), *numbers)
    facts = (
        f"{duration(plan.step_seconds)} a step, {duration(plan.full_run_seconds)} a real run; "
        f"{duration(plan.budget_seconds)} with {plan.workers} at once allow {plan.affordable_steps} steps"
    )
    reach = Text.assemble("confidence that can be reached: ", (plan.confidence, _TRUST[plan.confidence]))
    if plan.next_level_seconds is not None:
        reach.append(f"; the next level takes {duration(plan.next_level_seconds)}")
    parts: list[RenderableType] = [Text(f"plan: {facts}", style="bold"), table, reach]
    parts += [Text(f"cut: {', '.join(names)} ({why})", style="dim") for why, names in by_reason(plan.cut)]
    parts += [Text(note, style="dim") for note in plan.notes]
    return Group(*parts, "")
