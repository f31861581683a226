"""What a sweep found, from what it noted while it learned: its trials, and the score against training rows."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kurabe.contest.evidence import Entry
from kurabe.contest.intervals import Interval, difference_intervals, score_intervals, scored
from kurabe.contest.pairs import answers, compare
from kurabe.tasks.metrics import metric_for
from kurabe.tasks.spec import Kind


@dataclass(frozen=True)
class SweepTrial:
    """One setting. `rows`: the training rows that it learned from, one number an evaluation; `checked`: the validation
    rows, and `scores`: the score on them. `state`: `done`, `pruned` (given up), `failed` or `stopped` by a budget."""

    settings: dict[str, Any]
    state: Literal["done", "pruned", "failed", "stopped"]
    rows: tuple[int, ...]
    checked: tuple[int, ...]
    scores: tuple[float, ...]
    reason: str | None


@dataclass(frozen=True)
class CurvePoint:
    """The chosen setting learned on `rows` training rows. `interval`: 95 %, over the validation rows; None of fewer
    than two. `gain`: score minus that of the point before, with its interval and p-value, by the paired test."""

    rows: int
    score: float
    interval: Interval | None
    gain: tuple[float, Interval, float] | None


@dataclass(frozen=True)
class SweepResult:
    """A sweep. `chosen`: the position of the trial taken, None where there was nothing to choose by; `metric`: of the
    scores; `validation_rows`: that they are computed on; `seconds`, `usd`: what the trials took, `usd` None where
    unknown; `stopped`: why not all trials were made."""

    contestant: str
    trials: tuple[SweepTrial, ...]
    chosen: int | None
    metric: str | None
    validation_rows: int
    curve: tuple[CurvePoint, ...]
    seconds: float
    usd: float | None
    stopped: str | None

    @property
    def settings(self) -> dict[str, Any]:
        """The chosen settings."""
        return {} if self.chosen is None else self.trials[self.chosen].settings


def sweep_result(entry: Entry, kind: Kind) -> SweepResult | None:
    """From a contestant's notes; None where it is no sweep."""
    notes = entry.notes.get("sweep")
    if notes is None:
        return None
    trials = tuple(
        SweepTrial(t["settings"], t["state"], tuple(t["rows"]), tuple(t["checked"]), tuple(t["scores"]), t["reason"])
        for t in notes["trials"]
    )
    return SweepResult(
        contestant=notes["contestant"],
        trials=trials,
        chosen=notes.get("chosen"),
        metric=notes.get("metric"),
        validation_rows=len(notes.get("truth", ())),
        curve=_curve(notes, kind),
        seconds=notes.get("seconds", 0.0),
        usd=entry.notes.get("usd"),
        stopped=notes.get("stopped"),
    )


def _curve(notes: Mapping[str, Any], kind: Kind) -> tuple[CurvePoint, ...]:
    points = notes.get("curve", ())
    if not points:
        return ()
    metric = metric_for(notes["metric"], kind)
    truth = _array(notes["truth"], kind)
    guesses = [_array(point["guesses"], kind) for point in points]
    if len(truth) < 2:
        return tuple(
            CurvePoint(point["rows"], metric.score(truth, guess), None, None)
            for point, guess in zip(points, guesses, strict=True)
        )
    pairs = [(after, before) for before, after in itertools.pairwise(range(len(points)))]
    everywhere = [np.ones(len(truth), dtype=bool)] * len(points)
    entered = answers(metric, truth, guesses, everywhere)
    values = [scored(metric, one.statistics) for one in entered]
    scores, ends = [one.score(metric) for one in values], score_intervals(metric, values)
    gains = {
        after: (scores[after] - scores[before], interval, compare(metric, entered, [(after, before)])[0].p)
        for (after, before), interval in zip(pairs, difference_intervals(metric, values, pairs), strict=True)
    }
    return tuple(
        CurvePoint(point["rows"], scores[place], ends[place], gains.get(place)) for place, point in enumerate(points)
    )


def _array(values: list[Any], kind: Kind) -> np.ndarray:
    return np.array(values, dtype=np.float64 if kind == "number" else object)
