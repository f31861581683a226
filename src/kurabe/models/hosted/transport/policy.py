"""How patient a model's calls are: the waits of retries, limits, breaker and tuning jobs as one value."""

import msgspec

from kurabe.errors import InputError

LONGEST = 10**9
"""The largest value, some 30 years: no clock or sleep takes much more."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long kurabe waits for a provider, and when it leaves the provider alone. Times are in seconds.

    Waits before another attempt are random ("full jitter",
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    Parameters
    ----------
    first_wait : float
        The longest wait before the second attempt. It doubles with each further attempt.
    longest_wait : float
        The longest wait before any attempt.
    first_pause : float
        No call starts for so long after a 429 that names no time. It doubles with each 429 that follows.
    longest_pause : float
        The longest such pause.
    patience : float
        If a provider asks to wait longer than this, the call fails instead, and other calls don't wait either.
    window : float
        What `requests_per_minute` and `tokens_per_minute` are counted over.
    least_rate : int
        The fewest requests in a window to which 429s can lower the limit.
    failures : int
        After so many failed calls in a row the provider is left alone.
    rest : float
        Then one call is tried after so long.
    first_look : float
        The time between the first two looks at a tuning job. It grows.
    longest_look : float
        The longest time between two looks.

    Raises
    ------
    InputError
        If a value is not a number above 0, or is above 10⁹.
    """

    first_wait: float = 0.5
    longest_wait: float = 30.0
    first_pause: float = 1.0
    longest_pause: float = 60.0
    patience: float = 120.0
    window: float = 60.0
    least_rate: int = 60
    failures: int = 20
    rest: float = 15.0
    first_look: float = 2.0
    longest_look: float = 60.0

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            whole = field.type is int
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise InputError(_message(field.name, whole))
            if not 0 < value <= LONGEST:
                raise InputError(_message(field.name, whole))


USUAL = Policy()


def _message(name: str, whole: bool) -> str:
    return f"policy: {name} must be a {'whole ' if whole else ''}number above 0 and at most {LONGEST:,}"
