"""What a contest asks of a contestant: scikit-learn's `fit` and `predict`, and a few questions with default answers, so
that it never has to know what class a contestant is. `kurabe.contestants.contract` asks them of any other estimator.

`X` is a polars DataFrame with the task's input columns and `input`, the rendered text (pandas is accepted and turned
into polars). `y` is a float64 array for kind `number` and an object array of str for `label` and `text`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import msgspec
import numpy as np
import polars as pl
from sklearn.base import BaseEstimator

from kurabe.contestants.open_models import OpenModels
from kurabe.contestants.shared import Shared
from kurabe.errors import ContestantError
from kurabe.models.hosted.transport.budget import Budget
from kurabe.tasks.spec import Kind, Sample

PIECES = 20
Validation = tuple[pl.DataFrame, np.ndarray]


class Prediction(msgspec.Struct, frozen=True):
    """One answer.

    Parameters
    ----------
    row : int
        The row's position in the test part, from 0.
    value : float, str or None
        The answer; None if it could not be read.
    raw : str, optional
        What the model or person said.
    usd : float or None
        What it cost, in dollars; None if unknown.
    """

    row: int
    value: float | str | None
    raw: str | None = None
    usd: float | None = 0.0


class Offer(NamedTuple):
    """What a `fit` would send and pay for, in words, and the key by which `confirmed` accepts it."""

    key: str
    text: str


class Needs(NamedTuple):
    """What a contestant runs on, beside the models that it names.

    Parameters
    ----------
    cores : int
        Processor cores.
    memory : int
        Bytes of memory.
    gpu : bool
        Whether it can't do without a GPU.
    """

    cores: int = 1
    memory: int = 0
    gpu: bool = False


class Bill(NamedTuple):
    """What a `fit` is paid for by itself, as a job at a provider is.

    `usd`: None where it is unknown. `begun`: says whether it was begun, and so is paid or will be.
    """

    usd: float | None
    begun: Callable[[], bool]


class About(NamedTuple):
    """What a contestant is told of its task before it is fitted.

    `template`: of the rendered input. `X`: the inputs that it learns from, and `learned` a digest of them with their
    targets. `tested`: gives a digest of the test part's inputs.
    """

    label: str
    kind: Kind
    target: str
    template: str
    folder: Path
    X: pl.DataFrame
    learned: bytes
    tested: Callable[[], bytes]


class Keys(NamedTuple):
    """Digests that a contestant's answers are kept by (`answers`), and those that what it learns on the way is kept by
    (`learned`); of each, today's comes first, and then those of earlier versions of kurabe."""

    answers: tuple[bytes, ...]
    learned: tuple[bytes, ...]


def _silent(said: str) -> None:
    """Show nothing."""


def _uncounted(usd: float) -> None:
    pass


def _never() -> bool:
    """False: it may go on."""
    return False


def _untrained(estimator: Any) -> Any:
    """None: nothing was fitted before."""
    return None


@dataclass(frozen=True)
class Learning:
    """What goes with a `fit` in a contest.

    Parameters
    ----------
    tell
        Told, in a few words, how far a `fit` is that takes long.
    usd
        What it may spend, in dollars. None: as much as it takes.
    budget
        The contest's dollars, which calls have to ask; others may ask it at the same time. None: there is no limit.
    paid
        Told the dollars that trials have cost, once these are kept: see `Contestant.trials_spent`.
    confirmed
        The keys of the offers that the user has accepted, besides what settings accept.
    shared
        What the contestants of the task compute alike.
    trained
        Gives an estimator with these settings that the contest has fitted before, or None.
    stop
        Whether nothing more is to be asked; `tell` raises then.
    """

    tell: Callable[[str], None] = _silent
    usd: float | None = None
    budget: Budget | None = None
    paid: Callable[[float], None] = _uncounted
    confirmed: frozenset[str] = frozenset()
    shared: Shared = field(default_factory=Shared)
    trained: Callable[[Any], Any] = _untrained
    stop: Callable[[], bool] = _never

    def after(self, usd: float | None) -> Self:
        """The same, once so many dollars more are spent."""
        return self if self.usd is None else replace(self, usd=self.usd - (usd or 0.0))


ALONE = Learning()
"""A `fit` outside of a contest."""


@dataclass(frozen=True)
class Answering:
    """What goes with the rows that a contestant answers in a contest.

    `positions`: which rows they are. `budget`: of the dollars that calls may cost. `stop`: whether no more is to be
    asked. `models`: the open models of the contest. `pieces`: in how many parts what answers all at once is asked, so
    that each is kept as it comes.
    """

    kind: Kind
    positions: Sequence[int]
    budget: Budget | None
    stop: Callable[[], bool]
    models: OpenModels
    pieces: int = PIECES


class Contestant(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """The base of kurabe's own contestants.

    A subclass sets `kinds` and takes every setting in `__init__`, with a default. A parameter called `kind`, `metric`,
    `random_state`, `prompt` or `target` gets the task's value unless the user sets it.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"number", "label"})
    revision: ClassVar[int] = 1
    """Raised when the same settings answer otherwise than before, as with another default: then answers are asked for
    again."""
    no_effect: ClassVar[frozenset[str]] = frozenset()
    """Settings that no answer depends on, such as what may be paid: answers made under other values of them hold.
    `options.policy` is the key `policy` of the mapping `options`."""
    keeps: ClassVar[str | None] = None
    """The folder in `.kurabe` in which it keeps what it learns on the way, so that a `fit` that was killed goes on."""
    resumes: ClassVar[bool] = False
    """Whether a `fit` that was broken off goes on where it was."""
    asks: ClassVar[bool] = False
    """Whether it asks a language model, row by row."""
    trains: ClassVar[bool] = True
    """Whether it learns from rows. A sweep tries the settings of one that doesn't on more and more validation rows, in
    place of training rows."""
    billed: ClassVar[bool] = False
    """Whether each `fit` is paid for by itself; `bill` says how much."""
    by_hand: ClassVar[bool] = False
    """Whether a person answers."""

    # ---------------------------------------------------------------------------------------- before a contest begins

    def skipped_reason(self) -> str | None:
        """Why it can't run here, or None where it can."""
        return None

    def needs(self) -> Needs:
        """What it runs on. A contest skips it where that is not there, and keeps it apart where it takes several
        cores."""
        return Needs()

    def models(self) -> tuple[str, ...]:
        """The references of the models that it asks."""
        return ()

    def shown_model(self) -> str | None:
        """The reference of its one model, for the board."""
        return None

    @property
    def hosted(self) -> bool:
        """Whether it asks models whose calls are paid for though nobody waits for them."""
        return False

    def swept(self) -> str | None:
        """The name of the contestant whose settings it chooses; None where it is no sweep."""
        return None

    def unfitted(self, kind: Kind) -> Any:
        """The estimator that learns in the end, another one where this one chooses its settings."""
        return self

    def learns(self) -> float:
        """How many times it learns from the whole training part, at most."""
        return 1.0

    def may_cost(self) -> bool:
        """Whether its answers may cost money."""
        return hasattr(self, "iter_predict")

    def sample(self, rows: Sample) -> int | None:
        """How many test rows it is asked, where language models are asked `rows`; None: all."""
        return None

    def depends(self, about: About) -> Iterable[tuple[bytes | str, ...]]:
        """What its answers depend on beside its settings and what it learns from, such as the files of a model."""
        return ()

    def own_keys(self, about: About) -> Keys | None:
        """What it is known by where that is not its name, revision, settings and what `depends` gives."""
        return None

    def placed(self, about: About, kept: Path | None) -> Self:
        """A copy that finds its files from anywhere and keeps in `kept` what it learns on the way."""
        return self

    def offer(self, X: pl.DataFrame, y: np.ndarray, context: Learning = ALONE) -> Offer | None:
        """What the user has to accept before it is fitted on these rows; None where there is nothing to ask."""
        return None

    def trials_spent(self) -> float:
        """Dollars that its trials have cost, in all runs, by what it keeps of them."""
        return 0.0

    def check(self) -> None:
        """Raise ContestantError where a setting is not valid, or holds what must not be kept."""

    # ------------------------------------------------------------------------------------------- as a trial of a sweep

    def not_swept(self, over: Mapping[str, Any]) -> str | None:
        """Why these settings can't be tried one after the other, with what to do; None where they can."""
        return None

    def tried(self) -> Self:
        """A copy without what is done for the report alone."""
        return self

    def keeping(self, kept: Path) -> Self:
        """A copy that keeps in `kept` what it learns on the way."""
        return self

    def bill(self, X: pl.DataFrame, y: np.ndarray) -> Bill | None:
        """What a `fit` on these rows is paid for by itself; None where it is not `billed`."""
        return None

    # ---------------------------------------------------------------------------------------------------- in a contest

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        """Learn from the training part. It never sees the test part.

        Parameters
        ----------
        X : DataFrame, n rows
            The input columns, and `input`, the rendered text.
        y : array, shape (n,)
            The targets.
        validation : (DataFrame, array), optional
            The validation part, for choosing settings. None: a share of the training part is held out if there is
            something to choose.

        Returns
        -------
        Contestant
            Itself.
        """
        raise NotImplementedError(type(self).__name__)

    def fit_with(self, X: pl.DataFrame, y: np.ndarray, validation: Validation | None, context: Learning) -> Self:
        """`fit` in a contest, which says what it may spend and wants to know how far it is."""
        return self.fit(X, y, validation=validation)

    def predict(self, X: Any) -> np.ndarray:
        """Answer each row.

        Parameters
        ----------
        X : DataFrame, n rows
            As for `fit`.

        Returns
        -------
        ndarray, shape (n,)
            float64 for kind `number`, else str as objects; never NaN or None.
        """
        raise NotImplementedError(type(self).__name__)

    def tuned_here(self) -> tuple[str, str] | None:
        """The references of the model that was tuned on this machine and of what it was made of; None where it was
        not."""
        return None

    def answering(self) -> Any:
        """The fitted estimator that answers, another one where this one has chosen among several."""
        return self

    def answer(self, X: pl.DataFrame, context: Answering) -> Iterator[list[Prediction]]:
        """Answers in lists of what comes together, in any order; nothing is begun once `context.stop()` is true.

        `Prediction.row` is the position in X.
        """
        return answers_of(self, X, context)


@runtime_checkable
class AnswersRowByRow(Protocol):
    """A contestant whose predictions come one at a time, so that each is journaled as it comes."""

    def iter_predict(self, X: pl.DataFrame) -> Iterator[Prediction]:
        """Yield a Prediction a row, in any order; `Prediction.row` is the position in X."""


def answers_of(estimator: Any, X: pl.DataFrame, context: Answering) -> Iterator[list[Prediction]]:
    """What `Contestant.answer` gives, of any fitted estimator: one by one where it has `iter_predict`.

    Raises ContestantError where `predict` doesn't give one answer a row.
    """
    if isinstance(estimator, AnswersRowByRow):
        for answer in estimator.iter_predict(X):
            yield [answer]
            if context.stop():
                return
        return
    size = max(1, -(-X.height // context.pieces))
    for start in range(0, X.height, size):
        if context.stop():
            return
        piece = X[start : start + size]
        values = np.asarray(estimator.predict(piece))
        if values.shape != (piece.height,):
            raise ContestantError(
                f"predict gave shape {values.shape} for {piece.height} rows; wanted ({piece.height},)"
            )
        yield [Prediction(start + row, plain_value(value, context.kind)) for row, value in enumerate(values)]


def plain_value(value: Any, kind: Kind) -> float | str | None:
    """An answer as it is kept; not a number counts as unread. Raises ContestantError where none is possible.

    >>> plain_value(np.float32(1.5), "number"), plain_value(np.nan, "number"), plain_value(3, "label")
    (1.5, None, '3')
    """
    if value is None:
        return None
    if kind != "number":
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ContestantError(f"answered {value!r:.100}, and a number is expected") from None
    return number if np.isfinite(number) else None


def effective(params: Mapping[str, Any], no_effect: Iterable[str]) -> dict[str, Any]:
    """The settings that answers depend on. A mapping that has nothing else left counts as None.

    >>> effective({"rows": 20, "options": {"policy": {}, "price": 1}}, {"rows", "options.policy"})
    {'options': {'price': 1}}
    """
    left = dict(params)
    for path in no_effect:
        name, _, key = path.partition(".")
        if not key:
            left.pop(name, None)
        elif isinstance(given := left.get(name), Mapping) and key in given:
            left[name] = {other: value for other, value in given.items() if other != key} or None
    return left


def collect(answers: Iterable[Prediction], rows: int, kind: Kind, fallback: float | str) -> np.ndarray:
    """What `predict` gives of a contestant that answers row by row, shape (rows,): the fallback where a row has no
    answer or one that could not be read."""
    values = np.full(rows, fallback, dtype=np.float64 if kind == "number" else object)
    for answer in answers:
        if answer.value is not None:
            values[answer.row] = answer.value
    return values
