"""A recommendation as the output of a notebook's cell: the answer, loss against rate, the optimizers. No network."""

from __future__ import annotations

from markupsafe import Markup

from autoopt.records import Recommendation
from autoopt.report import rate_svg, snippets, words
from autoopt.report.templating import page


def html(rec: Recommendation) -> str:
    """The HTML; text takes the colour of what is around it, so a dark theme and a light one both fit."""
    metric = rec.settings.metric
    return page("cell.html.j2").render(
        rec=rec,
        metric=metric[0] if metric else None,
        # The rate is what one looks for.
        hyper=sorted(rec.recommendation.hyper.items(), key=lambda item: item[0] != "lr"),
        rows=[row for row in rec.optimizers if row.optimizer not in rec.cut and row.expected is not None],
        plot=Markup(rate_svg.draw(rec)),
        legend=rate_svg.legend(rec),
        snippet=snippets.snippet(rec).text,
        rate_of=lambda row: words.rate_of(row, rec),
        name_of=lambda name: words.name_of(name, rec),
    )
