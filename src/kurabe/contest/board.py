"""The board: what a contest found. Computed from the evidence in the journal, never stored apart from it."""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from kurabe.contest.caution import Flattery, RowsToTell, flattery, rows_to_tell
from kurabe.contest.checks import CheckResult, check_columns
from kurabe.contest.controls import adjusted
from kurabe.contest.evidence import Evidence, Status, fallback_score, usable
from kurabe.contest.forgetting import Forgetting, forgetting
from kurabe.contest.history import Uses
from kurabe.contest.intervals import (
    RESAMPLES,
    Interval,
    difference_intervals,
    half_made_by,
    score_intervals,
    scored,
)
from kurabe.contest.pairs import Answered, answers, compare
from kurabe.contest.ranks import RankRange, rank_ranges
from kurabe.errors import ContestantError, missing
from kurabe.tasks.metrics import Metric, metric_for, second_metrics
from kurabe.tasks.swaps import SIGNIFICANCE

_STATUS_ORDER: tuple[Status, ...] = ("done", "partial", "failed", "skipped")


@dataclass(frozen=True)
class BoardRow:
    """One contestant on the board.

    `rank`: 1 + the number of contestants significantly better; None where the status is not `done`. `rank_range`: the
    best and the worst rank that the paired tests allow; it starts at `rank`. On at least 95 % of boards all true ranks
    lie in their ranges. `score`: the task's metric over the rows answered, `interval` its 95 % interval; None without
    answers. `controlled`: where a sample of the rows was answered and the score is one for all rows, by the errors of
    those that answered all: the standard error as a share of that of the sample alone.
    `half_made_by`: how many rows make half of an error where it is a handful, else None. `unread`: answers that could
    not be read. `predictions_per_second`, `fit_seconds`, `peak_bytes`: None where not measured. `usd`: dollars in all,
    None where unknown. `second`: second metrics by name, NaN where one is not defined on the rows answered.
    `forgetting`: of tuned models, what else they can do still. `checks`: the task's further columns by name, without
    those that have nothing to say of this contestant.

    A single row has a score but no interval: nothing is known of the spread. A metric that is not defined on the rows
    answered (R² of a constant truth) gives no score, and `reason` says so.
    """

    contestant: str
    model: str | None
    rank: int | None
    rank_range: RankRange | None
    score: float | None
    interval: tuple[float, float] | None
    unread: int
    answered: int
    usd: float | None
    fit_seconds: float | None
    predictions_per_second: float | None
    peak_bytes: int | None
    status: Status
    reason: str | None
    second: dict[str, float]
    controlled: float | None = None
    half_made_by: int | None = None
    forgetting: Forgetting | None = None
    checks: dict[str, CheckResult] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A paired test of two contestants on the rows both answered. `difference` is score of `a` minus score of `b` with
    its 95 % interval; `p` is the raw p-value and `p_adjusted` the one adjusted over all comparisons of those that are
    done or, where `a` or `b` is partial, over all comparisons with a partial one."""

    a: str
    b: str
    difference: float
    interval: tuple[float, float]
    p: float
    p_adjusted: float
    rows: int


@dataclass(frozen=True, eq=False, repr=False)
class Board:
    """Rows from best to worst (those without a score last), the paired tests, and the evidence they come from."""

    evidence: Evidence
    rows: tuple[BoardRow, ...]
    comparisons: tuple[Comparison, ...]
    greater_is_better: bool

    def __repr__(self) -> str:
        winner = f", winner {self.winner_name!r}" if self.winner_name else ""
        return f"Board({self.evidence.task!r}, {len(self.rows)} contestants by {self.evidence.metric}{winner})"

    @property
    def effective_rows(self) -> int:
        """How many independent units the test rows are: copies of a row count once, and so does a group of rows."""
        return self.evidence.units.count

    @property
    def winner_name(self) -> str | None:
        """The first of `finishers`; None without finishers."""
        return next(iter(self.finishers), None)

    @property
    def finishers(self) -> tuple[str, ...]:
        """Those that answered every row they were asked, from best to worst.

        The order is by rank, then those that answered all test rows before those that answered a sample, then by score.
        So one
        that answered a sample wins only if tests show that it is better than those that answered all, or if there are
        none.
        """
        rows = len(self.evidence.truth)
        ranked = sorted((row.rank, row.answered < rows, place) for place, row in enumerate(self.rows) if row.rank)
        return tuple(self.rows[place].contestant for *_, place in ranked)

    @cached_property
    def flattery(self) -> Flattery | None:
        """How much the winner's score is too good because it is the best of several; None where it is not."""
        if self.winner_name is None:
            return None
        winner = self.row(self.winner_name)
        sign = 1.0 if self.greater_is_better else -1.0
        others = [
            row for row in self.rows
            if row.rank is not None and row is not winner and sign * (row.score or 0.0) <= sign * (winner.score or 0.0)
        ]  # fmt: skip
        chosen = [(row.contestant, row.score) for row in (winner, *others) if row.score is not None]
        return flattery(self.evidence, [name for name, _ in chosen], [score for _, score in chosen], winner.interval)

    @cached_property
    def rows_to_tell(self) -> RowsToTell | None:
        """How many test rows would tell the first two apart; None where they are, or where there are no two."""
        first_two = {row.contestant for row in self.rows[:2] if row.rank is not None}
        test = next((test for test in self.comparisons if {test.a, test.b} == first_two), None)
        if test is None or test.p_adjusted < SIGNIFICANCE:
            return None
        first, second = (row.contestant for row in self.rows[:2])
        ranked = sum(row.rank is not None for row in self.rows)
        return rows_to_tell(self.evidence, first, second, test.difference, ranked * (ranked - 1) // 2)

    def row(self, name: str) -> BoardRow:
        """A contestant's row.

        Parameters
        ----------
        name : str
            Its name on the board.

        Returns
        -------
        BoardRow

        Raises
        ------
        ContestantError
            If the board has no contestant of that name.
        """
        for row in self.rows:
            if row.contestant == name:
                return row
        raise ContestantError(missing("contestant", name, [row.contestant for row in self.rows]))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that `kurabe run --json` prints."""
        keys = (
            "contestant", "model", "rank", "rank_range", "score", "interval", "controlled", "unread", "answered", "usd",
            "fit_seconds", "predictions_per_second", "status", "reason",
        )  # fmt: skip
        return {
            "task": self.evidence.task,
            "kind": self.evidence.kind,
            "metric": self.evidence.metric,
            "effective_rows": self.effective_rows,
            "rows": [{key: _plain(getattr(row, key)) for key in keys} for row in self.rows],
            "flattery": _object(self.flattery),
            "rows_to_tell": _object(self.rows_to_tell),
            "uses": _object(self.evidence.uses),
        }


def _object(value: Flattery | RowsToTell | Uses | None) -> dict[str, Any] | None:
    return None if value is None else {key: _plain(part) for key, part in asdict(value).items()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value.item() if isinstance(value, np.generic) else value


def compute_board(evidence: Evidence, resamples: int = RESAMPLES, seed: int = 0) -> Board:
    """The board of what the journal holds: the same evidence and seed give the same board.

    Contestants that are done or partial are scored over the rows they answered. Each pair is tested on the rows both
    answered (at least two), and the p-values are adjusted over all pairs of those that are done, apart from pairs with
    one that is partial. Rows stand in order of score: first those
    that are done, which have ranks, then those that are partial, then those without a score.
    """
    metric = metric_for(evidence.metric, evidence.kind)
    answered = _answered(evidence, metric)
    figures = _figures(evidence, metric, answered, resamples, seed)
    comparisons = _comparisons(evidence, metric, answered, resamples, seed)
    finished = [evidence.entries[place] for place, one in figures.items() if math.isfinite(one.score)]
    ranks = rank_ranges(
        [entry.name for entry in finished if entry.status == "done"],
        [_better_first(test, metric) for test in comparisons if test.p_adjusted < SIGNIFICANCE],
    )
    rows = [
        _board_row(evidence, metric, position, figures.get(position), ranks)
        for position in range(len(evidence.entries))
    ]
    sign = -1.0 if metric.greater_is_better else 1.0
    rows.sort(
        key=lambda row: (
            row.score is None, row.rank is None, sign * (row.score or 0.0), _STATUS_ORDER.index(row.status)
        )
    )  # fmt: skip
    checks = check_columns(evidence, [row.contestant for row in rows], resamples, seed)
    rows = [replace(row, checks=checks.get(row.contestant, {})) for row in rows]
    return Board(evidence, tuple(rows), tuple(comparisons), metric.greater_is_better)


def _answered(evidence: Evidence, metric: Metric) -> dict[int, Answered]:
    """The answers of those that have some, by position."""
    masks = {
        position: mask
        for position, entry in enumerate(evidence.entries)
        if entry.status in ("done", "partial") and (mask := usable(entry)).any()
    }
    guesses = [evidence.entries[position].guesses for position in masks]
    return dict(zip(masks, answers(metric, evidence.truth, guesses, list(masks.values())), strict=True))


@dataclass(frozen=True, eq=False)
class _Figures:
    """A contestant's score, its interval, and how the score came about."""

    score: float
    interval: Interval | None
    controlled: float | None = None
    """The standard error as a share of that without control variates; None where the score has none."""
    half_made_by: int | None = None
    """How many units make half of an error, where it is a handful."""


def _figures(
    evidence: Evidence, metric: Metric, answered: Mapping[int, Answered], resamples: int, seed: int
) -> dict[int, _Figures]:
    """Scores and intervals by position. Contestants that answered the same rows share the resamples; those that
    answered a sample are scored for all rows by the errors of those that answered all, where that narrows the interval.
    """
    units = evidence.units
    typical = fallback_score(evidence.truth, evidence.fallback, metric)
    by_rows: defaultdict[bytes, list[int]] = defaultdict(list)
    for position, one in answered.items():
        by_rows[one.mask.tobytes()].append(position)
    found: dict[int, _Figures] = {}
    groups = {key: units.on(answered[members[0]].mask) for key, members in by_rows.items()}
    values = {
        position: scored(metric, answered[position].statistics, groups[key])
        for key, members in by_rows.items()
        for position in members
    }
    for key, members in by_rows.items():
        ends: list[Interval] | list[None] = [None] * len(members)
        if groups[key].count >= 2:
            mine = [values[position] for position in members]
            ends = score_intervals(metric, mine, typical=typical, resamples=resamples, seed=seed)
        for position, interval in zip(members, ends, strict=True):
            few = half_made_by(metric, values[position])
            found[position] = _Figures(values[position].score(metric), interval, half_made_by=few)
    whole = [position for position, one in answered.items() if one.mask.all()]
    controls = [values[position] for position in whole if np.isfinite(found[position].score)]
    for position, one in answered.items():
        done = evidence.entries[position].status == "done"  # of a run that was broken off, the rows answered count
        if done and not one.mask.all() and controls and np.isfinite(found[position].score):
            sample = np.unique(units.codes[one.mask])
            better = adjusted(metric, values[position], controls, sample, resamples=resamples, seed=seed)
            if better is not None:
                few = found[position].half_made_by
                found[position] = _Figures(better.score, better.interval, better.gain, few)
    return found


def _comparisons(
    evidence: Evidence, metric: Metric, answered: Mapping[int, Answered], resamples: int, seed: int
) -> list[Comparison]:
    """The paired tests of all pairs, each on the rows that both answered, at least two units of them."""
    by_rows: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)
    masks: dict[bytes, np.ndarray] = {}
    for a, b in itertools.combinations(answered, 2):
        common = answered[a].mask & answered[b].mask
        by_rows[key := common.tobytes()].append((a, b))
        masks[key] = common
    differences: dict[tuple[int, int], Comparison] = {}
    for key, pairs in by_rows.items():
        mask = masks[key]
        units = evidence.units.on(mask)
        if units.count < 2:
            continue
        members = sorted(set(itertools.chain.from_iterable(pairs)))
        local = {position: index for index, position in enumerate(members)}
        values = [scored(metric, answered[position].on(mask), units) for position in members]
        scores = [one.score(metric) for one in values]
        defined = [(a, b) for a, b in pairs if math.isfinite(scores[local[a]] - scores[local[b]])]
        places = [(local[a], local[b]) for a, b in defined]
        ends = difference_intervals(metric, values, places, resamples=resamples, seed=seed)
        for (a, b), (first, second), interval in zip(defined, places, ends, strict=True):
            names = evidence.entries[a].name, evidence.entries[b].name
            difference = float(scores[first] - scores[second])
            differences[a, b] = Comparison(*names, difference, interval, 1.0, 1.0, int(mask.sum()))
    return _tested(evidence, metric, answered, differences, seed)


def _tested(
    evidence: Evidence,
    metric: Metric,
    answered: Mapping[int, Answered],
    differences: Mapping[tuple[int, int], Comparison],
    seed: int,
) -> list[Comparison]:
    """The comparisons with their p-values. Only those that are done are ranked, so what a partial one has answered so
    far must not change their p-values: pairs with a partial one are adjusted for among themselves."""
    local = {position: index for index, position in enumerate(answered)}
    ranked = {pair: all(evidence.entries[position].status == "done" for position in pair) for pair in differences}
    found: dict[tuple[int, int], Comparison] = {}
    for family in (True, False):
        places = [pair for pair in differences if ranked[pair] is family]
        pairs = [(local[a], local[b]) for a, b in places]
        tests = compare(metric, list(answered.values()), pairs, units=evidence.units, seed=seed)
        for place, test in zip(places, tests, strict=True):
            found[place] = replace(differences[place], p=test.p, p_adjusted=test.p_adjusted)
    return [found[place] for place in differences]


def _better_first(test: Comparison, metric: Metric) -> tuple[str, str]:
    return (test.a, test.b) if (test.difference > 0) == metric.greater_is_better else (test.b, test.a)


def _board_row(
    evidence: Evidence,
    metric: Metric,
    position: int,
    figures: _Figures | None,
    ranks: Mapping[str, RankRange],
) -> BoardRow:
    entry = evidence.entries[position]
    reason, second = entry.reason, {}
    score, interval = (figures.score, figures.interval) if figures is not None else (None, None)
    if score is not None:
        mask = usable(entry)
        truth, guesses = evidence.truth[mask], entry.guesses[mask]
        units = evidence.units.on(mask)
        second = {
            other.name: scored(other, other.statistics(truth, guesses), units).score(other)
            for other in second_metrics(evidence.kind, metric)
        }
        if not math.isfinite(score):
            reason = reason or f"{metric.title} is not defined on the rows answered"
            score = interval = None
    if interval is not None and not all(math.isfinite(end) for end in interval):
        interval = None
    answered = int(entry.answered.sum())
    return BoardRow(
        contestant=entry.name,
        model=entry.model,
        rank=ranks[entry.name][0] if entry.name in ranks else None,
        rank_range=ranks.get(entry.name),
        score=score,
        interval=interval,
        controlled=figures.controlled if figures is not None else None,
        half_made_by=figures.half_made_by if figures is not None else None,
        unread=int((entry.unread & entry.answered).sum()),
        answered=answered,
        usd=entry.usd,
        fit_seconds=entry.fit_seconds,
        predictions_per_second=answered / entry.predict_seconds if answered and entry.predict_seconds else None,
        peak_bytes=entry.peak_bytes,
        status=entry.status,
        reason=reason,
        second=second,
        forgetting=forgetting(entry.notes),
    )
