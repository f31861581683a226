"""The board: what a contest found. Computed from the evidence in the journal, never stored apart from it."""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kurabe.contest.checks import CheckResult, check_columns
from kurabe.contest.evidence import Evidence, Status, usable
from kurabe.contest.forgetting import Forgetting, forgetting
from kurabe.contest.pairs import Answered, answers, compare
from kurabe.contest.ranks import RankRange, rank_ranges
from kurabe.contest.statistics import RESAMPLES, Interval, bootstrap
from kurabe.errors import ContestantError, missing
from kurabe.tasks.metrics import Metric, metric_for, second_metrics

SIGNIFICANCE = 0.05
_STATUS_ORDER: tuple[Status, ...] = ("done", "partial", "failed", "skipped")


@dataclass(frozen=True)
class BoardRow:
    """One contestant on the board.

    `rank`: 1 + the number of contestants significantly better; None where the status is not `done`. `rank_range`: the
    best and the worst rank that the paired tests allow; it starts at `rank`. On at least 95 % of boards all true ranks
    lie in their ranges. `score`: the task's metric over the rows answered, `interval` its 95 % interval; None without
    answers. `unread`: answers that could not be read. `predictions_per_second`, `fit_seconds`,
    `peak_bytes`: None where not measured. `usd`: dollars in all, None where unknown. `second`: second metrics by name,
    NaN where one is not defined on the rows answered. `forgetting`: of tuned models, what else they can do still.
    `checks`: the task's further columns by name, without those that have nothing to say of this contestant.

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
    forgetting: Forgetting | None = None
    checks: dict[str, CheckResult] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A paired test of two contestants on the rows both answered. `difference` is score of `a` minus score of `b` with
    its 95 % interval; `p` is the raw p-value and `p_adjusted` the one adjusted over all comparisons of the board."""

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
    def winner_name(self) -> str | None:
        """The first of `finishers`; None where there are none."""
        return next(iter(self.finishers), None)

    @property
    def finishers(self) -> tuple[str, ...]:
        """Those that answered every row they were asked, from best to worst: by rank, then those that answered all test
        rows before those that answered a sample, then by score. So one that answered a sample wins if tests show that
        it is better than those that answered all, or if there are none."""
        rows = len(self.evidence.truth)
        ranked = sorted((row.rank, row.answered < rows, place) for place, row in enumerate(self.rows) if row.rank)
        return tuple(self.rows[place].contestant for *_, place in ranked)

    def row(self, name: str) -> BoardRow:
        """The row of the contestant called `name`. Raises ContestantError where there is none."""
        for row in self.rows:
            if row.contestant == name:
                return row
        raise ContestantError(missing("contestant", name, [row.contestant for row in self.rows]))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that `kurabe run --json` prints."""
        keys = (
            "contestant", "model", "rank", "rank_range", "score", "interval", "unread", "answered", "usd",
            "fit_seconds", "predictions_per_second", "status", "reason",
        )  # fmt: skip
        return {
            "task": self.evidence.task,
            "kind": self.evidence.kind,
            "metric": self.evidence.metric,
            "rows": [{key: _plain(getattr(row, key)) for key in keys} for row in self.rows],
        }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value.item() if isinstance(value, np.generic) else value


def compute_board(evidence: Evidence, resamples: int = RESAMPLES, seed: int = 0) -> Board:
    """The board of what the journal holds: the same evidence and seed give the same board.

    Contestants that are done or partial are scored over the rows they answered. Each pair is tested on the rows both
    answered (at least two), and the p-values are adjusted over all pairs. Rows stand in order of score: first those
    that are done, which have ranks, then those that are partial, then those without a score.
    """
    metric = metric_for(evidence.metric, evidence.kind)
    scored = _scored(evidence, metric)
    scores, intervals, comparisons = _compare(evidence, metric, scored, resamples, seed)
    finished = [evidence.entries[place] for place, score in scores.items() if math.isfinite(score)]
    ranks = rank_ranges(
        [entry.name for entry in finished if entry.status == "done"],
        [_better_first(test, metric) for test in comparisons if test.p_adjusted < SIGNIFICANCE],
    )
    rows = [
        _board_row(evidence, metric, position, scores.get(position), intervals.get(position), ranks)
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


def _scored(evidence: Evidence, metric: Metric) -> dict[int, Answered]:
    """The answers of those that have some, by position."""
    masks = {
        position: mask
        for position, entry in enumerate(evidence.entries)
        if entry.status in ("done", "partial") and (mask := usable(entry)).any()
    }
    guesses = [evidence.entries[position].guesses for position in masks]
    return dict(zip(masks, answers(metric, evidence.truth, guesses, list(masks.values())), strict=True))


def _compare(
    evidence: Evidence, metric: Metric, scored: Mapping[int, Answered], resamples: int, seed: int
) -> tuple[dict[int, float], dict[int, Interval], list[Comparison]]:
    """Scores and intervals by position, and the paired tests. Contestants and pairs that stand on the same rows share
    one bootstrap: mostly there is one set of rows, or a second one where a run was broken off."""
    scores = {
        position: metric.score(evidence.truth[one.mask], evidence.entries[position].guesses[one.mask])
        for position, one in scored.items()
    }
    masks: dict[bytes, np.ndarray] = {}
    singles: defaultdict[bytes, list[int]] = defaultdict(list)
    pairs: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for position, one in scored.items():
        singles[key := one.mask.tobytes()].append(position)
        masks[key] = one.mask
    for a, b in itertools.combinations(scored, 2):
        common = scored[a].mask & scored[b].mask
        pairs[key := common.tobytes()].append((a, b))
        masks[key] = common

    intervals: dict[int, Interval] = {}
    differences: dict[tuple[int, int], Comparison] = {}
    for key, mask in masks.items():
        if mask.sum() < 2:
            continue
        members = sorted({*singles[key], *itertools.chain.from_iterable(pairs[key])})
        local = {position: index for index, position in enumerate(members)}
        statistics = [scored[position].on(mask) for position in members]
        result = bootstrap(
            metric, statistics, [(local[a], local[b]) for a, b in pairs[key]], resamples=resamples, seed=seed
        )
        intervals |= {position: result.intervals[local[position]] for position in singles[key]}
        for pair in result.differences:
            if math.isfinite(pair.difference):
                a, b = members[pair.a], members[pair.b]
                names = evidence.entries[a].name, evidence.entries[b].name
                differences[a, b] = Comparison(*names, pair.difference, pair.interval, 1.0, 1.0, int(mask.sum()))
    return scores, intervals, _tested(metric, scored, differences, seed)


def _tested(
    metric: Metric, scored: Mapping[int, Answered], differences: Mapping[tuple[int, int], Comparison], seed: int
) -> list[Comparison]:
    """The comparisons with their p-values."""
    local = {position: index for index, position in enumerate(scored)}
    tests = compare(metric, list(scored.values()), [(local[a], local[b]) for a, b in differences], seed=seed)
    return [
        replace(one, p=test.p, p_adjusted=test.p_adjusted)
        for one, test in zip(differences.values(), tests, strict=True)
    ]


def _better_first(test: Comparison, metric: Metric) -> tuple[str, str]:
    return (test.a, test.b) if (test.difference > 0) == metric.greater_is_better else (test.b, test.a)


def _board_row(
    evidence: Evidence,
    metric: Metric,
    position: int,
    score: float | None,
    interval: Interval | None,
    ranks: Mapping[str, RankRange],
) -> BoardRow:
    entry = evidence.entries[position]
    reason, second = entry.reason, {}
    if score is not None:
        mask = usable(entry)
        truth, guesses = evidence.truth[mask], entry.guesses[mask]
        second = {other.name: other.score(truth, guesses) for other in second_metrics(evidence.kind, metric)}
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
