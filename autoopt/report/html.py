"""report.html: one file with everything in it, that works offline, in the dark and on a phone."""

from __future__ import annotations

import json

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from autoopt.options import steps_of
from autoopt.records import Recommendation, TrialResult
from autoopt.report import plots, recipe, snippets, speed, story, words
from autoopt.report.templating import page

_TITLES = {
    "rates": "Loss against learning rate",
    "race": "The race",
    "effort": "Effort per optimizer",
    "curves": "Loss curves",
    "promise": "What the real run should show",
    "time": "The trade-off: loss, step time, memory",
    "memory": "Loss against memory",
}


def render(rec: Recommendation, results: list[TrialResult], script: str | None = None) -> str:
    """The page.

    Args:
        rec: the recommendation.
        results: every trial, for the plots.
        script: the text of train.py, where there is one.
    """
    figures = plots.all_figures(rec, results)
    return page("report.html.j2").render(
        rec=rec,
        blocks=[
            ("paste", "Paste into your script", snippets.snippet(rec).text),
            ("yaml", "recommendation.yaml", recipe.dump(rec)),
            *([("script", "train.py", script)] if script is not None else []),
        ],
        figures=[(name, title, figures[name]["note"]) for name, title in _TITLES.items() if name in figures],
        data=_embedded(figures),
        plotly=Markup(get_plotlyjs()),
        trials=results,
        trades=speed.trades(rec),
        speed=speed.lines(rec),
        steps=speed.table(rec),
        step_columns=speed.COLUMNS,
        front=speed.front(rec),
        time_spent=story.time_spent(rec),
        race=story.race(rec, most=None),
        more=story.what_more_buys(rec),
        equal_time=any(row.loss_at_equal_time is not None for row in rec.optimizers),
        measured=words.measured(rec),
        cut=words.by_reason(words.untried(rec)),
        rate_of=lambda row: words.rate_of(row, rec),
        name_of=lambda name: words.name_of(name, rec),
        pace=words.pace,
        times_batch=words.times_batch,
        other_batches=words.other_batches(rec),
        length_of=words.length_of(rec),
        length=steps_of(rec.recommendation.hyper, rec.expected.steps),
    )


def _embedded(value: object) -> Markup:
    """JSON inside a script element: "<" written as an escape, so that no text can end the element."""
    text = json.dumps(value, allow_nan=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return Markup(text)
