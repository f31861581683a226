"""The questions that a contest asks of its contestants, for any estimator with `fit` and `predict`."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.base import clone

from kurabe.contestants.base import (
    ALONE,
    About,
    Answering,
    Contestant,
    Keys,
    Learning,
    Prediction,
    Validation,
    answers_of,
    plain_value,
)
from kurabe.contestants.frames import joined
from kurabe.contestants.keys import digest, estimator_digests
from kurabe.contestants.plain import fit_plain
from kurabe.errors import ContestantError
from kurabe.tasks.spec import Kind


class Plain(Contestant):
    """An estimator that knows nothing of contests, answering as `Contestant` does by default."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def skipped_reason(self) -> str | None:
        skipped = getattr(self.estimator, "skipped_reason", None)
        return skipped() if skipped else None

    def unfitted(self, kind: Kind) -> Any:
        return self.estimator

    def may_cost(self) -> bool:
        return hasattr(self.estimator, "iter_predict")

    def answering(self) -> Any:
        return self.estimator

    def answer(self, X: pl.DataFrame, context: Answering) -> Iterator[list[Prediction]]:
        return answers_of(self.estimator, X, context)


def contestant_of(estimator: Any) -> Contestant:
    """The estimator, which answers what a contest asks by itself or as `Plain`."""
    return estimator if isinstance(estimator, Contestant) else Plain(estimator)


def keys_of(estimator: Any, about: About) -> Keys:
    """What the answers of an estimator that is not fitted yet are kept by."""
    contestant = contestant_of(estimator)
    own = contestant.own_keys(about)
    if own is not None:
        return own
    keys = [digest(known, about.learned) for known in estimator_digests(estimator)]
    for part in contestant.depends(about):
        keys = [digest(key, *part) for key in keys]
    return Keys(tuple(keys), tuple(keys))


def placed(estimator: Any, about: About, kept: Path | None) -> Any:
    """The estimator as it can be fitted anywhere: see `Contestant.placed`."""
    return estimator.placed(about, kept) if isinstance(estimator, Contestant) else estimator


def as_kept(answer: Prediction, kind: Kind, rows: int) -> Prediction:
    """An answer of anybody's contestant as it can be kept and paid for, to one of so many rows.

    Raises ContestantError where it can't.
    """
    if not 0 <= answer.row < rows:
        raise ContestantError(f"answered the row {answer.row!r} of {rows:,}, counted from 0")
    usd = answer.usd
    if usd is not None and usd < 0:
        raise ContestantError(f"said that an answer cost {usd!r} dollars")
    return Prediction(
        int(answer.row),
        plain_value(answer.value, kind),
        None if answer.raw is None else str(answer.raw),
        None if usd is None or not math.isfinite(usd) else float(usd),
    )


def fitted(
    estimator: Any, X: pl.DataFrame, y: np.ndarray, validation: Validation | None, context: Learning = ALONE
) -> Any:
    """A fresh copy, fitted as a contest does it.

    kurabe's own contestants are given the validation part to choose by; anyone else's estimator learns from both, from
    encoded columns where it takes numbers alone.
    """
    fresh = clone(estimator) if hasattr(estimator, "get_params") else copy.deepcopy(estimator)
    if isinstance(fresh, Contestant):
        return fresh.fit_with(X, y, validation, context)
    return fit_plain(fresh, *joined(X, y, validation))
