"""How fast a provider may be called with one key: requests and tokens per minute, and what its answers say of them.

A sliding window, not a token bucket: whatever minute one looks at, no more than the limit was sent in it. Turns are
given in the order of asking, as a time to start at, so that waiting needs no lock and no wake-up.
"""

import math
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from kurabe.models.hosted.transport.policy import USUAL, Policy

MOST_DIGITS = 9
"""Of a number in a header; one of more digits is no limit."""
CUT = 0.8  # of the rate, with each 429 of a provider that states no limit
GROWTH = 1.01  # of that learned rate, with each answer: 23 answers make up for a cut, so stray 429s do no harm
MOST = 100_000  # requests per minute, above which a learned limit is no limit


class Turn:
    """One call's place: when it may start (seconds of the caller's clock) and how many tokens are counted for it."""

    __slots__ = ("counted", "start", "tokens")

    def __init__(self, start: float, tokens: int) -> None:
        self.start = start
        self.tokens = tokens
        self.counted = False


class Limiter:
    """Requests and tokens per minute; None: not known, and not limited until the provider says so.

    Times are seconds of a monotonic clock that the caller reads. Safe from threads.
    """

    def __init__(self, requests: int | None = None, tokens: int | None = None, policy: Policy = USUAL) -> None:
        self.policy = policy
        self.requests = requests
        self.tokens = tokens
        self._given = (requests is not None, tokens is not None)
        self._turns: deque[Turn] = deque()  # that may still count in the window before the next start
        self._used = 0
        self._last = 0.0
        self._recent: deque[list[int]] = deque()  # [second, calls] of the last minute
        self._pause_until = 0.0
        self._pauses = 0
        self._learned: float | None = None  # requests per minute, from 429s alone
        self._lock = threading.Lock()

    def take(self, now: float, tokens: int, latest: float = math.inf) -> Turn:
        """A turn for a call of about so many tokens; it may start at `turn.start`, not before.

        A call of more tokens than a minute allows gets a minute of its own. A turn that starts after `latest` is not
        the caller's: nothing is counted for it.
        """
        with self._lock:
            self._count(now)
            start = max(now, self._last, self._pause_until)
            if self.requests is None and self.tokens is None:
                return Turn(start, tokens)
            dropped: list[Turn] = []
            while self._turns and self._turns[0].start <= start - self.policy.window:
                dropped.append(self._drop())
            if self.requests is not None:
                while len(self._turns) >= self.requests:
                    dropped.append(self._drop())
                    start = max(start, dropped[-1].start + self.policy.window)
            if self.tokens is not None:
                while self._turns and self._used + tokens > self.tokens:
                    dropped.append(self._drop())
                    start = max(start, dropped[-1].start + self.policy.window)
            turn = Turn(start, tokens)
            if start > latest:
                self._put_back(dropped)
                return turn
            turn.counted = True
            self._turns.append(turn)
            self._used += tokens
            self._last = start
            return turn

    @property
    def paused_until(self) -> float:
        """The time before which nothing starts, since the provider asked for a pause."""
        return self._pause_until

    def paused_since(self, turn: Turn) -> bool:
        """Whether a pause came that ends after the turn's start: then another turn is to be taken."""
        return self._pause_until > turn.start

    def used(self, turn: Turn, tokens: int) -> None:
        """Count what the call really used instead of the guess."""
        if turn.counted:
            with self._lock:
                if turn.counted:
                    self._used += tokens - turn.tokens
                    turn.tokens = tokens

    def limited(self, now: float, retry_after: float | None) -> None:
        """A 429 came: nothing starts for a while, of the policy's patience at most, and with no limit known, one is
        learned from the last minute."""
        policy = self.policy
        if retry_after is not None:
            retry_after = min(retry_after, policy.patience)
        with self._lock:
            if now >= self._pause_until:  # the first of those that were under way together
                self._pauses += 1
                pause = min(policy.first_pause * 2 ** (self._pauses - 1), policy.longest_pause)
                self._pause_until = now + (pause if retry_after is None else retry_after)
                if self._learned is not None or self.requests is None:
                    self._learned = max(policy.least_rate, CUT * (self._learned or self._rate(now)))
                    self.requests = int(self._learned)
            elif retry_after is not None:
                self._pause_until = max(self._pause_until, now + retry_after)

    def answered(self, headers: Mapping[str, str]) -> None:
        """Read an answer's headers: limits per minute, as OpenAI's and Anthropic's formats name them."""
        self._pauses = 0
        requests, tokens = stated_limits(headers)
        if requests is None and tokens is None and self._learned is None:  # as with most answers
            return
        with self._lock:
            if requests is not None and not self._given[0]:
                self.requests, self._learned = requests, None
            elif self._learned is not None:
                self._learned *= GROWTH
                self.requests = int(self._learned)
                if self._learned > MOST:
                    self.requests = self._learned = None
            if tokens is not None and not self._given[1]:
                self.tokens = tokens

    def _drop(self) -> Turn:
        """Take the oldest turn out of the window."""
        turn = self._turns.popleft()
        turn.counted = False
        self._used -= turn.tokens
        return turn

    def _put_back(self, dropped: list[Turn]) -> None:
        """Undo `_drop` of these turns, the oldest first."""
        for turn in reversed(dropped):
            turn.counted = True
            self._used += turn.tokens
            self._turns.appendleft(turn)

    def _count(self, now: float) -> None:
        second = int(now)
        if self._recent and self._recent[-1][0] == second:
            self._recent[-1][1] += 1
            return
        self._recent.append([second, 1])
        while self._recent[0][0] <= now - self.policy.window - 1:
            self._recent.popleft()

    def _rate(self, now: float) -> float:
        """Calls per minute of the last minute, or of the time since the first call where that is shorter."""
        window = self.policy.window
        calls = sum(count for second, count in self._recent if second > now - window)
        since = self._recent[0][0] if self._recent else now
        return calls * window / min(max(now - since, 1.0), window)


def stated_limits(headers: Any) -> tuple[int | None, int | None]:
    """(requests, tokens) per minute that an answer's headers state; None where they do not."""
    get = headers.get
    requests = get("x-ratelimit-limit-requests")
    if requests is None:
        requests = get("anthropic-ratelimit-requests-limit")
        if requests is None:
            return None, None
        tokens = get("anthropic-ratelimit-tokens-limit")
    else:
        tokens = get("x-ratelimit-limit-tokens")
    return _positive(requests), _positive(tokens)


def retry_after(headers: Any, now: float) -> float | None:
    """Seconds that an answer asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date; None where it
    asks for none, or for what is no time.

    `now` is the wall clock in seconds since 1970.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None and milliseconds >= 0:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    if (seconds := _seconds(value)) is not None:
        return max(seconds, 0.0)
    from email.utils import parsedate_to_datetime

    try:
        return max(parsedate_to_datetime(value).timestamp() - now, 0.0)
    except (ValueError, TypeError, OverflowError, LookupError):
        return None


def _seconds(text: str | None) -> float | None:
    """The number of a header, or None where it is not a finite one."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _positive(text: str | None) -> int | None:
    """The number, or None: a limit of 0 or -1 means that there is none, and so does one of very many digits."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > MOST_DIGITS or int(text) == 0:
        return None
    return int(text)
