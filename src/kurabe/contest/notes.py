"""What contestants noted while they learned, as it is read: a journal or checkpoint may be a stranger's.

Reports and budgets rely on the form of the notes below. One of another form is left out, as if it had not been noted.
"""

from collections.abc import Mapping
from itertools import chain, pairwise
from typing import Annotated, Any, Final, Literal

import msgspec

from kurabe.tasks.metrics import metric_named
from kurabe.tasks.target import LARGEST
from kurabe.tuning.general import General

UNFINISHED: Final = "unfinished_seconds"
"""The note that says after how long learning was broken off that was not quick enough."""
RACE: Final = "race"
"""The note of how many rows a race did not ask a contestant."""
MAX_QUESTIONS: Final = 10_000
MAX_NATS: Final = 500.0  # of a token: its exponential is a number
MAX_TEXTS: Final = 20  # all signs of their differences are tried

Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]


class _Tuning(msgspec.Struct):
    losses: list[float] = []
    scores: list[tuple[Count, float]] = []
    usd: Amount | None = None
    model: str = ""


class _Race(msgspec.Struct):
    left: Count


class _Forgetting(msgspec.Struct):
    before: General
    after: General
    usd: Amount | None = None

    def __post_init__(self) -> None:
        before, after = self.before, self.after
        if not 0 < len(before.right) == len(after.right) <= MAX_QUESTIONS:
            raise ValueError("not as many questions")
        if not len(before.nats) == len(after.nats) <= MAX_TEXTS:
            raise ValueError("not as many texts")
        if not all(0 <= nats < MAX_NATS for nats in (*before.nats, *after.nats)):
            raise ValueError("no log-probabilities of tokens")


class _Trial(msgspec.Struct):
    settings: dict[str, Any]
    state: Literal["done", "pruned", "failed", "stopped"]
    rows: list[Count]
    checked: list[Count]
    scores: list[float]
    reason: str | None

    def __post_init__(self) -> None:
        if not len(self.rows) == len(self.checked) == len(self.scores):
            raise ValueError("not as many of each")


class _Point(msgspec.Struct):
    rows: Count
    guesses: list[float | str]


class _Sweep(msgspec.Struct):
    contestant: str
    trials: list[_Trial]
    over: list[str] = []
    chosen: Count | None = None
    metric: str | None = None
    truth: list[float | str] = []
    curve: list[_Point] = []
    seconds: Amount = 0.0
    usd: Amount = 0.0
    stopped: str | None = None

    def __post_init__(self) -> None:
        if self.chosen is not None and self.chosen >= len(self.trials):
            raise ValueError("no such trial")
        if self.metric is not None and metric_named(self.metric) is None:
            raise ValueError("no such metric")
        answers = [self.truth, *(point.guesses for point in self.curve)]
        if self.curve and (self.metric is None or not self.truth):
            raise ValueError("a curve of nothing")
        if any(len(one) != len(other) or _kinds(one) != _kinds(other) for one, other in pairwise(answers)):
            raise ValueError("answers to other rows")
        if not all(isinstance(one, str) or abs(one) <= LARGEST for one in chain.from_iterable(answers)):
            raise ValueError("a number that cannot be scored")


def _kinds(answers: list[float | str]) -> set[bool]:
    return {isinstance(answer, str) for answer in answers}


_FORMS: Final[dict[str, Any]] = {
    "decode": str,
    "entry": Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")],
    "general": _Forgetting,
    "no_template": bool,
    "reason": str | None,
    "sweep": _Sweep,
    "tuning": _Tuning,
    "usd": Amount | None,
    RACE: _Race,
    UNFINISHED: Amount,
}


def readable(notes: Any) -> dict[str, Any]:
    """The notes without those of another form than kurabe writes.

    >>> readable({"usd": "a lot", "decode": "free", "of another": [1]})
    {'decode': 'free', 'of another': [1]}
    """
    return {key: value for key, value in notes.items() if _fits(key, value)} if isinstance(notes, Mapping) else {}


def _fits(key: str, value: Any) -> bool:
    if key not in _FORMS:
        return True
    try:
        msgspec.convert(value, _FORMS[key])
    except (msgspec.ValidationError, ValueError):
        return False
    return True
