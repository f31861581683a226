"""What a run will take and what it can show, before anything is asked."""

import tempfile
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kurabe.contest.caution import noticeable
from kurabe.contest.estimates import Estimate, estimate
from kurabe.contest.intervals import influences, scored
from kurabe.contest.journal import Journal
from kurabe.contest.minutes import Schedule, leave_out
from kurabe.contest.prepare import Entrant, choose, head, journal_path, make_entrants
from kurabe.contest.purse import trial_dollars
from kurabe.contest.units import find_units
from kurabe.contestants import registry
from kurabe.contestants.keys import input_digests
from kurabe.models.cost import total
from kurabe.tasks.metrics import metric_for
from kurabe.tasks.spec import Kind
from kurabe.tasks.task import Task

LEARNED = 20_000
"""Training rows by which the spread of scores is told."""


@dataclass(frozen=True)
class Plan:
    """A run before it begins.

    `train`, `validation`, `test`: rows; `effective_rows`: test rows that are independent of each other. `difference`:
    the smallest difference of scores, in the metric's unit, that the test rows show in 80 % of contests; None where the
    metric is not defined on the training part. `sample_difference`: likewise of two of which one answers the smallest
    sample of test rows that a contestant answers; None where all answer all. `stops`: what the task's budget will stop,
    one sentence each. `spent`: dollars that the task's contestants have cost before.
    """

    task: str
    kind: Kind
    metric: str
    train: int
    validation: int
    test: int
    effective_rows: int
    contestants: tuple[Estimate, ...]
    difference: float | None
    sample_difference: float | None = None
    stops: tuple[str, ...] = ()
    spent: float = 0.0

    @property
    def taking_part(self) -> tuple[Estimate, ...]:
        """The contestants that can run here."""
        return tuple(one for one in self.contestants if one.reason is None)

    @property
    def calls(self) -> int:
        """Calls of language models."""
        return sum(one.calls for one in self.taking_part if one.model is not None)

    @property
    def usd(self) -> float | None:
        """Dollars of those that can run; None where one's are unknown."""
        return total(one.usd for one in self.taking_part)

    @property
    def seconds(self) -> float | None:
        """Seconds of those that can run; None where one's are unknown."""
        return total(one.seconds for one in self.taking_part)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that `kurabe plan --json` prints."""
        return asdict(self) | {"calls": self.calls, "usd": self.usd, "seconds": self.seconds}


def make_plan(
    task: Task,
    *,
    only: Collection[str] = (),
    limit: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
) -> Plan:
    """The plan of a run with these settings (those of `kurabe.contest.run.run`). Asks no model and writes nothing.

    Raises ContestantError for an unknown name or a setting that is not valid, and JournalError for a damaged journal.
    """
    test = head(task.test, limit)
    everyone = make_entrants(task, seed)
    entrants = choose(everyone, task, only)
    inputs = input_digests(test.X)
    with ExitStack() as stack:
        path = journal_path(task.folder)
        if not path.exists():
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.name
        journal = stack.enter_context(Journal(path))
        rates = journal.rates(task.name)
        contestants = tuple(
            estimate(
                entrant,
                task,
                inputs,
                {row for key in entrant.keys for row in journal.predictions(key)},
                rates,
                closely=True,
            )
            for entrant in entrants
        )
        spent, _ = journal.spent([key for entrant in everyone for key in entrant.keys])
        spent += trial_dollars(journal, everyone)
        schedule = Schedule.make(entrants, task, inputs, journal)
    split = task.spec.data.split
    cluster = task.spec.cluster or (split.group if split else None)
    units = find_units(test.y, inputs, None if cluster is None else test.rows[cluster]).count
    able = [one for one in contestants if one.reason is None]
    pairs = len(able) * (len(able) - 1) // 2
    least, most = min([one.rows for one in able], default=0), max([one.rows for one in able], default=0)
    return Plan(
        task=task.name,
        kind=task.kind,
        metric=task.metric,
        train=len(task.train),
        validation=0 if task.validation is None else len(task.validation),
        test=len(test),
        effective_rows=units,
        contestants=contestants,
        difference=smallest_difference(task, units, pairs),
        sample_difference=smallest_difference(task, units * least / most, pairs) if 0 < least < most else None,
        stops=(
            *_out_of_time(schedule, entrants, contestants, task.spec.budget.minutes if minutes is None else minutes),
            *_out_of_dollars(contestants, task.spec.budget.usd, spent),
        ),
        spent=spent,
    )


def smallest_difference(task: Task, rows: float, pairs: int) -> float | None:
    """The smallest difference that so many test rows show in 80 % of contests, tested at 5 % over so many pairs:
    (z(1 - 0.05 / 2 pairs) + z(0.8)) s / √rows.

    s is the standard deviation over rows of a difference of two contestants. It is not known before, so it is taken to
    be that of the constant's own score on the training part, as of two contestants that err as much as the constant
    does and whose errors correlate at .5: good contestants differ by less. Bounded scores vary most in their middle, so
    that of them s is √(p (1 - p)) of the whole range, with p the constant's score or the middle, if that is higher.
    """
    metric = metric_for(task.metric, task.kind)
    X, y = task.train.X.head(LEARNED), task.train.y[:LEARNED]
    guess = registry.from_name("constant", registry.Context(task.kind, metric.name)).fit(X, y).predict(X)
    one = scored(metric, metric.statistics(y, guess))
    if metric.bounds is not None:
        low, high = metric.bounds
        share = max(0.5, (one.score(metric) - low) / (high - low))
        spread = (high - low) * np.sqrt(share * (1 - share))
    else:
        spread = np.std(influences(metric, one))
    found = float(noticeable(pairs) * spread / np.sqrt(rows))
    return found if np.isfinite(found) and found > 0 else None


def _out_of_time(
    schedule: Schedule, entrants: Sequence[Entrant], contestants: Sequence[Estimate], minutes: float | None
) -> list[str]:
    """What a limit of minutes will leave out or cut short, going through the contestants as a run does."""
    if minutes is None:
        return []
    left, found = minutes * 60, []
    able = {one.contestant: one for one in contestants if one.reason is None and one.calls}
    waiting = schedule.order([entrant for entrant in entrants if entrant.label in able])
    while waiting:
        entrant = waiting.pop(0)
        need, share = schedule.needs.get(entrant.label) or 0.0, schedule.share(entrant, waiting, left)
        if not schedule.fits(entrant, left):
            found.append(f"{entrant.label} will be left out: {leave_out(schedule.least_of(entrant), minutes)}.")
            continue
        if need > share:
            one = able[entrant.label]
            some = f"about {share / need * one.calls:,.0f} of its {one.calls:,} rows" if one.model else "not all rows"
            found.append(f"{entrant.label} will answer {some} in the {minutes:g} minutes.")
        left -= min(need, share)
    return found


def _out_of_dollars(contestants: Sequence[Estimate], usd: float | None, spent: float) -> list[str]:
    """Where contestants, one after the other, come to the end of a budget in dollars."""
    if usd is None:
        return []
    able = [one for one in contestants if one.reason is None and one.calls]
    found = []
    if unpriced := [one.contestant for one in able if one.usd is None]:
        found.append(f"What {', '.join(unpriced)} costs is unknown, so the budget of ${usd:g} can't be kept.")
    for place, one in enumerate(able):
        if one.usd and spent + one.usd > usd:
            share = max(usd - spent, 0.0) / one.usd
            later = [other.contestant for other in able[place + 1 :] if other.usd]
            rest = f" {', '.join(later)} will not begin." if later else ""
            stop = f"The budget of ${usd:g} will stop {one.contestant} after about {share:.0%} of its rows.{rest}"
            return [*found, stop]
        spent += one.usd or 0.0
    return found
