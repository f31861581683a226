"""Estimators that are not kurabe's own: what each is given of a contest's table."""

from typing import Any, Literal

import polars as pl
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

from kurabe.contestants.alias import saved
from kurabe.contestants.base import Contestant
from kurabe.contestants.encoding import ColumnEncoder
from kurabe.contestants.frames import as_frame, texts

NUMERIC = frozenset({"sklearn", "lightgbm", "xgboost", "catboost"})  # their estimators take numbers, and say so if not
Reads = Literal["table", "texts", "numbers"]


@saved
class Texts(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """The rendered input of each row, a list of str, for scikit-learn's text vectorizers."""

    def fit(self, X: Any, y: Any = None) -> "Texts":
        self.fitted_ = True
        return self

    def transform(self, X: Any) -> list[str]:
        return texts(as_frame(X))


def fit_plain(estimator: Any, X: pl.DataFrame, y: Any) -> Any:
    """Fit an estimator, which may not be kurabe's own, on a contest's table; return what then predicts.

    An estimator of scikit-learn and its kin that takes nothing but numbers is put behind an encoder of the columns, one
    that takes texts behind a step that hands it the rendered input. Any other gets the table as it is, and the encoded
    columns only if it cannot turn a text into a number.
    """
    reads = "table" if isinstance(estimator, Contestant) else what_it_reads(estimator)
    if reads == "texts":
        return Pipeline([("texts", Texts()), ("estimator", estimator)]).fit(X, y)
    if reads == "table":
        try:
            return estimator.fit(X, y)
        except ValueError as error:
            if "could not convert string to float" not in str(error):
                raise
    missing = takes_missing(estimator)
    # Trees take codes and gaps as they are; what cannot take gaps is mostly linear or goes by distances.
    encoder = ColumnEncoder(one_hot=not missing, fill=not missing)
    return Pipeline([("columns", encoder), ("estimator", estimator)]).fit(X, y)


def wrapped(estimator: Any) -> Any:
    """The estimator that `fit_plain` was given, of what it returned."""
    if isinstance(estimator, Pipeline) and isinstance(estimator.steps[0][1], ColumnEncoder | Texts):
        return estimator.steps[-1][1]
    return estimator


def what_it_reads(estimator: Any) -> Reads:
    """What an estimator takes: the table as it is, a list of texts, or a matrix of numbers."""
    if isinstance(estimator, ColumnTransformer | FunctionTransformer | ColumnEncoder | Texts):
        return "table"
    if (inner := _first_inside(estimator)) is not None:
        return what_it_reads(inner)
    if not any(
        cls.__module__.partition(".")[0] in NUMERIC and cls.__module__ not in ("sklearn.base", "sklearn.utils")
        for cls in type(estimator).__mro__
        if hasattr(cls, "fit")
    ):
        return "table"
    tags = _input_tags(estimator)
    if tags is None:
        return "numbers"
    if tags.string and not tags.two_d_array:
        return "texts"
    # An encoder of categories reads the columns by itself. CatBoost says that it does, but wants to be told which.
    encodes = hasattr(estimator, "transform") and (tags.string or tags.categorical)
    return "table" if encodes else "numbers"


def takes_missing(estimator: Any) -> bool:
    """Whether every step of an estimator takes NaN, or one fills the gaps before the first that does not."""
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            if type(step).__module__.startswith("sklearn.impute"):
                return True
            if step not in (None, "passthrough") and not takes_missing(step):
                return False
        return True
    tags = _input_tags(estimator)
    return tags is not None and bool(tags.allow_nan)


def _first_inside(estimator: Any) -> Any:
    """The first estimator inside a pipeline, search or ensemble that sees the table, or None."""
    if isinstance(estimator, Pipeline):
        inside = [step for _, step in estimator.steps]
    elif isinstance(estimator, FeatureUnion):
        inside = [step for _, step in estimator.transformer_list]
    elif isinstance(getattr(estimator, "estimators", None), list):
        inside = [member for _, member in estimator.estimators]
    else:
        inside = [getattr(estimator, name, None) for name in ("estimator", "regressor", "classifier")]
    return next((one for one in inside if hasattr(one, "fit")), None)


def _input_tags(estimator: Any) -> Any:
    try:
        return get_tags(estimator).input_tags
    except (AttributeError, TypeError, ValueError):  # written for another version of scikit-learn, or for none
        return None
