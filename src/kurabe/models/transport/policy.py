"""How patient a model's calls are: the waits of retries, limits, breaker and tuning jobs as one value."""

import math

import msgspec

from kurabe.errors import InputError


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a provider is waited for, and when it is left alone. All are seconds but `least_rate` and `failures`.

    `first_wait`, `longest_wait`: before the second attempt up to the first, before each further one up to twice what it
    was before, at most the longest (full jitter,
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). `first_pause`, `longest_pause`: nothing
    starts for so long after a 429 that names no time; doubled with each one that follows. `patience`: a provider that
    asks to wait longer is not waited for, and holds nobody back for longer either.

    `window`: what `requests_per_minute` and `tokens_per_minute` are counted over. `least_rate`: requests in a window
    that a limit learned from 429s leaves. `failures`: calls that fail in a row before the provider is left alone;
    `rest`: until one call is let through to see.

    `first_look`, `longest_look`: between two looks at a tuning job, which grow from the first to the longest.

    Raises InputError where one is not a number above 0.
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
            if not (value > 0 and math.isfinite(value)):
                raise InputError(_message(field.name, whole))


USUAL = Policy()


def _message(name: str, whole: bool) -> str:
    return f"policy: {name} must be a {'whole ' if whole else ''}number above 0"
