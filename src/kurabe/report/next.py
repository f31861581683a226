"""The page of `next`: the likeliest tokens with their bars, as one HTML file that opens offline and runs no script."""

from markupsafe import Markup

from kurabe.errors import printable
from kurabe.lens.next_tokens import NextTokens, Sampling
from kurabe.report import format as fmt
from kurabe.report.html import _asset, _environment

MOST = 4_000
"""Characters of the text; of a longer one, its end."""


def next_html(seen: NextTokens) -> str:
    """The page: the end of the text, and each token with its probability by the model and of being drawn."""
    text = printable(seen.text)
    return _environment().get_template("next.html.j2").render(
        seen=seen, text=text[-MOST:], cut=len(text) > MOST, two=seen.sampling != Sampling(), fmt=fmt,
        widest=max((max(each.probability, each.drawn) for each in seen.tokens), default=1.0),
        printable=printable, style=Markup(_asset("report.css")),
    )  # fmt: skip
