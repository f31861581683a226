"""The further columns that a task asks for: whether answers follow a format, the score on a slice of the test rows, and
whose answers a judge prefers. All computed from the evidence."""

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kurabe.contest.evidence import Entry, Evidence, fallback_score, usable
from kurabe.contest.intervals import Interval, score_intervals, scored
from kurabe.contest.pairs import Answered, compare
from kurabe.contest.person_verdicts import PersonAgreement, corrected, person_agreement
from kurabe.contest.statistics import holm
from kurabe.contest.style import answer_texts, outcome, pairs, preference, rows_shown
from kurabe.tasks.checks import Follows, labelled, read_format, slice_rows
from kurabe.tasks.metrics import METRICS, metric_for
from kurabe.tasks.spec import Style


@dataclass(frozen=True)
class CheckResult:
    """One check of one contestant.

    `value`: a share of `rows`, 0 to 1 (format, style), or the task's metric over them (slice); `interval`: its 95 %
    interval, or None. `p`: the p-value of a paired test against the contestant `against` (McNemar's
    exact one where each row is independent), adjusted by Holm's method over the column (format). `agreement`: the share
    of pairs on which the judge's two orders agreed (style), None where no pair had to be judged. `person`: how a
    person's verdicts on some of these pairs agree with the judge's, None without such verdicts; `uncorrected`: the
    judge's share, where `value` is corrected by them.
    """

    value: float
    interval: Interval | None
    rows: int
    p: float | None = None
    against: str | None = None
    agreement: float | None = None
    person: PersonAgreement | None = None
    uncorrected: float | None = None


Column = dict[str, CheckResult]
_SHARE = METRICS["exact_match"]  # any share of rows


def check_columns(
    evidence: Evidence, order: Sequence[str], resamples: int, seed: int
) -> dict[str, dict[str, CheckResult]]:
    """Of each contestant its results by the checks' names. `order`: the contestants from best to worst."""
    found: defaultdict[str, dict[str, CheckResult]] = defaultdict(dict)
    ranked = sorted(evidence.entries, key=lambda entry: order.index(entry.name))
    for place, (label, check) in enumerate(labelled(evidence.checks)):
        if check.format is not None:
            column = _format_column(evidence, read_format(check.format), ranked)
        elif check.slice is not None:
            column = _slice_column(evidence, slice_rows(check.slice, evidence.rows), resamples, seed)
        else:
            column = _style_column(evidence, place, check.style) if check.style is not None else {}
        for name, result in column.items():
            found[name][label] = result
    return dict(found)


def _format_column(evidence: Evidence, follows: Follows, ranked: Sequence[Entry]) -> Column:
    """The share of each contestant's answers that follow the format, with its interval, beside that of the best
    contestant that says something or, of a tuned model, of itself untuned."""
    right: dict[str, np.ndarray] = {}  # 1 where an answer follows the format, 0 where not, NaN without an answer
    for entry in ranked:
        texts = answer_texts(evidence, entry)
        there = np.array([text is not None for text in texts or ()], dtype=bool)
        if there.any():
            right[entry.name] = np.full(len(there), np.nan)
            right[entry.name][there] = follows([text for text in texts or () if text is not None])
    column: Column = {}
    for entry in ranked:
        if entry.name not in right:
            continue
        result = _share(evidence, right[entry.name])
        other = _untuned(entry, [one for one in ranked if one.name in right]) or next(iter(right))
        both = np.isfinite(right[entry.name]) & np.isfinite(right[other])
        if other != entry.name and both.any():
            parts = [Answered(both, one[both][:, None]) for one in (right[entry.name], right[other])]
            p = compare(_SHARE, parts, [(0, 1)], units=evidence.units)[0].p
            result = replace(result, p=p, against=other)
        column[entry.name] = result
    tested = {frozenset((name, result.against)): result.p for name, result in column.items() if result.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))  # two held against each other are one test
    return {name: replace(result, p=adjusted.get(frozenset((name, result.against)))) for name, result in column.items()}


def _share(evidence: Evidence, values: np.ndarray) -> CheckResult:
    """The mean of (n,) `values` from 0 to 1, NaN left out, with its interval: over independent units, as scores are."""
    there = np.isfinite(values)
    one = scored(_SHARE, values[there][:, None], evidence.units.on(there))
    ends = score_intervals(_SHARE, [one])[0] if one.units.count > 1 else None
    return CheckResult(one.score(_SHARE), ends, int(there.sum()))


def _untuned(entry: Entry, others: Sequence[Entry]) -> str | None:
    """The contestant that asks the model which `entry` has tuned."""
    if "tuning" not in entry.notes:
        return None
    return next((one.name for one in others if one.model == entry.model and "tuning" not in one.notes), None)


def _slice_column(evidence: Evidence, members: np.ndarray, resamples: int, seed: int) -> Column:
    """The metric over the slice's rows with its interval, of those answered. Contestants that answered the same rows
    share the resamples."""
    metric = metric_for(evidence.metric, evidence.kind)
    typical = fallback_score(evidence.truth, evidence.fallback, metric)
    masks = {entry.name: usable(entry) & members for entry in evidence.entries if entry.status in ("done", "partial")}
    column: Column = {}
    by_rows = sorted(
        (entry for entry in evidence.entries if entry.name in masks), key=lambda e: masks[e.name].tobytes()
    )
    for _, group in itertools.groupby(by_rows, key=lambda entry: masks[entry.name].tobytes()):
        entries = list(group)
        mask = masks[entries[0].name]
        rows = int(mask.sum())
        if not rows:
            continue
        truth, units = evidence.truth[mask], evidence.units.on(mask)
        values = [scored(metric, metric.statistics(truth, entry.guesses[mask]), units) for entry in entries]
        many = units.count > 1
        made = (
            score_intervals(metric, values, typical=typical, resamples=resamples, seed=seed)
            if many
            else [None] * len(values)
        )
        for entry, one, ends in zip(entries, values, made, strict=True):
            score = one.score(metric)
            if math.isfinite(score):
                known = ends is not None and all(map(math.isfinite, ends))
                column[entry.name] = CheckResult(score, ends if known else None, rows)
    return column


def _style_column(evidence: Evidence, place: int, style: Style) -> Column:
    """How often each contestant's answers are preferred, ties counting half, with its interval (a little wide
    where there are many ties). Where a person has judged enough of the same pairs, how often a person prefers them."""
    column: Column = {}
    if (judged := evidence.judged.get(place)) is None:
        return column
    for entry in evidence.entries:
        shown = pairs(evidence, style, entry)
        found = preference(shown, judged.verdicts)
        if found.pairs:
            won = np.full(len(evidence.truth), np.nan)
            won[rows_shown(evidence, style, entry)] = [outcome(pair, judged.verdicts) for pair in shown]
            by_judge, by_person = _share(evidence, won), corrected(shown, judged)
            column[entry.name] = replace(
                by_judge,
                value=by_person.value if by_person else by_judge.value,
                interval=by_person.interval if by_person else by_judge.interval,
                person=person_agreement(shown, judged),
                uncorrected=by_judge.value if by_person else None,
                against=style.against,
                agreement=found.agreed / found.judged if found.judged else None,
            )
    return column
