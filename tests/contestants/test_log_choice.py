"""The scale of the target is chosen once, by the rows and the metric alone."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from kurabe.contestants import registry
from kurabe.contestants.shared import Shared
from kurabe.contestants.trained.log_choice import prefers_log
from kurabe.tasks.metrics import metric_for

ABSOLUTE = metric_for("mean_absolute_error", "number")


def _table(rows: int, *, factor: bool, prose: bool = False) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows whose target is the product of what stands in them, or the sum."""
    rng = np.random.default_rng(0)
    sizes, qualities = rng.integers(1, 9, rows), rng.integers(1, 9, rows)
    noise = rng.normal(0, 0.1, rows)
    y = np.exp(sizes + qualities / 2 + noise) if factor else 100.0 + 10 * sizes + 5 * qualities + 10 * noise
    texts = [f"size{size} quality{quality}" for size, quality in zip(sizes, qualities, strict=True)]
    words = [" in a box that came today, as good as new, with all of its parts, ".join(text.split()) for text in texts]
    columns = {"about": words} if prose else {"size": sizes, "quality": qualities}
    return pl.DataFrame(columns).with_columns(input=pl.Series(words if prose else texts)), y


@pytest.mark.parametrize("prose", [False, True])
@pytest.mark.parametrize("factor", [False, True])
def test_products_are_learned_on_the_log_scale_and_sums_are_not(factor: bool, prose: bool) -> None:
    X, y = _table(400, factor=factor, prose=prose)
    assert prefers_log(X, y, ABSOLUTE, Shared()) is factor


def test_a_target_without_a_logarithm_or_without_a_spread_has_none() -> None:
    X, y = _table(50, factor=True)
    assert not prefers_log(X, y - y.max(), ABSOLUTE, Shared())
    assert not prefers_log(X, np.full(50, 3.0), ABSOLUTE, Shared())
    assert not prefers_log(X[:1], y[:1], ABSOLUTE, Shared())


@pytest.mark.parametrize("metric", ["mean_absolute_error", "root_mean_squared_error"])
def test_all_contestants_of_a_task_choose_alike(metric: Any) -> None:
    X, y = _table(120, factor=True)
    names = [
        "linear_features",
        "bag_of_words",
        "tfidf_ridge",
        "embeddings_ridge",
        "gradient_boosting",
        "stacked_boosting",
    ]
    for seed in (0, 7):
        context = registry.Context("number", metric, seed)
        scales = {name: registry.from_name(name, context).fit(X, y).scale_.log for name in names}
        assert set(scales.values()) == {True}, scales
