"""How good the trained contestants of a default run are, beside a plain scikit-learn pipeline on the same splits.

python benchmarks/quality.py [TABLE ...] [--data FOLDER] [--seeds N] [--only NAME ...]

The tables are `amazon-prices` (text → price), `wine` (review and facts → price) and `flipkart` (product name →
category); the end of this help says where to get them. Each seed is one split: a fifth for the test, a tenth for
validation, the rest for training. The pipeline is TF-IDF of words and characters and ridge regression on log prices, or
logistic regression, with its penalty cross-validated on the training and validation part together, so that it learns
from as many rows as the contestants. `ratio` is a contestant's error over the pipeline's: below 1 is better.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from _data import add_data_argument, data_file
from sklearn.compose import TransformedTargetRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline, make_union

from kurabe.contestants import registry
from kurabe.tasks.metrics import default_metric
from kurabe.tasks.spec import ContestantSpec, Kind

ASKED = ("prompt", "human")


@dataclass(frozen=True)
class Table:
    """A table to be learned: input columns with `input`, the target, and its kind."""

    X: pl.DataFrame
    y: np.ndarray
    kind: Kind


def amazon_prices(folder: Path) -> Table:
    rows = pl.read_ndjson(data_file(folder, "amazon-prices/items.jsonl"))
    return Table(rows.select(input="text"), rows["price"].to_numpy().astype(np.float64), "number")


def wine(folder: Path) -> Table:
    rows = pl.read_ndjson(data_file(folder, "wine/wines.jsonl"))
    facts = ["title", "variety", "country", "province", "region", "winery", "points", "description"]
    text = pl.concat_str(facts, separator=" | ", ignore_nulls=True).alias("input")
    X = rows.select(text, "variety", "country", "province", "region", "winery", "points")
    return Table(X, rows["price"].to_numpy().astype(np.float64), "number")


def flipkart(folder: Path) -> Table:
    rows = pl.read_ndjson(data_file(folder, "flipkart/products.jsonl"))
    return Table(rows.select(input="name"), rows["category"].to_numpy().astype(object), "label")


TABLES: dict[str, Callable[[Path], Table]] = {"amazon-prices": amazon_prices, "wine": wine, "flipkart": flipkart}


def split(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of the training, validation and test part."""
    order = np.random.default_rng(seed).permutation(rows)
    test, validation = round(rows * 0.2), round(rows * 0.1)
    return tuple(np.sort(part) for part in np.split(order, [rows - test - validation, rows - test]))  # type: ignore[return-value]


def pipeline(kind: Kind) -> Any:
    """TF-IDF + ridge on log prices, or + logistic regression."""
    vectors = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2, max_features=100_000),
    )
    if kind == "number":
        ridge = RidgeCV(np.geomspace(0.1, 30, 12))
        return TransformedTargetRegressor(make_pipeline(vectors, ridge), func=np.log1p, inverse_func=np.expm1)
    logistic = OneVsRestClassifier(LogisticRegression(solver="liblinear", random_state=0))
    return make_pipeline(vectors, GridSearchCV(logistic, {"estimator__C": [1.0, 10.0, 100.0]}, cv=3))


def fit_pipeline(table: Table, learn: np.ndarray, test: np.ndarray) -> np.ndarray:
    texts = table.X["input"].to_numpy()
    return np.asarray(pipeline(table.kind).fit(texts[learn], table.y[learn]).predict(texts[test]))


def fit_contestant(spec: ContestantSpec, table: Table, parts: tuple[np.ndarray, ...], seed: int) -> np.ndarray:
    train, validation, test = parts
    estimator = registry.build(spec, registry.Context(table.kind, None, seed))
    estimator.fit(table.X[train], table.y[train], validation=(table.X[validation], table.y[validation]))
    return np.asarray(estimator.predict(table.X[test]))


def measure(name: str, table: Table, seeds: int, only: list[str]) -> None:
    """Print one table: a row a contestant, the mean of the seeds."""
    metric = default_metric(table.kind)
    specs = [spec for spec in registry.defaults(table.kind) if spec.name not in ASKED]
    chosen = [spec for spec in specs if not only or spec.name in only]
    labels = ["scikit-learn pipeline", *(spec.label for spec in chosen)]
    scores, seconds = np.zeros((len(labels), seeds)), np.zeros((len(labels), seeds))
    for seed in range(seeds):
        parts = split(len(table.y), seed)
        for position, label in enumerate(labels):
            start = time.perf_counter()
            if position == 0:
                guess = fit_pipeline(table, np.concatenate(parts[:2]), parts[2])
            else:
                guess = fit_contestant(chosen[position - 1], table, parts, seed)
            seconds[position, seed] = time.perf_counter() - start
            scores[position, seed] = metric.score(table.y[parts[2]], guess)
            print(f"  seed {seed}: {label} {scores[position, seed]:.4g}", end="\033[K\r", flush=True)
    losses = 1 - scores if metric.greater_is_better else scores
    print(f"\033[K\n{name}: {len(table.y):,} rows, {metric.title}, mean of {seeds} splits")
    width = max(6 * seeds + 4, 12)
    print(f"{'':24}{'score':>10}{'ratio':>8}{'by seed':>{width}}{'fit and predict, s':>20}")
    for position in np.argsort(losses.mean(axis=1)):
        ratios = losses[position] / losses[0]
        each = " ".join(f"{ratio:.3f}" for ratio in ratios)
        print(
            f"{labels[position]:24}{scores[position].mean():10.4g}{losses[position].mean() / losses[0].mean():8.3f}"
            f"{each:>{width}}{seconds[position].mean():20.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], metavar="TABLE", help=", ".join(TABLES))
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    arguments = parser.parse_args()
    for name in arguments.tables or TABLES:
        measure(name, TABLES[name](arguments.data), arguments.seeds, arguments.only)


if __name__ == "__main__":
    main()
