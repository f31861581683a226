"""The board as a notebook shows it: one small table, without script or style sheet."""

from markupsafe import Markup, escape

from kurabe.contest.board import Board, BoardRow
from kurabe.report import format as fmt
from kurabe.report.axis import Axis, axis, interval_svg
from kurabe.report.data import second_metrics
from kurabe.report.notes import direction, notes

_SECOND = 2
_RIGHT = Markup(' style="text-align:right;white-space:nowrap;padding:2px 8px"')
_LEFT = Markup(' style="text-align:left;padding:2px 8px"')


def notebook_html(board: Board) -> str:
    """A small HTML table for `_repr_html_`: rank, name, score with its interval as a bar, cost, times, and the notes.

    Colours are the notebook's own, so that it fits light and dark; a viewer that drops the drawings still shows every
    number.
    """
    scored = [row for row in board.rows if row.score is not None]
    unscored = [row for row in board.rows if row.score is None]
    evidence = board.evidence
    parts = [
        Markup("<div><p><b>{}</b>: {}, {}</p>").format(fmt.plain(evidence.task), fmt.metric(board), direction(board)),
        _table(board, scored) if scored else Markup("<p>No contestant has a score.</p>"),
    ]
    if unscored:
        parts.append(Markup("<ul>{}</ul>").format(Markup("").join(_unscored(row) for row in unscored)))
    items = (Markup("<li>{}{}</li>").format("⚠ " if note.warning else "", note.text) for note in notes(board))
    parts.append(Markup('<ul style="opacity:.8">{}</ul></div>').format(Markup("").join(items)))
    return str(Markup("\n").join(parts))


def _table(board: Board, rows: list[BoardRow]) -> Markup:
    scale = axis(board) or Axis(0.0, 1.0)
    decimals = fmt.score_places(board)
    second = second_metrics(board)[:_SECOND]
    places = {name: fmt.column_places(row.second.get(name) for row in rows) for name in second}
    checks = fmt.check_decimals(board)
    heads = ["#", "contestant", "score", "", "95 % interval", *map(fmt.check_title, checks)]
    heads += [*map(fmt.metric_short, second), "unread", "cost", "fit", "predictions/s"]
    lines = [Markup("").join(Markup('<th scope="col"{}>{}</th>').format(_side(head), head) for head in heads)]
    for row in rows:
        name = (
            Markup("<b>{}</b>").format(fmt.plain(row.contestant))
            if row.rank == 1
            else escape(fmt.plain(row.contestant))
        )
        model = Markup("<br><small>{}</small>").format(fmt.redact(fmt.plain(row.model))) if row.model else ""
        cells = [
            fmt.rank(row), Markup("{}{}").format(name, model), fmt.number(row.score, decimals),
            Markup(interval_svg(row.score, row.interval, scale)),  # numbers only
            fmt.interval(row.interval, decimals),
            *(fmt.check(row.checks.get(label), digits) for label, digits in checks.items()),
            *(fmt.number(row.second.get(each), places[each]) for each in second),
            f"{row.unread:,}" if row.unread else fmt.NOT_MEASURED, fmt.dollars(row.usd), fmt.seconds(row.fit_seconds),
            fmt.number(row.predictions_per_second),
        ]  # fmt: skip
        pairs = zip(heads, cells, strict=True)
        lines.append(Markup("").join(Markup("<td{}>{}</td>").format(_side(head), cell) for head, cell in pairs))
    body = Markup("").join(Markup("<tr>{}</tr>").format(line) for line in lines[1:])
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(lines[0], body)


def _side(head: str) -> Markup:
    return _LEFT if head in ("contestant", "") else _RIGHT


def _unscored(row: BoardRow) -> Markup:
    reason = fmt.shorten(fmt.redact(fmt.plain(row.reason or "no reason was given")), 300)
    return Markup("<li>{} <b>{}</b>: {}</li>").format(row.status, fmt.plain(row.contestant), reason)
