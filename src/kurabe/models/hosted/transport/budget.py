"""A budget in dollars that is never exceeded: what is in flight is reserved first."""

import math
import threading
import time

from kurabe.errors import BudgetExceededError, CallTimeoutError, InputError
from kurabe.models.hosted.transport.ledger import Ledger
from kurabe.models.waiting import wait

ROUNDING = 1e-9
"""Of the budget: what sums of floats may be off by after very many calls."""


class Budget:
    """Dollars that calls may cost together. Models, threads and event loops may share one budget.

    Parameters
    ----------
    usd : float
        The dollars, 0 or more.

    Raises
    ------
    InputError
        If `usd` is not a number of 0 or more.

    Examples
    --------
    >>> from kurabe import Budget
    >>> Budget(5)
    Budget($0 of $5 spent, $0 in flight)
    """

    def __init__(self, usd: float) -> None:
        if not isinstance(usd, int | float) or isinstance(usd, bool) or not (math.isfinite(usd) and usd >= 0):
            raise InputError(f"a budget is a number of dollars, 0 or more, not {usd!r}")
        self.usd = usd
        self.spent = 0.0
        self.reserved = 0.0
        self.ledger: Ledger | None = None
        """Where what is set aside is written down, if it is to outlive this process."""
        self._lock = threading.Lock()

    @property
    def left(self) -> float:
        """Dollars that are neither spent nor set aside."""
        return self.usd - self.spent - self.reserved

    def __repr__(self) -> str:
        return f"Budget(${self.spent:.4g} of ${self.usd:.4g} spent, ${self.reserved:.4g} in flight)"

    async def reserve(self, most: float, until: float = math.inf) -> None:
        """Set aside what a call may cost. If only calls in flight stand in the way, wait for them.

        Parameters
        ----------
        most : float
            The most that the call may cost, in dollars.
        until : float
            When to stop waiting, in seconds of `time.monotonic`.

        Raises
        ------
        BudgetExceededError
            If what is left is not enough even after them.
        CallTimeoutError
            If they take longer than `until`.
        JournalError
            If it can't be written down.
        """
        await self._take(most, until)
        await self._hold(most)

    def settle(self, most: float, usd: float) -> None:
        """Count what a call cost, which is over.

        Parameters
        ----------
        most : float
            What was set aside for it, in dollars.
        usd : float
            What it cost, in dollars. If that is not a valid cost, all that was set aside counts.
        """
        usd = self._give_back(most, usd)
        if self.ledger is not None:
            self.ledger.change(usd - most)

    def count(self, usd: float) -> None:
        """Count dollars that were spent without a reservation.

        Parameters
        ----------
        usd : float
            The dollars.
        """
        with self._lock:
            self.spent += usd

    async def _take(self, most: float, until: float) -> None:
        """Set aside what a call may cost, in memory alone."""
        while not self._try(most):
            if time.monotonic() > until:
                raise CallTimeoutError("other calls hold what is left of the budget", sent=False)
            await wait(0.02)

    async def _hold(self, most: float) -> None:
        """Write down what was set aside; where that can't be, the call is not made."""
        if self.ledger is not None:
            try:
                await self.ledger.hold(most)
            except BaseException:
                self.settle(most, 0.0)
                raise

    def _give_back(self, most: float, usd: float) -> float:
        """Count what a call cost, in memory alone, and return it."""
        if not (math.isfinite(usd) and usd >= 0):
            usd = most
        with self._lock:
            self.reserved -= most
            self.spent += usd
        return usd

    def _try(self, most: float) -> bool:
        with self._lock:
            if self.spent + self.reserved + most <= self.usd:
                self.reserved += most
                return True
            if self.reserved <= ROUNDING * self.usd:  # nothing is in flight
                raise BudgetExceededError(
                    f"the budget of ${self.usd:g} does not allow another call: ${self.spent:.4g} is spent, and the next"
                    f" one may cost ${most:.4g}. Allow more, or ask for fewer tokens with max_tokens"
                )
            return False


class PartBudget(Budget):
    """Dollars that are a part of another budget's: a call needs room in both.

    What `count` is told is counted here alone. Only the part's ledger writes down what its calls may cost, so whoever
    reads what was spent has to add the two ledgers up.

    Parameters
    ----------
    usd : float
        The dollars, 0 or more.
    whole : Budget
        The budget that this one is a part of.
    """

    def __init__(self, usd: float, whole: Budget) -> None:
        super().__init__(usd)
        self._whole = whole

    @property
    def left(self) -> float:
        """Dollars that are left in both."""
        return min(super().left, self._whole.left)

    async def reserve(self, most: float, until: float = math.inf) -> None:
        """As `Budget.reserve`, in both."""
        await self._whole._take(most, until)
        try:
            await self._take(most, until)
        except BaseException:
            self._whole._give_back(most, 0.0)
            raise
        await self._hold(most)

    def settle(self, most: float, usd: float) -> None:
        """As `Budget.settle`, in both."""
        self._whole._give_back(most, usd)
        super().settle(most, usd)


class Reservation:
    """What one call has set aside of a budget."""

    def __init__(self, budget: Budget, most: float) -> None:
        self._budget = budget
        self._most = most
        self._held = 0.0

    async def hold(self, until: float = math.inf) -> None:
        """Set it aside; where an attempt before this one may have been paid for, count that one first.

        Raises BudgetExceededError, and CallTimeoutError where others still hold the budget at `until`.
        """
        self.settle(None)
        await self._budget.reserve(self._most, until)
        self._held = self._most

    def settle(self, usd: float | None) -> None:
        """The call is over and cost `usd`; None: perhaps all that was set aside."""
        held, self._held = self._held, 0.0
        self._budget.settle(held, held if usd is None else usd)
