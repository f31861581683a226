"""The common axis on which the interval bars of a board are drawn, in the terminal and on pages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kurabe.contest.board import Board, BoardRow
from kurabe.tasks.metrics import metric_for

STRAGGLER = 8


@dataclass(frozen=True)
class Axis:
    """The stretch of scores that the bars share. Bars that leave it end in an arrow."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Where `value` stands, from 0 (low end) to 1 (high end); values outside stand at the ends."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


def axis(board: Board) -> Axis | None:
    """One axis over all intervals, or None where no contestant has a score.

    On the worse side it ends at eight times the middle contestant's distance from the best bound, so that a far-off
    straggler does not press the others together.
    """
    bounds = [_bounds(row) for row in board.rows if row.score is not None and math.isfinite(row.score)]
    if not bounds:
        return None
    low, high = reach(bounds, board.greater_is_better, STRAGGLER)
    return Axis(low, high) if high > low else Axis(low - 0.5, low + 0.5)


def reach(bounds: Sequence[tuple[float, float]], greater_is_better: bool, times: float) -> tuple[float, float]:
    """The ends of an axis for these (low, high). On the worse side it reaches so many times the middle one's distance
    from the best bound beyond the middle one, of two the better."""
    lows, highs = sorted(low for low, _ in bounds), sorted(high for _, high in bounds)
    low, high = lows[0], highs[-1]
    if greater_is_better:
        middle = lows[len(bounds) // 2]
        low = max(low, middle - times * (high - middle)) if high > middle else low
    else:
        middle = highs[(len(bounds) - 1) // 2]
        high = min(high, middle + times * (middle - low)) if middle > low else high
    return low, high


def within_bounds(board: Board, low: float, high: float) -> tuple[float, float]:
    """An axis no longer than the scores can be: no error below 0, no share below 0 or above 1."""
    metric = metric_for(board.evidence.metric, board.evidence.kind)
    least, most = metric.bounds or ((-math.inf, 1.0) if metric.greater_is_better else (0.0, math.inf))
    return max(low, least), min(high, most)


def interval_svg(
    score: float | None, interval: tuple[float, float] | None, scale: Axis, width: int = 130, height: int = 16
) -> str:
    """The interval as an inline SVG in the text's colour: whiskers, a line and a dot; an arrowhead where it leaves the
    axis. It holds numbers only, so nothing in it needs escaping."""
    if score is None or not math.isfinite(score):
        return ""
    low, high = interval or (score, score)
    inner, middle = width - 10, height / 2
    left, right, dot = (5 + scale.share(value) * inner for value in (low, high, score))
    parts = [f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{middle}" y2="{middle}"/>']
    # Of an interval that lies beyond the axis as a whole there is but the arrow that points to it.
    if low <= scale.high:
        parts.append(_end(left, middle, -1 if low < scale.low else 0))
    if high >= scale.low:
        parts.append(_end(right, middle, 1 if high > scale.high else 0))
    if scale.low <= score <= scale.high:
        parts.append(f'<circle cx="{dot:.1f}" cy="{middle}" r="3.5" fill="currentColor" stroke="none"/>')
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" aria-hidden="true" focusable="false" '
        f'fill="none" stroke="currentColor" stroke-width="1.5">{"".join(parts)}</svg>'
    )


def _bounds(row: BoardRow) -> tuple[float, float]:
    return row.interval or (row.score or 0.0, row.score or 0.0)


def _end(x: float, y: float, arrow: int) -> str:
    if arrow:
        return f'<path d="M{x - 4 * arrow:.1f} {y - 4} L{x:.1f} {y} L{x - 4 * arrow:.1f} {y + 4}"/>'
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 4}" y2="{y + 4}"/>'
