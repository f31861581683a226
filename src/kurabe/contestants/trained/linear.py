"""Linear models on features: ridge regression for numbers, logistic regression for labels."""

import warnings
from typing import Any, ClassVar

import numpy as np
import polars as pl
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.multiclass import OneVsRestClassifier

from kurabe.contestants.encoding import ColumnEncoder
from kurabe.contestants.features import Columns, Dense, Embeddings, Features, NGrams, Scaled, TextStatistics
from kurabe.contestants.trained.learner import Learner, Log, Settings, View, expand
from kurabe.models.embeddings import DEFAULT
from kurabe.tasks.spec import Kind

ALPHAS = tuple(float(alpha) for alpha in np.geomspace(0.01, 1000, 21))
CS = (1.0, 10.0, 100.0)
COLUMN_CS = (0.01, 0.1, 1.0, 10.0)  # scaled columns are larger than shares of n-grams
LEAVE_ONE_OUT_ROWS = 1_000  # the eigendecomposition behind it takes the cube of the rows


class Linear(Learner):
    """A linear model of features with a squared penalty.

    Parameters
    ----------
    alpha
        The penalty of ridge regression. None: the best one by leave-one-out, on at most 1,000 rows.
    C
        The inverse of the penalty of logistic regression. None: the best one on the validation part.
    """

    alpha: float | None = None
    C: float | None = None
    alphas: ClassVar[tuple[float, ...]] = ALPHAS
    Cs: ClassVar[tuple[float, ...]] = CS

    def _learn(self, F: Any, t: np.ndarray, settings: Settings) -> Any:
        if self.kind_ == "label":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits change no label
                return self._logistic(settings.get("C", self.C or (1.0 if self.view_ == "columns" else 10.0))).fit(F, t)
        alpha = self.alpha
        if alpha is None:
            rows = np.arange(len(t))
            if len(t) > LEAVE_ONE_OUT_ROWS:
                rows = np.sort(np.random.default_rng(self.random_state).permutation(len(t))[:LEAVE_ONE_OUT_ROWS])
            alpha = float(RidgeCV(self.alphas).fit(F[rows], t[rows]).alpha_) if len(t) > 2 else 1.0
        return Ridge(alpha, random_state=self.random_state).fit(F, t)

    def _logistic(self, C: float) -> Any:
        return OneVsRestClassifier(
            LogisticRegression(C=C, solver="liblinear", max_iter=200, random_state=self.random_state)
        )

    def _apply(self, model: Any, F: Any) -> np.ndarray:
        if self.kind_ == "label":
            return expand(model.predict_proba(F), model.classes_, len(self.classes_))
        return np.asarray(model.predict(F))

    def _search(self, F: Any, t: np.ndarray, held_F: Any, held_t: np.ndarray) -> tuple[Settings, np.ndarray]:
        if self.kind_ != "label" or self.C is not None:
            return super()._search(F, t, held_F, held_t)
        found = []
        for C in self.Cs:
            probabilities = self._apply(self._learn(F, t, {"C": C}), held_F)
            truth = np.maximum(probabilities[np.arange(len(held_t)), held_t], 1e-9)
            found.append((float(-np.log(truth).mean()), C, probabilities))
        _, C, probabilities = min(found, key=lambda one: one[:2])
        return {"C": C}, probabilities

    @property
    def searches(self) -> bool:  # type: ignore[override]
        return self.kind_ == "label" and self.C is None


class LinearFeatures(Linear):
    """A linear model of simple features: lengths, shares of digits, the numbers in the text, and the table's columns.

    If no column holds prose, it learns from the columns alone.
    """

    revision: ClassVar[int] = 2
    takes_columns: ClassVar[bool] = True

    def __init__(
        self,
        alpha: float | None = None,
        C: float | None = None,
        log: Log = "auto",
        kind: Kind | None = None,
        metric: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.alpha = alpha
        self.C = C
        self.log = log
        self.kind = kind
        self.metric = metric
        self.random_state = random_state

    def _features(self) -> Features:
        if self.view_ == "columns":
            return Scaled(ColumnEncoder(text="drop", one_hot=True))
        return Scaled(Dense([TextStatistics(), Columns(one_hot=True)]))

    def views(self, X: pl.DataFrame) -> tuple[View, ...]:
        """What of a table is to be learned from: simple features of a text are few, so that columns never lack room."""
        found = super().views(X)
        return found if found == ("columns",) else ("all",)

    def _logistic(self, C: float) -> Any:
        if self.view_ != "columns":
            return super()._logistic(C)
        # One model of all labels at once: a model for each took two minutes with 153 labels.
        return LogisticRegression(C=C, tol=1e-3, max_iter=200, random_state=self.random_state)

    @property
    def Cs(self) -> tuple[float, ...]:  # type: ignore[override]
        return COLUMN_CS if self.view_ == "columns" else CS


class BagOfWords(Linear):
    """A linear model of which words the text contains, each 0 or 1.

    Parameters
    ----------
    words
        How many words; the most frequent ones are taken.
    min_df
        How many training rows a word must occur in. None: 2, or 1 below 300 rows.
    """

    revision: ClassVar[int] = 2

    def __init__(
        self,
        words: int = 2_000,
        min_df: int | None = None,
        alpha: float | None = None,
        C: float | None = None,
        log: Log = "auto",
        kind: Kind | None = None,
        metric: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.words = words
        self.min_df = min_df
        self.alpha = alpha
        self.C = C
        self.log = log
        self.kind = kind
        self.metric = metric
        self.random_state = random_state

    Cs = (0.1, 1.0, 10.0)

    def _features(self) -> Features:
        return NGrams(("word1",), self.min_df, self.words, binary=True)


class TfidfRidge(Linear):
    """Ridge regression on TF-IDF of words (1 and 2) and characters (2 to 5).

    Parameters
    ----------
    min_df
        How many training rows an n-gram must occur in. None: 2, or 1 below 300 rows.
    max_features
        The most n-grams of words, and the most of characters.
    """

    revision: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = frozenset({"number"})

    def __init__(
        self,
        alpha: float | None = None,
        min_df: int | None = None,
        max_features: int = 100_000,
        log: Log = "auto",
        kind: Kind | None = None,
        metric: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.alpha = alpha
        self.min_df = min_df
        self.max_features = max_features
        self.log = log
        self.kind = kind
        self.metric = metric
        self.random_state = random_state

    def _features(self) -> Features:
        return NGrams(("word", "char"), self.min_df, self.max_features)


class TfidfLogistic(Linear):
    """Logistic regression on TF-IDF of words (1 and 2) and characters (2 to 5).

    Parameters
    ----------
    min_df
        How many training rows an n-gram must occur in. None: 2, or 1 below 300 rows.
    max_features
        The most n-grams of words, and the most of characters.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"label"})

    def __init__(
        self,
        C: float | None = None,
        min_df: int | None = None,
        max_features: int = 100_000,
        kind: Kind | None = None,
        metric: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.C = C
        self.min_df = min_df
        self.max_features = max_features
        self.kind = kind
        self.metric = metric
        self.random_state = random_state

    def _features(self) -> Features:
        return NGrams(("word", "char"), self.min_df, self.max_features)


class EmbeddingsRidge(Linear):
    """Ridge or logistic regression on embeddings of the text.

    Parameters
    ----------
    embeddings
        The reference of the embedding model. The default averages static word embeddings over the text.
    """

    revision: ClassVar[int] = 2

    def __init__(
        self,
        alpha: float | None = None,
        C: float | None = None,
        embeddings: str = DEFAULT,
        log: Log = "auto",
        kind: Kind | None = None,
        metric: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.alpha = alpha
        self.C = C
        self.embeddings = embeddings
        self.log = log
        self.kind = kind
        self.metric = metric
        self.random_state = random_state

    def _features(self) -> Features:
        return Scaled(Embeddings(model=self.embeddings))
