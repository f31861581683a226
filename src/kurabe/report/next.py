"""The page of `next`: the likeliest tokens with their bars, as one HTML file that opens offline and runs no script."""

from markupsafe import Markup

from kurabe.lens.next_tokens import NextTokens, Sampling
from kurabe.report import format as fmt
from kurabe.report.compare import printable
from kurabe.report.html import _asset, _environment

MOST = 4_000
"""Characters of the text; of a longer one, its end."""


def next_html(seen: NextTokens) -> str:
    """The page: the end of the text, and each token with its probability by the model and of being drawn."""
    text = printable(seen.text)
    return _environment().get_template("next.html.j2").render(
        seen=seen, text=text[-MOST:], cut=len(text) > MOST, two=seen.sampling != Sampling(), fmt=fmt,
        percent=percent, widest=max((max(each.probability, each.drawn) for each in seen.tokens), default=1.0),
        printable=printable, style=Markup(_asset("report.css")),
    )  # fmt: skip


def percent(share: float) -> str:
    """A probability with three digits that say something.

    >>> percent(0.734), percent(0.0512), percent(0.000004), percent(1.0)
    ('73.4 %', '5.12 %', '<0.01 %', '100 %')
    """
    if 0 < share < 1e-4:
        return "<0.01 %"
    value = share * 100
    return f"{value:.0f} %" if value >= 99.95 or value == 0 else f"{value:.1f} %" if value >= 10 else f"{value:.2f} %"
