"""The page of `compare`: all answers beside each other as one HTML file that opens offline and runs no script."""

from markupsafe import Markup

from kurabe.errors import printable
from kurabe.lens.compare import Comparison
from kurabe.report import format as fmt
from kurabe.report.html import _asset, _environment

MOST = 1_000
"""Prompts on the page; of more, the first."""
LONG = 900
"""Characters of an answer; a longer one opens where it is clicked."""


def compare_html(found: Comparison) -> str:
    """The page: what each model took, and a table of prompts × models with every answer whole."""
    cells = (list(zip(row, again, strict=True)) for row, again in zip(found.cells, found.repeats, strict=True))
    return _environment().get_template("compare.html.j2").render(
        found=found, totals=found.totals, rows=list(zip(found.prompts, cells, strict=True))[:MOST],
        settings={**({"system": found.system} if found.system else {}), **found.settings},
        fmt=fmt, printable=printable, beginning=beginning, long=LONG, style=Markup(_asset("report.css")),
        ends={"length": "cut at the token limit", "content_filter": "stopped by the content filter"},
    )  # fmt: skip


def beginning(text: str) -> str:
    """The first words of a long answer."""
    return fmt.shorten(text, LONG // 2)
