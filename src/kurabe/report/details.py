"""What the HTML report shows beside the board, worked out from the evidence as plain JSON values."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from kurabe.contest.board import Board, BoardRow
from kurabe.contest.evidence import Entry, Evidence
from kurabe.report import format as fmt
from kurabe.report.axis import within_bounds
from kurabe.report.charts import label_sides
from kurabe.report.scores import Scored, accumulated, metric_of, slice_scores, slicings

MAX_POINTS = 2000
MAX_TEXT = 300
MAX_LISTED = 50
MAX_GUESS = 120
BESIDE, BESIDE_ROWS = 8, 1000  # contestants and rows that stand side by side
WORST = 20
MAX_LABELS = 20
_BINS = 20
_PLOT = (460, 260)  # the plot's smallest usual size in pixels: names that do not overlap here do not overlap anywhere

Value = dict[str, Any]


def cut(text: Any) -> str:
    """A text from outside as the page shows it: at most 300 characters, on one line."""
    return fmt.shorten(fmt.plain(str(text)), MAX_TEXT)


def input_of(evidence: Evidence, row: int) -> str:
    """The rendered input of a test row, cut."""
    return cut(evidence.rows["input"][row]) if "input" in evidence.rows.columns else ""


def said(evidence: Evidence, value: Any) -> str:
    """A truth or a guess as words."""
    return fmt.number(float(value)) if evidence.kind == "number" else cut(value)


def sample(n: int) -> np.ndarray:
    """The test rows that are drawn one by one: all, or 2,000 of them taken at even distances."""
    return np.arange(n) if n <= MAX_POINTS else np.unique(np.linspace(0, n - 1, MAX_POINTS).astype(int))


def points(evidence: Evidence, entries: Sequence[Entry]) -> Value:
    """Guess against truth for kind `number`: rows that all contestants share, and each one's guesses."""
    rows = sample(len(evidence.truth))
    log = skewed(evidence.truth)
    truth = evidence.truth[np.isfinite(evidence.truth)]
    if log:
        low, high = float(truth.min()) / 1.3, float(truth.max()) * 1.3
    else:
        margin = 0.06 * float(np.ptp(truth)) or 1.0
        low, high = float(truth.min()) - margin, float(truth.max()) + margin
    guesses = {
        entry.name: [_rounded(entry.guesses[row]) if entry.answered[row] else None for row in rows] for entry in entries
    }
    # Each name is there, if with nothing: of one that is not, such as `constructor`, JavaScript has its own idea.
    unread = {entry.name: np.flatnonzero(entry.unread[rows]).tolist() for entry in entries}
    return {
        "low": low, "high": high, "log": log, "rows": rows.tolist(), "sampled": len(rows) < len(evidence.truth),
        "truth": [_rounded(value) for value in evidence.truth[rows]], "guesses": guesses, "unread": unread,
        "input": [input_of(evidence, int(row)) for row in rows],
    }  # fmt: skip


def skewed(truth: np.ndarray) -> bool:
    """Whether a log axis shows the numbers better: all above 0, and far more spread above the middle than below."""
    truth = truth[np.isfinite(truth)]
    if len(truth) < 3 or truth.min() <= 0:
        return False
    low, middle, high = np.quantile(truth, [0.02, 0.5, 0.98])
    return bool(high - middle > 3 * (middle - low) and high > 10 * low)


def confusions(evidence: Evidence, entries: Sequence[Entry]) -> Value:
    """Counts of (truth, guess) for kind `label`; beyond 20 labels the rarer ones are put together."""
    often = Counter(map(str, evidence.truth))
    ordered = sorted(often, key=lambda label: (-often[label], label))
    kept = ordered[: MAX_LABELS if len(ordered) <= MAX_LABELS else MAX_LABELS - 1]
    place = {label: i for i, label in enumerate(kept)}
    known = set(ordered)
    guessed_others = any(str(guess) not in known for e in entries for guess in e.guesses[e.answered])
    rest = len(kept) if len(ordered) > len(kept) or guessed_others else None
    size = len(kept) + (rest is not None)
    counted = {}
    for entry in entries:
        pairs = zip(evidence.truth[entry.answered], entry.guesses[entry.answered], strict=True)
        codes = [place.get(str(truth), len(kept)) * size + place.get(str(guess), len(kept)) for truth, guess in pairs]
        counted[entry.name] = np.bincount(np.array(codes, dtype=int), minlength=size * size).tolist()
    shown = [fmt.shorten(fmt.plain(label), 40) for label in kept] + (["(all others)"] if rest is not None else [])
    return {"labels": fmt.distinct(shown), "counts": counted, "together": max(len(ordered) - len(kept), 0)}


def histograms(scored: Sequence[Scored]) -> Value:
    """Rows by their own score, for kind `text`."""
    return {one.name: np.histogram(1 - one.loss, bins=_BINS, range=(0, 1))[0].tolist() for one in scored}


def accumulation(evidence: Evidence, scored: Sequence[Scored], decimals: int) -> list[Value]:
    """Score and interval over the first rows, for each contestant."""
    metric = metric_of(evidence)
    return [
        {"contestant": one.name, "n": n, **_estimate(estimate, decimals)}
        for one in scored
        for n, estimate in accumulated(metric, one)
        if math.isfinite(estimate[0])
    ]


def accumulation_domain(board: Board, records: Sequence[Value]) -> tuple[float, float]:
    """The score axis of the accumulation: what is drawn from a fifth of the rows on, without far-off stragglers."""
    start = len(board.evidence.truth) / 5
    late = [r for r in records if r["n"] >= start] or list(records)
    lows, highs = sorted(r["low"] for r in late), sorted(r["high"] for r in late)
    low, high = lows[0], highs[-1]
    worst_middle = lows[len(lows) // 2] if board.greater_is_better else highs[len(highs) // 2]
    if board.greater_is_better:
        low = max(low, worst_middle - 2 * (high - worst_middle))
    else:
        high = min(high, worst_middle + 2 * (worst_middle - low))
    low, high = within_bounds(board, low, high)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def sliced(evidence: Evidence, scored: Sequence[Scored], decimals: int) -> list[Value]:
    """Each column's slices, with every contestant's score in them."""
    metric = metric_of(evidence)
    found = []
    for slicing in slicings(evidence):
        sizes = np.bincount(slicing.codes, minlength=len(slicing.labels)).tolist()
        labels = fmt.distinct([fmt.plain(label) for label in slicing.labels])
        rows = {
            one.name: [
                {"rows": n, **_estimate(estimate, decimals)} if n and math.isfinite(estimate[0]) else None
                for n, estimate in slice_scores(metric, one, slicing)
            ]
            for one in scored
        }
        found.append(
            {"column": fmt.shorten(fmt.plain(slicing.column), 60), "labels": labels, "sizes": sizes, "rows": rows}
        )
    return found


def worst(evidence: Evidence, entries: Sequence[Entry], scored: Sequence[Scored]) -> Value:
    """Each contestant's 20 worst rows; among equals, those that the contestants together found hardest come first."""
    total, answers = np.zeros(len(evidence.truth)), np.zeros(len(evidence.truth))
    for one in scored:
        total[one.positions] += np.nan_to_num(one.loss, posinf=0.0)
        answers[one.positions] += 1
    hardness = total / np.maximum(answers, 1)
    lists = {}
    for entry, one in zip(entries, scored, strict=True):
        order = np.lexsort((-hardness[one.positions], -np.nan_to_num(one.loss, nan=-1.0)))[:WORST]
        lists[entry.name] = [_worst_row(evidence, entry, int(one.positions[i]), float(one.loss[i])) for i in order]
    return {name: [row for row in rows if row] for name, rows in lists.items()}


def _worst_row(evidence: Evidence, entry: Entry, row: int, loss: float) -> Value | None:
    if not loss > 0:
        return None
    raw = entry.raw[row] if entry.raw else None
    return {
        "row": evidence.place(row) + 1, "input": input_of(evidence, row), "truth": said(evidence, evidence.truth[row]),
        "guess": said(evidence, entry.guesses[row]), "unread": bool(entry.unread[row]),
        "raw": None if raw is None else cut(raw), "error": fmt.number(loss),
    }  # fmt: skip


def trade_off_domain(board: Board, points: Sequence[Value]) -> tuple[float, float]:
    """The score axis of a chart of score against cost or speed: all intervals, with a little room."""
    low, high = min(point["low"] for point in points), max(point["high"] for point in points)
    room = 0.06 * (high - low) or 0.5
    return within_bounds(board, low - room, high + room)


def side_by_side(evidence: Evidence, entries: Sequence[Entry]) -> Value:
    """Rows with the truth and the answers of the first contestants beside each other: at most 1,000, at even distances,
    each with how wrong the answers are (`losses`, null without an answer)."""
    n = len(evidence.truth)
    rows = np.arange(n) if n <= BESIDE_ROWS else np.unique(np.linspace(0, n - 1, BESIDE_ROWS).astype(int))
    metric = metric_of(evidence)
    shown = entries[:BESIDE]
    losses = {}
    for entry in shown:
        known = [int(row) for row in rows if entry.answered[row]]
        wrong = metric.row_loss(evidence.truth[known], entry.guesses[known]) if known else np.zeros(0)
        found = dict(zip(known, wrong.tolist(), strict=True))
        losses[entry.name] = [_rounded(found.get(int(row), math.nan)) for row in rows]
    return {
        "contestants": [entry.name for entry in shown], "left_out": len(entries) - len(shown),
        "rows": [evidence.place(int(row)) + 1 for row in rows], "of": n,
        "input": [input_of(evidence, int(row)) for row in rows],
        "truth": [said(evidence, evidence.truth[row]) for row in rows],
        "guesses": {
            entry.name: [_guess(evidence, entry, int(row)) if entry.answered[row] else None for row in rows]
            for entry in shown
        },
        "losses": losses,
    }  # fmt: skip


def _guess(evidence: Evidence, entry: Entry, row: int) -> str:
    text = fmt.shorten(said(evidence, entry.guesses[row]), MAX_GUESS)
    return f"{text} (unread)" if entry.unread[row] else text


def unread_answers(evidence: Evidence, entries: Sequence[Entry]) -> list[Value]:
    """For each contestant with unread answers: how many, and the first 50 of them."""
    found = []
    for entry in entries:
        rows = np.flatnonzero(entry.unread)
        listed = [
            {"row": evidence.place(int(row)) + 1, "input": input_of(evidence, int(row)),
             "raw": cut(entry.raw[row] or "") if entry.raw else ""}
            for row in rows[:MAX_LISTED]
        ]  # fmt: skip
        if listed:
            found.append({"contestant": entry.name, "count": len(rows), "rows": listed})
    return found


def leaked_rows(evidence: Evidence) -> list[Value]:
    """The first 50 test rows that also stand in the training part."""
    exact = set(evidence.leaks.exact)
    rows = sorted(exact | set(evidence.leaks.near))[:MAX_LISTED]
    return [
        {
            "row": evidence.place(row) + 1,
            "how": "exactly" if row in exact else "nearly",
            "input": input_of(evidence, row),
        }
        for row in rows
    ]


def trade_off(
    board: Board, rows: Sequence[BoardRow], values: Sequence[float], words: Sequence[str], less: bool
) -> list[Value]:
    """Points of a chart of score against `values` (less is better where `less`), the Pareto ones marked."""
    decimals = fmt.score_places(board)
    sign = 1 if board.greater_is_better else -1
    found = []
    for row, x, word in zip(rows, values, words, strict=True):
        score, (low, high) = row.score or 0.0, row.interval or (row.score or 0.0, row.score or 0.0)
        beaten = any(
            _dominates((sign * (other.score or 0.0), -v if less else v), (sign * score, -x if less else x))
            for other, v in zip(rows, values, strict=True)
        )
        found.append({
            "contestant": row.contestant, "x": x, "score": score, "low": low, "high": high, "pareto": not beaten,
            "shown_score": f"{fmt.number(score, decimals)} {fmt.interval(row.interval, decimals)}", "shown_x": word,
        })  # fmt: skip
    _place_names(found)
    return sorted(found, key=lambda point: bool(point["pareto"]))  # drawn last, so on top


def _dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] >= other[0] and one[1] >= other[1] and one != other


def _place_names(found: list[Value]) -> None:
    """Give each point a side for its name where it covers nothing; Pareto points choose first, some names give way."""
    xs = np.log10([point["x"] for point in found])
    ys = np.array([point["score"] for point in found])
    span_x = float(np.ptp(xs)) or 1.0
    span_y = max(point["high"] for point in found) - min(point["low"] for point in found) or 1.0
    places = [((x - xs.min()) / span_x * _PLOT[0], y / span_y * -_PLOT[1]) for x, y in zip(xs, ys, strict=True)]
    order = sorted(range(len(found)), key=lambda i: not found[i]["pareto"])
    labels = [fmt.shorten(fmt.plain(found[i]["contestant"]), 24) for i in order]
    sides = label_sides([places[i] for i in order], labels, _PLOT[0])
    for i, label, side in zip(order, labels, sides, strict=True):
        found[i] |= {"label": label, "side": side}


def _estimate(estimate: tuple[float, float, float], decimals: int) -> Value:
    score, low, high = estimate
    if not (math.isfinite(low) and math.isfinite(high)):
        low = high = score
    shown = f"{fmt.number(score, decimals)} {fmt.interval((low, high), decimals)}"
    return {"score": _rounded(score), "low": _rounded(low), "high": _rounded(high), "shown": shown}


def _rounded(value: float) -> float | None:
    """Six significant digits: more than a screen shows, and half the page's size."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
