"""The board as GitHub-flavoured Markdown, for a README, an issue or a pull request."""

import re

from kurabe.contest.board import Board, BoardRow
from kurabe.report import format as fmt
from kurabe.report.data import second_metrics
from kurabe.report.notes import notes

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$@!&])")


def markdown(board: Board) -> str:
    """A heading, a table with one line a contestant, what did not run and why, and the notes.

    Names and reasons are escaped, so that none of them becomes markup, a mention or a second cell.
    """
    lines = [f"### {escape(board.evidence.task)}: {escape(fmt.metric(board))}", ""]
    scored = [row for row in board.rows if row.score is not None]
    lines += _table(board, scored) if scored else ["No contestant has a score.", ""]
    unscored = [row for row in board.rows if row.score is None]
    lines += [f"- {row.status}: **{escape(row.contestant)}**: {_reason(row)}" for row in unscored]
    lines += [""] if unscored else []
    lines += [f"- {'⚠️ ' if note.warning else ''}{escape(note.text)}" for note in notes(board)]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """`text` as Markdown that shows exactly it, on one line."""
    return _SPECIAL.sub(r"\\\1", fmt.plain(text)).replace("://", ":\\//").replace("www.", "www\\.")


def _table(board: Board, rows: list[BoardRow]) -> list[str]:
    decimals = fmt.score_places(board)
    second = second_metrics(board)
    places = {name: fmt.column_places(row.second.get(name) for row in rows) for name in second}
    model = any(row.model for row in rows)
    unread = any(row.unread for row in rows)
    checks = fmt.check_decimals(board)
    titles = [
        "#",
        "contestant",
        *(["model"] if model else []),
        "score",
        "95 % interval",
        *map(fmt.check_title, checks),
        *map(fmt.metric_short, second),
    ]
    titles += [*(["unread"] if unread else []), "cost", "fit", "predictions/s", "memory"]
    general = any(row.forgetting for row in rows)
    titles += ["general"] if general else []
    left = {"contestant", "model"}
    lines = ["| " + " | ".join(escape(title) if title != "#" else title for title in titles) + " |"]
    lines.append("|" + "|".join(" --- " if title in left else " ---: " for title in titles) + "|")
    best = min((row.rank for row in rows if row.rank is not None), default=None)
    for row in rows:
        contestant = escape(row.contestant)
        winner = row.rank is not None and row.rank == best
        cells = [fmt.rank(row), f"**{contestant}**" if winner else contestant]
        cells += [escape(fmt.redact(row.model or ""))] if model else []
        cells += [fmt.number(row.score, decimals), fmt.interval(row.interval, decimals)]
        cells += [fmt.check(row.checks.get(label), digits) for label, digits in checks.items()]
        cells += [fmt.number(row.second.get(name), places[name]) for name in second]
        cells += [f"{row.unread:,}"] if unread else []
        cells += [fmt.dollars(row.usd).replace("$", "\\$"), fmt.seconds(row.fit_seconds)]
        cells += [fmt.number(row.predictions_per_second), fmt.size(row.peak_bytes)]
        cells += [fmt.general(row)] if general else []
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _reason(row: BoardRow) -> str:
    return escape(fmt.shorten(fmt.redact(fmt.plain(row.reason or "no reason was given")), 300))
