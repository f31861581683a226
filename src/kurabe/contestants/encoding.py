"""Tables for estimators that take numbers alone: what `kurabe.columns()` makes of the columns of a table."""

import re
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from kurabe.contestants.alias import saved
from kurabe.contestants.features import Topics, as_numbers
from kurabe.contestants.frames import TEXT, as_frame, require
from kurabe.tasks.prose import prose_columns
from kurabe.tasks.readings import read_as, reading

ONE_HOT = 100  # values of a column at most that have a column each, the most frequent ones
_ID = re.compile(r"(?i:(^|[_\s.-])(id|ids|uuid|guid|rownames))$|[a-z]I[Dd]$")
_WHEN = ("year", "month", "day", "weekday", "day of year", "hour", "age")


@saved
class ColumnEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Encode the columns of a table as numbers, for estimators that take nothing else.

    Numbers stay as they are. Text that holds amounts (`$4,733.00`, `12 GB`) or dates is read as such. Categories become
    whole numbers in alphabetical order. Dates become year, month, day, weekday, day of the year, hour (where there is
    one) and age in days before the latest date of the training part.
    Prose becomes a few topics. Identifiers, texts of which hardly one stands twice, and empty columns are left out.
    A frame's columns are found by name: their order does not matter, and columns not seen in training are ignored.

    Parameters
    ----------
    text : {"topics", "drop"}
        What becomes of columns of prose: the leading directions of their TF-IDF (latent semantic analysis), or nothing.
    topics : int
        How many directions of each column of prose.
    one_hot : bool
        Make each category a column of 0 and 1 instead of a whole number, as linear models need it.
    fill : bool
        Fill missing numbers with the median of the training part, and categories that are missing or were not seen in
        training with -1. Without it both are NaN.
    random_state : int
        The seed of the topics.

    Attributes
    ----------
    numbers_ : dict of str to float
        The columns taken as numbers, with their medians.
    categories_ : dict of str to list of str
        The columns taken as categories, with their values in the order of their codes.
    dates_ : dict of str to (list of str, float)
        The columns taken as dates, with the parts that are used and the latest date, in days since 1970.
    topics_ : dict of str to Topics
        The columns taken as prose.
    reads_ : dict of str to str
        The columns of text that hold amounts or dates, with how they are written.
    left_out_ : dict of str to str
        The columns left out, and why.
    n_features_in_ : int
        How many columns the table had.

    Examples
    --------
    >>> import polars as pl
    >>> table = pl.DataFrame({"size": [3.0, 5.0, None], "colour": ["red", "blue", "red"]})
    >>> ColumnEncoder(fill=True).fit_transform(table)
    array([[3., 1.],
           [5., 0.],
           [4., 1.]])
    """

    def __init__(
        self,
        text: Literal["topics", "drop"] = "topics",
        topics: int = 20,
        one_hot: bool = False,
        fill: bool = False,
        random_state: int = 0,
    ) -> None:
        self.text = text
        self.topics = topics
        self.one_hot = one_hot
        self.fill = fill
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn which columns there are and how each is encoded.

        Parameters
        ----------
        X : polars or pandas frame, or array of shape (n, d)
            The table.
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `X` is not a table, or none of its columns can be used.
        """
        self._learn(self._table(X, reset=True))
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """`fit`, then `transform` of the same table, which is read only once."""
        table = self._table(X, reset=True)
        self._learn(table)
        return self._encode(table)

    def transform(self, X: Any) -> np.ndarray:
        """Encode a table by what was learned.

        Parameters
        ----------
        X : polars or pandas frame, or array of shape (n, d)
            A table with the columns of the training part.

        Returns
        -------
        array of shape (n, features), float64

        Raises
        ------
        ContestantError
            If a frame lacks a column that was learned.
        """
        check_is_fitted(self, "numbers_")
        return self._encode(self._table(X, reset=False))

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> np.ndarray:
        """The names of the encoded columns, shape (features,): `colour`, `sold month`, `review topic 1`."""
        check_is_fitted(self, "numbers_")
        given = {name: name for name in self.names_}
        if input_features is not None:
            if hasattr(self, "feature_names_in_") and list(input_features) != list(self.feature_names_in_):
                raise ValueError("input_features is not equal to feature_names_in_")
            if len(input_features) != len(self.names_):
                raise ValueError("input_features should have length equal to the number of features of the table")
            given = dict(zip(self.names_, input_features, strict=True))
        names = [given[name] for name in self.numbers_]
        for name, values in self.categories_.items():
            names += [f"{given[name]} {value}" for value in values] if self.one_hot else [given[name]]
        names += [f"{given[name]} {part}" for name, (parts, _) in self.dates_.items() for part in parts]
        for name, topics in self.topics_.items():
            names += [f"{given[name]} topic {place + 1}" for place in range(topics.width)]
        return np.array(names, dtype=object)

    def category_positions(self) -> list[int]:
        """The positions of the encoded columns that are codes of categories."""
        first = len(self.numbers_)
        return [] if self.one_hot else list(range(first, first + len(self.categories_)))

    # ------------------------------------------------------------------------------------------------------ learning

    def _table(self, X: Any, *, reset: bool) -> pl.DataFrame:
        """`X` as a frame whose texts that are numbers or dates have become such."""
        if not hasattr(X, "columns"):
            X = check_array(X, dtype=None, ensure_all_finite=False, estimator=self)
            validate_data(self, X, reset=reset, skip_check_array=True)
            values = X.tolist() if X.dtype == object else X
            return pl.DataFrame(values, schema=[f"x{place}" for place in range(X.shape[1])], orient="row", strict=False)
        names = list(map(str, X.columns))
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two columns are called {twice!r}; give each a name of its own")
        if reset:
            validate_data(self, X, skip_check_array=True)
            if not len(X):
                raise ValueError("there are 0 samples (rows) to learn from, while a minimum of 1 is required")
        return as_frame(X)

    def _learn(self, table: pl.DataFrame) -> None:
        self.names_ = table.columns
        self.numbers_: dict[str, float] = {}
        self.categories_: dict[str, list[str]] = {}
        self.dates_: dict[str, tuple[list[str], float]] = {}
        self.topics_: dict[str, Topics] = {}
        self.left_out_: dict[str, str] = {}
        self.reads_: dict[str, str] = {}
        prose = prose_columns(table)
        for name in table.columns:
            column = table[name]
            if name in prose:
                self._learn_prose(name, column)
            elif name == TEXT and table.width > 1 and column.dtype == pl.String:
                self.left_out_[name] = "it says what the other columns say"
            else:
                self._learn_column(name, column)
        if not (self.numbers_ or self.categories_ or self.dates_ or self.topics_):
            why = "; ".join(f"{name!r}: {reason}" for name, reason in self.left_out_.items())
            raise ValueError(f"no column can be used: {why}")

    def _learn_prose(self, name: str, column: pl.Series) -> None:
        if self.text == "drop":
            self.left_out_[name] = "it holds prose"
            return
        self.topics_[name] = Topics(self.topics, self.random_state)
        self.topics_[name].fit_transform(column.alias(TEXT).to_frame())

    def _learn_column(self, name: str, column: pl.Series) -> None:
        if column.dtype == pl.String:
            if how := reading(column):
                self.reads_[name] = how
            column = read_as(column, self.reads_.get(name))
        known = column.drop_nulls()
        repeats = known.n_unique() < len(known)
        if not len(known):
            self.left_out_[name] = "it is empty"
        elif not repeats and len(known) > 1 and _ID.search(name):
            self.left_out_[name] = "it numbers the rows"
        elif column.dtype in (pl.Date, pl.Datetime):
            self.dates_[name] = _parts(column)
        elif column.dtype.is_numeric() or column.dtype.is_temporal() or column.dtype == pl.Boolean:
            numbers = as_numbers(column)
            self.numbers_[name] = float(np.nanmedian(numbers)) if np.isfinite(numbers).any() else 0.0
        elif column.dtype in (pl.String, pl.Categorical, pl.Enum):
            values = known.cast(pl.String)
            if 2 * values.n_unique() > len(values) > 10:
                self.left_out_[name] = "hardly a value stands in it twice"
            else:
                counts = values.alias("value").value_counts().sort("count", "value", descending=[True, False])
                self.categories_[name] = sorted(counts["value"][: ONE_HOT if self.one_hot else None].to_list())
        else:
            self.left_out_[name] = f"it holds {column.dtype}"

    # ------------------------------------------------------------------------------------------------------ encoding

    def _encode(self, table: pl.DataFrame) -> np.ndarray:
        require(table, [*self.numbers_, *self.categories_, *self.dates_, *self.topics_])
        columns = []
        for name, median in self.numbers_.items():
            numbers = as_numbers(read_as(table[name], self.reads_.get(name)))
            columns.append(np.where(np.isnan(numbers), median, numbers) if self.fill else numbers)
        for name, values in self.categories_.items():
            codes = _codes(table[name], values)
            if self.one_hot:
                columns += [(codes == place).astype(np.float64) for place in range(len(values))]
            else:
                columns.append(np.where(np.isnan(codes), -1.0, codes) if self.fill else codes)
        for name, (parts, latest) in self.dates_.items():
            dates = _dates(read_as(table[name], self.reads_.get(name)), latest)
            columns += [np.nan_to_num(dates[part], nan=-1.0) if self.fill else dates[part] for part in parts]
        matrix = np.stack(columns, axis=1) if columns else np.zeros((table.height, 0))
        topics = [fitted.transform(table[name].alias(TEXT).to_frame()) for name, fitted in self.topics_.items()]
        return np.hstack([matrix, *topics])


def columns(
    text: Literal["topics", "drop"] = "topics",
    *,
    topics: int = 20,
    one_hot: bool = False,
    fill: bool = False,
    random_state: int = 0,
) -> ColumnEncoder:
    """A transformer for scikit-learn's pipelines that encodes the columns of a table as numbers.

    Parameters
    ----------
    text, topics, one_hot, fill, random_state
        Those of the transformer that is returned.

    Returns
    -------
    ColumnEncoder
        Not fitted.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> pipeline = make_pipeline(columns(one_hot=True, fill=True), Ridge())
    """
    return ColumnEncoder(text, topics, one_hot, fill, random_state)


def _codes(column: pl.Series, values: list[str]) -> np.ndarray:
    """The position of each value among `values`, (n,) float64; NaN where it is missing or not among them."""
    texts = pl.Series([None if value is None else str(value) for value in column.to_list()], dtype=pl.String)
    known = pl.Series(values, dtype=pl.String)
    codes = texts.replace_strict(known, pl.Series(np.arange(len(values), dtype=np.float64)), default=None)
    return codes.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _parts(column: pl.Series) -> tuple[list[str], float]:
    """Which parts of a column of dates tell rows apart, and the latest date in days since 1970."""
    latest = float(np.nanmax(as_numbers(column)))
    dates = _dates(column, latest)
    parts = [part for part in _WHEN if len(np.unique(dates[part][~np.isnan(dates[part])])) > 1]
    return parts or ["age"], latest


def _dates(column: pl.Series, latest: float) -> dict[str, np.ndarray]:
    """The parts of dates, each (n,) float64 with NaN for none."""
    if column.dtype not in (pl.Date, pl.Datetime):
        column = pl.Series([None] * len(column), dtype=pl.Datetime("us"))
    moments = column.cast(pl.Datetime("us")).dt
    found = {
        "year": moments.year(),
        "month": moments.month(),
        "day": moments.day(),
        "weekday": moments.weekday(),
        "day of year": moments.ordinal_day(),
        "hour": moments.hour(),
    }
    parts = {name: part.cast(pl.Float64).fill_null(float("nan")).to_numpy() for name, part in found.items()}
    return parts | {"age": latest - as_numbers(column)}
