"""How contestants learned: sweeps with their score against training rows, and tuned models step by step."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from kurabe.contest.evidence import Entry, Evidence
from kurabe.contest.sweeps import SweepResult, sweep_result
from kurabe.report import format as fmt
from kurabe.report.axis import reach

MAX_STEPS = 400
MAX_TRIALS = 50
_FAR = 1.0  # a sweep is far worse that is so many times the middle one's distance from the best beyond it
_SMOOTH = 20  # of the steps, one in so many is what the smoothed loss looks back over

Value = dict[str, Any]


def sweeps(evidence: Evidence, entries: Sequence[Entry]) -> dict[str, SweepResult]:
    """The sweeps among the contestants, by name."""
    found = {entry.name: sweep_result(entry, evidence.kind) for entry in entries}
    return {name: result for name, result in found.items() if result is not None}


def sweep_dict(result: SweepResult) -> Value:
    """A sweep as plain values, the form of the JSON."""
    return asdict(result) | {"settings": result.settings}


def settings_text(settings: Value, limit: int = 60) -> str:
    """`alpha 3.16, log true`: each setting's value, long texts cut to `limit` characters."""
    return ", ".join(f"{name} {setting_text(value, limit)}" for name, value in settings.items())


def setting_text(value: Any, limit: int = 60) -> str:
    """A setting's value as a task file writes it, numbers with four digits."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    return fmt.shorten(fmt.plain(str(value)), limit)


def chose(result: SweepResult) -> str:
    """`chose alpha 3.16, log true among 8 trials (5 given up) on 200 validation rows`."""
    if result.chosen is None:
        return f"tried nothing: {result.stopped or 'no trial was made'}"
    pruned = sum(trial.state == "pruned" for trial in result.trials)
    failed = sum(trial.state == "failed" for trial in result.trials)
    counts = [*([f"{pruned} given up early"] if pruned else []), *([f"{failed} failed"] if failed else [])]
    what = f" ({', '.join(counts)})" if counts else ""
    trials = fmt.count(len(result.trials), "trial")
    stopped = f"; {result.stopped}" if result.stopped else ""
    rows = fmt.count(result.validation_rows, "validation row")
    return f"chose {settings_text(result.settings)} among {trials}{what} on {rows}{stopped}"


def last_gain(result: SweepResult, greater_is_better: bool) -> str:
    """What the last rows brought, `From 266 to 800 training rows it gets better by 5.1 [1.2, 9.0]`; '' where the curve
    has one point."""
    if len(result.curve) < 2 or result.curve[-1].gain is None:
        return ""
    before, after = result.curve[-2:]
    assert after.gain is not None
    difference, interval, p = after.gain
    better = (difference > 0) == greater_is_better
    low, high = interval if difference > 0 else (-interval[1], -interval[0])
    decimals = fmt.places(after.score)
    change = f"{fmt.number(abs(difference), decimals)} {fmt.interval((low, high), decimals)}"
    from_to = f"From {before.rows:,} to {after.rows:,} training rows"
    if not p < 0.05:
        return f"{from_to} no difference can be told ({'better' if better else 'worse'} by {change})"
    return f"{from_to} it gets {'better' if better else 'worse'} by {change}"


def curve_points(results: dict[str, SweepResult]) -> list[Value]:
    """The points of the chosen settings' curves."""
    found = []
    for name, result in results.items():
        for point in result.curve:
            if not math.isfinite(point.score):
                continue
            low, high = point.interval or (point.score, point.score)
            decimals = fmt.places(point.score)
            found.append({
                "contestant": name, "rows": point.rows, "score": point.score, "low": low, "high": high,
                "shown": f"{fmt.number(point.score, decimals)} {fmt.interval(point.interval, decimals)}",
                "settings": settings_text(result.settings),
            })  # fmt: skip
    return found


def trial_points(results: dict[str, SweepResult]) -> list[Value]:
    """The other trials' scores, at most 50 trials a sweep, those that came farthest first."""
    found = []
    for name, result in results.items():
        others = [(place, trial) for place, trial in enumerate(result.trials) if place != result.chosen]
        for place, trial in sorted(others, key=lambda one: -len(one[1].scores))[:MAX_TRIALS]:
            last = dict(zip(trial.rows, trial.scores, strict=True))  # of each size the score on the most rows
            found += [
                {"contestant": name, "trial": f"{name} {place + 1}", "rows": rows, "score": score,
                 "shown": fmt.number(score), "settings": settings_text(trial.settings)}
                for rows, score in last.items()
            ]  # fmt: skip
    return found


def curve_domain(points: Sequence[Value], trials: Sequence[Value], *, greater_is_better: bool) -> tuple[float, float]:
    """The score axis: the chosen settings with their intervals, but for a sweep far worse than the others, and of the
    other trials what is not far from them."""
    of: dict[str, list[Value]] = {}
    for point in points:
        of.setdefault(point["contestant"], []).append(point)
    bounds = [(min(one["low"] for one in own), max(one["high"] for one in own)) for own in of.values()]
    low, high = reach(bounds, greater_is_better, _FAR)
    room = 0.5 * (high - low) or abs(high) * 0.1 or 0.5
    near = [trial["score"] for trial in trials if low - room <= trial["score"] <= high + room]
    low, high = min([low, *near]), max([high, *near])
    return low - 0.04 * room, high + 0.04 * room


def trial_table(result: SweepResult) -> Value:
    """The trials as texts, the best first: those that came farthest, by their last score."""
    names = list(dict.fromkeys(name for trial in result.trials for name in trial.settings))
    greater = _greater(result)
    order = sorted(
        range(len(result.trials)),
        key=lambda place: (
            place != result.chosen, result.trials[place].state == "failed", -len(result.trials[place].scores),
            (-1 if greater else 1) * result.trials[place].scores[-1] if result.trials[place].scores else 0.0, place,
        ),
    )  # fmt: skip
    scores = [trial.scores[-1] for trial in result.trials if trial.scores]
    decimals = fmt.column_places(scores)
    rows = [
        {
            "number": place + 1, "chosen": place == result.chosen,
            "settings": [setting_text(trial.settings.get(name), 200) for name in names],
            "score": fmt.number(trial.scores[-1], decimals) if trial.scores else fmt.NOT_MEASURED,
            "rows": f"{trial.rows[-1]:,}" if trial.rows else fmt.NOT_MEASURED,
            "checked": f"{trial.checked[-1]:,}" if trial.checked else fmt.NOT_MEASURED,
            "state": {"pruned": "given up"}.get(trial.state, trial.state),
            "reason": fmt.shorten(fmt.redact(fmt.plain(trial.reason or "")), 200),
        }
        for place in order[:MAX_TRIALS]
        for trial in [result.trials[place]]
    ]  # fmt: skip
    return {"names": names, "rows": rows, "left_out": max(len(order) - MAX_TRIALS, 0)}


def _greater(result: SweepResult) -> bool:
    from kurabe.tasks.metrics import metric_named

    metric = None if result.metric is None else metric_named(result.metric)
    return metric is not None and metric.greater_is_better


def loss_points(entries: Sequence[Entry]) -> list[Value]:
    """The loss of tuned contestants by step, and its running mean; at most 400 steps of each."""
    found = []
    for entry in entries:
        losses = np.array((entry.notes.get("tuning") or {}).get("losses") or [], dtype=np.float64)
        if not len(losses):
            continue
        smooth = _running_mean(losses, max(1, len(losses) // _SMOOTH))
        steps = np.unique(np.linspace(0, len(losses) - 1, min(len(losses), MAX_STEPS)).astype(int))
        found += [
            {"contestant": entry.name, "step": int(step) + 1, "loss": _rounded(losses[step]),
             "smooth": _rounded(smooth[step])}
            for step in steps
        ]  # fmt: skip
    return found


def checked_points(entries: Sequence[Entry]) -> list[Value]:
    """The validation score of tuned contestants by step."""
    return [
        {"contestant": entry.name, "step": int(step), "score": _rounded(score), "shown": fmt.number(score)}
        for entry in entries
        for step, score in (entry.notes.get("tuning") or {}).get("scores") or []
    ]


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of each value and up to `width` - 1 before it."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _rounded(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
