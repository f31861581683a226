"""What a run with a limit of minutes does first, what it leaves out, and how long each contestant may take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from kurabe.contest.estimates import estimate
from kurabe.contest.journal import Journal
from kurabe.contest.notes import UNFINISHED
from kurabe.contest.prepare import Entrant
from kurabe.contest.work import LEAST_ROWS
from kurabe.contestants.contract import contestant_of
from kurabe.contestants.registry import WORTH
from kurabe.errors import TaskError
from kurabe.tasks.task import Task

HOSTED = 4.0
"""What a hosted model is worth beside a local one: it is larger."""
UNKNOWN = 10.0
"""Seconds that a contestant is taken to need where nothing is known of it; it is never left out."""
QUICK = 1.0
"""Estimates of fewer seconds say nothing of how fast the machine is."""


@dataclass
class Schedule:
    """The seconds that contestants are estimated to need, by label, and by how much those of this run were off.

    `needs`: until all their answers are there; `least`: until there are enough to count; both None where unknown.
    `guessed`: whether that comes from stated rates, and not from an earlier run.
    """

    needs: Mapping[str, float | None]
    least: Mapping[str, float | None]
    guessed: Mapping[str, bool]
    factor: float = 1.0

    @classmethod
    def make(cls, entrants: Sequence[Entrant], task: Task, inputs: Sequence[bytes], journal: Journal) -> Self:
        """The schedule of a run whose test rows have these inputs, by their digests."""
        rates = journal.rates(task.name)
        needs: dict[str, float | None] = {}
        least: dict[str, float | None] = {}
        guessed = {}
        for one in entrants:
            answered = set(journal.predictions(one.key))
            try:
                found = estimate(one, task, inputs, answered, rates)
            except TaskError:  # of a template: the contestant itself says what is wrong with it
                needs[one.label] = least[one.label] = None
                continue
            seconds = 0.0 if found.reason is not None else found.seconds
            before = journal.notes(one.key).get(UNFINISHED)
            if before is not None:
                seconds = max(seconds or 0.0, 2 * before)
            guessed[one.label] = not found.measured and before is None
            share = 1.0
            if contestant_of(one.estimator).asks and one.rows is not None and found.calls:
                share = min(max(LEAST_ROWS - (found.rows - found.calls), 1) / found.calls, 1.0)
            needs[one.label], least[one.label] = seconds, None if seconds is None else seconds * share
        return cls(needs, least, guessed)

    def least_of(self, entrant: Entrant) -> float:
        """The seconds that a contestant needs to count; UNKNOWN where that is not known."""
        return self._now(entrant, self.least)

    def fits(self, entrant: Entrant, left: float) -> bool:
        """Whether a contestant can be ready in the seconds that are left, as far as that is known."""
        return self.least.get(entrant.label) is None or self.least_of(entrant) <= left

    def order(self, entrants: Sequence[Entrant]) -> list[Entrant]:
        """The contestants in the order in which they run: those first that are worth most for each of their seconds, so
        that what is cheap and promising comes before what is slow."""
        return sorted(entrants, key=lambda one: self.least_of(one) / _worth(one))

    def share(self, entrant: Entrant, after: Sequence[Entrant], left: float) -> float:
        """The seconds that a contestant may take of those that are `left`.

        Language models get equal shares, as far as each can make use of its own. What learns gets twice what it is
        expected to need, and at least half of what is left, while others wait.
        """
        waiting = [one for one in after if self.needs.get(one.label) != 0.0]
        if not contestant_of(entrant.estimator).asks:
            expected = 2 * self._now(entrant, self.needs)
            return min(max(left / 2, expected), left) if waiting else left
        models = [entrant, *(one for one in waiting if contestant_of(one.estimator).asks)]
        while len(models) > 1 and any(self.least_of(one) > left / len(models) for one in models):
            slowest = max(models[1:], key=self.least_of)
            models.remove(slowest)
        return left / len(models)

    def learned(self, entrant: Entrant, seconds: float) -> None:
        """Note how long a contestant took to learn, so that what is guessed of the others fits this machine."""
        guess = self.needs.get(entrant.label)
        if self.guessed.get(entrant.label) and guess is not None and max(guess, seconds) > QUICK:
            seen = min(max(seconds / max(guess, 0.1), 0.2), 5.0)
            self.factor = math.sqrt(self.factor * seen)

    def _now(self, entrant: Entrant, seconds: Mapping[str, float | None]) -> float:
        found = seconds.get(entrant.label)
        learns = self.guessed.get(entrant.label) and not contestant_of(entrant.estimator).asks
        return UNKNOWN if found is None else found * self.factor if learns else found


def leave_out(seconds: float, minutes: float, *, more: bool = False) -> str:
    """Why a contestant is left out of a run of so many minutes, and what to do: it needs about so many seconds, or
    `more`, of which nobody knows how many."""
    enough = math.ceil(seconds * (2.5 if more else 1.25) / 60)
    about = f"{max(seconds, 1):.0f} s" if seconds < 90 else f"{round(seconds / 60)} min"
    needs = f"needs {'more than' if more else 'about'} {about}"
    if enough <= minutes:  # others have taken the time
        return f"{needs}, and less is left of the {minutes:g} minutes; run again to go on"
    return f"{needs}; give --minutes {enough}"


def _worth(entrant: Entrant) -> float:
    """What a contestant is worth trying beside the others."""
    worth = WORTH.get(entrant.name, 1.0)
    return worth * (HOSTED if contestant_of(entrant.estimator).hosted else 1.0)
