"""The metrics a task can be scored by.

Every metric but one is a smooth function of the mean over rows of a few numbers a row: the mean absolute error of one
number, macro-F1 of the counts of each label, R² of three moments. So a metric is two functions, `statistics` (a row's
numbers) and `finish` (from their mean to the score), and any resample of the rows is scored by a weighted mean of rows
already computed. The median absolute error is the exception, marked by `center`.

Names and definitions are scikit-learn's where it has them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy import sparse

from kurabe.errors import PluginError, TaskError, missing
from kurabe.plugins import plugin, plugin_names
from kurabe.tasks import text_metrics
from kurabe.tasks.spec import Kind

Statistics: TypeAlias = np.ndarray | sparse.csr_array


@dataclass(frozen=True)
class Metric:
    """How guesses are scored against the truth: the mean of numbers for each row, and a score from those means.

    Parameters
    ----------
    name, title : str
        What a task file and the board call it.
    kind : {"number", "label", "text"}
        The tasks that it scores.
    greater_is_better : bool
        Whether a greater score is better.
    unit : {"target", "share", "none"}
        The score's unit: the target's (dollars), a share from 0 to 1, or neither.
    statistics : callable
        `statistics(truth, guess)`: (n, k) numbers, dense or sparse. Both are (n,), float64 for kind `number`, else str
        as
        objects, without missing values.
    finish : callable
        `finish(means)`: (..., k) means to (...) scores; NaN where the score is not defined.
    center : {"mean", "median"}
        How rows are put together; `median` for the median absolute error alone.
    proportion : bool
        Whether the score is the share of rows with a property, which is a binomial proportion.
    gradient : callable, optional
        `gradient(means)`: (..., k) derivatives of `finish`. None: on the same rows, one score is better than another
        exactly
        if the mean of the first of the k numbers is lower, or for all is higher (the mean squared error for R²).
    """

    name: str
    title: str
    kind: Kind
    greater_is_better: bool
    unit: Literal["target", "share", "none"]
    statistics: Callable[[np.ndarray, np.ndarray], Statistics]
    finish: Callable[[np.ndarray], np.ndarray]
    center: Literal["mean", "median"] = "mean"
    proportion: bool = False
    gradient: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The lowest and highest score where there are both; None of errors, and of R², which has no lowest."""
        return (-1.0, 1.0) if self.name == "matthews" else (0.0, 1.0) if self.unit == "share" else None

    def score(self, truth: np.ndarray, guess: np.ndarray) -> float:
        """The score over all rows.

        Parameters
        ----------
        truth, guess : ndarray, shape (n,)
            What is right, and what was answered.

        Returns
        -------
        float
            NaN where it is not defined, as with no rows or R² of a constant truth.
        """
        if len(truth) == 0:
            return float("nan")
        rows = self.statistics(truth, guess)
        if self.center == "median":
            return float(self.finish(np.median(rows, axis=0)))
        return float(self.finish(np.asarray(rows.sum(axis=0)).reshape(-1) / len(truth)))

    def row_loss(self, truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
        """How wrong each row is.

        Parameters
        ----------
        truth, guess : ndarray, shape (n,)
            What is right, and what was answered.

        Returns
        -------
        ndarray, shape (n,)
            0 at best: the absolute error of a number, 0 or 1 of a label, 1 - score of a text.
        """
        if self.kind == "number":
            return np.asarray(np.abs(guess - truth))
        if self.kind == "label":
            return np.asarray(truth != guess, dtype=np.float64)
        return np.asarray(1.0 - np.asarray(self.statistics(truth, guess))[:, 0])


def _identity(means: np.ndarray) -> np.ndarray:
    return np.asarray(means[..., 0])


def _root(means: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(means[..., 0]))


def _absolute_error(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(guess - truth)[:, None])


def _squared_error(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    return np.asarray((guess - truth)[:, None] ** 2)


def _squared_log_error(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    # scikit-learn refuses numbers below 0. A guess below 0 is an answer like any other and counts as 0; a truth below 0
    # means that the metric is not defined for the table.
    known = np.where(truth < 0, np.nan, truth)
    return np.asarray((np.log1p(np.maximum(guess, 0)) - np.log1p(known))[:, None] ** 2)


def _relative_error(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    smallest = np.finfo(np.float64).eps
    return np.asarray((np.abs(guess - truth) / np.maximum(np.abs(truth), smallest))[:, None])


def _within_20_percent(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(guess - truth) <= 0.2 * np.abs(truth), dtype=np.float64)[:, None]


def _r2_moments(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    # Moments about the middle row's value, not about 0: truths far from 0 would lose their digits in the subtraction,
    # and of a constant truth nothing but exact zeros is left.
    about_middle = truth - np.sort(truth)[len(truth) // 2]
    return np.stack([(guess - truth) ** 2, about_middle, about_middle**2], axis=1)


def _r2(means: np.ndarray) -> np.ndarray:
    error, first, second = means[..., 0], means[..., 1], means[..., 2]
    variance = second - first**2
    return 1 - error / np.where(variance > 1e-12 * second, variance, np.nan)


def _hit(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    return np.asarray(truth == guess, dtype=np.float64)[:, None]


def _label_counts(truth: np.ndarray, guess: np.ndarray) -> sparse.csr_array:
    """(n, 3 L) of 0 and 1 for L labels: which is true, which was guessed, which was both."""
    labels, codes = np.unique(np.concatenate([truth, guess]), return_inverse=True)
    n, count = len(truth), len(labels)
    true, guessed = codes[:n], codes[n:]
    rows = np.arange(n)
    hits = true == guessed
    columns = np.concatenate([true, count + guessed, 2 * count + true[hits]])
    places = np.concatenate([rows, rows, rows[hits]])
    return sparse.csr_array((np.ones(len(columns)), (places, columns)), shape=(n, 3 * count))


def _label_shares(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = means.shape[-1] // 3
    return means[..., :count], means[..., count : 2 * count], means[..., 2 * count :]


def _mean_of_defined(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Mean over the last axis of part / whole where whole is not 0."""
    defined = whole > 0
    ratio = np.divide(part, whole, out=np.zeros_like(part), where=defined)
    return np.asarray(ratio.sum(axis=-1) / defined.sum(axis=-1))


def _macro_f1(means: np.ndarray) -> np.ndarray:
    true, guessed, both = _label_shares(means)
    return _mean_of_defined(2 * both, true + guessed)


def _balanced_accuracy(means: np.ndarray) -> np.ndarray:
    true, _, both = _label_shares(means)
    return _mean_of_defined(both, true)


def _matthews(means: np.ndarray) -> np.ndarray:
    true, guessed, both = _label_shares(means)
    covariance = both.sum(axis=-1) - (true * guessed).sum(axis=-1)
    spread = (1 - (true**2).sum(axis=-1)) * (1 - (guessed**2).sum(axis=-1))
    # 0 where all truths or all guesses are one label, as in scikit-learn.
    scale = np.sqrt(np.maximum(spread, 0))
    return np.asarray(np.divide(covariance, scale, out=np.zeros_like(covariance), where=spread > 1e-15))


# Gradients take (..., k) means to (..., k) derivatives: 0 where the score is not defined, and for a label that is
# neither true nor guessed.


def _over(part: np.ndarray | float, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0))


def _balanced_accuracy_gradient(means: np.ndarray) -> np.ndarray:
    true, _, both = _label_shares(means)
    of_both = _over(1.0, true) / (true > 0).sum(axis=-1, keepdims=True)
    return np.concatenate([-_over(both, true) * of_both, np.zeros_like(true), of_both], axis=-1)


def _macro_f1_gradient(means: np.ndarray) -> np.ndarray:
    true, guessed, both = _label_shares(means)
    whole = true + guessed
    part = _over(1.0, whole) / (whole > 0).sum(axis=-1, keepdims=True)
    of_whole = -2 * _over(both, whole) * part
    return np.concatenate([of_whole, of_whole, 2 * part], axis=-1)


def _matthews_gradient(means: np.ndarray) -> np.ndarray:
    true, guessed, _ = _label_shares(means)
    of_true, of_guessed = (1 - (share**2).sum(axis=-1, keepdims=True) for share in (true, guessed))
    defined = of_true * of_guessed > 1e-15
    scale = np.sqrt(np.where(defined, of_true * of_guessed, 1.0))
    score = _matthews(means)[..., None]
    parts = [
        -guessed / scale + score * true / np.where(defined, of_true, 1.0),
        -true / scale + score * guessed / np.where(defined, of_guessed, 1.0),
        np.broadcast_to(1 / scale, true.shape),
    ]
    return np.concatenate([np.where(defined, part, 0.0) for part in parts], axis=-1)


def _by_row(score: Callable[[str, str], float]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def statistics(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
        return np.fromiter(map(score, truth, guess), dtype=np.float64, count=len(truth))[:, None]

    return statistics


_ALL = (
    Metric("mean_absolute_error", "mean absolute error", "number", False, "target", _absolute_error, _identity),
    Metric(
        "median_absolute_error",
        "median absolute error",
        "number",
        False,
        "target",
        _absolute_error,
        _identity,
        center="median",
    ),
    Metric("root_mean_squared_error", "root mean squared error", "number", False, "target", _squared_error, _root),
    Metric("root_mean_squared_log_error", "RMSLE", "number", False, "none", _squared_log_error, _root),
    Metric(
        "mean_absolute_percentage_error",
        "mean absolute percentage error",
        "number",
        False,
        "none",
        _relative_error,
        _identity,
    ),
    Metric("r2", "R²", "number", True, "none", _r2_moments, _r2),
    Metric("within_20_percent", "within 20 %", "number", True, "share", _within_20_percent, _identity, proportion=True),
    Metric("accuracy", "accuracy", "label", True, "share", _hit, _identity, proportion=True),
    Metric("macro_f1", "macro-F1", "label", True, "share", _label_counts, _macro_f1, gradient=_macro_f1_gradient),
    Metric(
        "balanced_accuracy",
        "balanced accuracy",
        "label",
        True,
        "share",
        _label_counts,
        _balanced_accuracy,
        gradient=_balanced_accuracy_gradient,
    ),
    Metric(
        "matthews", "Matthews correlation", "label", True, "none", _label_counts, _matthews, gradient=_matthews_gradient
    ),
    Metric(
        "exact_match",
        "exact match",
        "text",
        True,
        "share",
        _by_row(text_metrics.exact_match),
        _identity,
        proportion=True,
    ),
    Metric("token_f1", "token F1", "text", True, "share", _by_row(text_metrics.token_f1), _identity),
    Metric("rouge_l", "ROUGE-L", "text", True, "share", _by_row(text_metrics.rouge_l), _identity),
    Metric("chrf", "chrF", "text", True, "share", _by_row(text_metrics.chrf), _identity),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}

_DEFAULT: dict[Kind, str] = {"number": "mean_absolute_error", "label": "accuracy", "text": "token_f1"}

_SECOND: dict[Kind, tuple[str, ...]] = {
    "number": (
        "mean_absolute_error",
        "median_absolute_error",
        "root_mean_squared_log_error",
        "r2",
        "within_20_percent",
    ),
    "label": ("accuracy", "macro_f1", "balanced_accuracy", "matthews"),
    "text": ("token_f1", "exact_match", "rouge_l", "chrf"),
}

ALIASES: dict[Kind, dict[str, str]] = {
    "number": {
        "mae": "mean_absolute_error",
        "medae": "median_absolute_error",
        "rmse": "root_mean_squared_error",
        "rmsle": "root_mean_squared_log_error",
        "mape": "mean_absolute_percentage_error",
        "r2_score": "r2",
    },
    "label": {"f1": "macro_f1", "f1_macro": "macro_f1", "mcc": "matthews", "matthews_corrcoef": "matthews"},
    "text": {"f1": "token_f1", "em": "exact_match", "rougel": "rouge_l", "rouge": "rouge_l"},
}


def default_metric(kind: Kind) -> Metric:
    """The metric of a task that names none."""
    return METRICS[_DEFAULT[kind]]


def metric_for(name: str | None, kind: Kind) -> Metric:
    """The metric called `name`, or by a common short name such as `mae`; the kind's default where `name` is None.

    Raises TaskError where there is no such metric for the kind.
    """
    if name is None:
        return default_metric(kind)
    key = name.strip().lower().replace("-", "_").replace(" ", "_")
    metric = metric_named(ALIASES[kind].get(key, key))
    if metric is None or metric.kind != kind:
        options = [metric.name for metric in METRICS.values() if metric.kind == kind]
        options += plugin_names("metrics", taken=METRICS)
        raise TaskError(missing(f"metric for kind '{kind}'", name, options))
    return metric


def metric_named(name: str) -> Metric | None:
    """The metric of exactly this name, kurabe's own or one that another package adds; None where there is none such.

    Raises PluginError where the package can't be imported, or adds something else.
    """
    metric = METRICS.get(name)
    if metric is None and (added := plugin("metrics", name)) is not None:
        if not isinstance(added, Metric) or added.name != name:
            raise PluginError(f"the metric {name} of another package is not a kurabe.Metric of that name: {added!r}")
        return added
    return metric


def second_metrics(kind: Kind, metric: Metric) -> tuple[Metric, ...]:
    """The metrics shown beside `metric` on the board of a task of this kind."""
    return tuple(METRICS[name] for name in _SECOND[kind] if name != metric.name)
