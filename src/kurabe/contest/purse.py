"""The dollars of a run: one count for all that spends, which is asked before money is."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

from kurabe.contest.journal import Journal
from kurabe.contest.prepare import Entrant
from kurabe.contestants.base import Prediction
from kurabe.contestants.contract import contestant_of
from kurabe.contestants.keys import digest
from kurabe.errors import BudgetExceededError
from kurabe.models.hosted.transport.budget import Budget


def own_dollars(notes: Mapping[str, Any]) -> float:
    """What learning cost beside trials, by what a contestant noted."""
    usd = notes.get("usd") or 0.0
    return float(usd - _noted(notes, 0.0))


def trial_dollars(journal: Journal, entrants: Sequence[Entrant]) -> float:
    """Dollars of trials, in all runs, that `Journal.spent` does not say of these contestants.

    What is kept of trials is the truth: also those count that a killed run has made, and those that two sweeps of the
    same contestant share count once. This can be less than 0, where the journal holds such dollars twice.
    """
    kept: dict[bytes, float] = {}
    noted: dict[bytes, float] = {}
    for entrant in entrants:
        usd = contestant_of(entrant.estimator).trials_spent()
        noted |= {key: _noted(journal.notes(key), usd) for key in entrant.keys}
        together = entrant.learned[0] if entrant.learned else entrant.key
        kept[together] = max(kept.get(together, 0.0), usd, *(noted[key] for key in entrant.keys))
    return sum(kept.values()) - sum(noted.values())


def _noted(notes: Mapping[str, Any], kept: float) -> float:
    """The dollars of trials among those that a contestant noted. Earlier versions of kurabe noted only all together:
    then the trials have cost no more than that, and than what is `kept` of them."""
    usd: float = notes.get("sweep", {}).get("usd", kept)
    return min(usd, notes.get("usd") or 0.0)


class Purse:
    """What a task's contestants and judges have cost, in all runs, and may cost still. Threads may share it.

    Use as a context manager: within, where there is a limit, what calls may cost is in the journal before they are
    sent.

    Parameters
    ----------
    keys
        What the answers of the contestants and judges are kept by.
    task
        The task's name.
    usd
        The most dollars. None: there is no limit.
    trials
        What `trial_dollars` says.
    """

    def __init__(
        self, journal: Journal, keys: Sequence[bytes], task: str, usd: float | None, trials: float = 0.0
    ) -> None:
        self._journal, self._owner, self._usd = journal, digest("budget", task), usd
        self._lock = threading.Lock()
        spent, self._dearest = journal.spent([*keys, self._owner])
        self._spent = spent + trials
        self.budget = None if usd is None else Budget(usd)
        """Asked by the calls of hosted models."""
        if self.budget is not None:
            self.budget.count(self._spent)

    def __enter__(self) -> Self:
        if self.budget is not None:
            self.budget.ledger = self._journal.ledger(self._owner)
        return self

    def __exit__(self, *_: object) -> None:
        if self.budget is not None and self.budget.ledger is not None:
            ledger, self.budget.ledger = self.budget.ledger, None
            ledger.close()

    @property
    def spent(self) -> float:
        """Dollars that were spent so far, in all runs."""
        return self._spent

    def left(self) -> float | None:
        """Dollars that are left; None where there is no limit."""
        return None if self._usd is None else self._usd - self._spent

    def count(self, answers: Sequence[Prediction]) -> None:
        """Take what answers that are in the journal cost, and were asked under the budget, off the dollars."""
        usd = sum(answer.usd or 0.0 for answer in answers)
        with self._lock:
            self._spent += usd
            self._dearest = max([self._dearest, *(answer.usd or 0.0 for answer in answers)])
        if self.budget is not None and self.budget.ledger is not None:
            self.budget.ledger.change(-usd)

    def count_trials(self, usd: float) -> None:
        """Take off what trials cost that are kept, and were asked under the budget."""
        with self._lock:
            self._spent += usd

    def pay(self, usd: float, dearest: float = 0.0) -> None:
        """Take off what was spent otherwise: by a fit, or by answers that are taken over."""
        with self._lock:
            self._spent += usd
            self._dearest = max(self._dearest, dearest)
        if self.budget is not None:
            self.budget.count(usd)

    def check(self) -> None:
        """Raise BudgetExceededError where the dollars are used up, or not enough for another answer."""
        if self._usd is not None and self._spent > 0 and self._spent + self._dearest > self._usd:
            raise BudgetExceededError(f"the budget of ${self._usd:g} is used up; raise it and run again to go on")
