"""Gradient boosting on a table's columns alone: LightGBM with categories as categories."""

from typing import Any, NamedTuple

import lightgbm
import numpy as np
import polars as pl
from sklearn.base import BaseEstimator
from sklearn.linear_model import RidgeCV

from kurabe.contestants.alias import saved
from kurabe.contestants.encoding import ColumnEncoder
from kurabe.contestants.features import Scaled
from kurabe.contestants.trained.boosters import Booster, threads

ROUNDS = 2_000
FEW_COLUMNS = 20  # are all kept
MANY_COLUMNS = 100  # make each round dear: fewer and larger steps are taken then
TREES = 3_000  # of all labels together
PENALTIES = tuple(float(penalty) for penalty in np.geomspace(0.1, 1_000, 9))
STOP_AFTER = 50  # rounds without a gain at the larger learning rate of the search


class ColumnViews(NamedTuple):
    """A table's columns for trees, (n, d) with codes of categories, and for a linear model, (n, k) scaled;
    `categories`: the positions of the codes."""

    trees: np.ndarray
    linear: np.ndarray
    categories: list[int]

    def keep(self, columns: list[int] | None) -> "ColumnViews":
        """Only these columns for trees; all where None."""
        if columns is None:
            return self
        places = [place for place, column in enumerate(columns) if column in self.categories]
        return ColumnViews(np.ascontiguousarray(self.trees[:, columns]), self.linear, places)


@saved
class ColumnFeatures(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """The columns of a table, without its prose, as ColumnViews."""

    def fit_transform(self, X: pl.DataFrame) -> ColumnViews:
        self.codes_ = ColumnEncoder(text="drop")
        self.scaled_ = Scaled(ColumnEncoder(text="drop", one_hot=True))
        trees = self.codes_.fit_transform(X)
        return ColumnViews(trees, self.scaled_.fit_transform(X), self.codes_.category_positions())

    def transform(self, X: pl.DataFrame) -> ColumnViews:
        return ColumnViews(self.codes_.transform(X), self.scaled_.transform(X), self.codes_.category_positions())


class Plan(NamedTuple):
    """What is boosted: the number of classes (0 for numbers) and of columns, whether the metric is of squared errors,
    and the user's settings, None where the plan chooses."""

    classes: int
    columns: int
    squared: bool
    leaves: int
    min_samples_leaf: int
    learning_rate: float | None
    rounds: int | None
    seed: int

    def pace(self) -> tuple[float, int]:
        """(learning rate, rounds at most)."""
        most = ROUNDS if self.columns <= MANY_COLUMNS else ROUNDS // 3
        rounds = most if self.classes <= 2 else max(10, min(most, TREES // self.classes))
        rate = 0.05 if rounds > ROUNDS // 3 else 0.1 if rounds > 100 else 0.3
        return self.learning_rate or rate, self.rounds or rounds

    def variants(self) -> list[dict[str, Any]]:
        """The parameters of each booster, whose mean answers. Those that differ in loss and in what they see err
        differently; many labels have one booster, for the time it takes."""
        objective: dict[str, Any] = {"objective": "regression"}
        if self.classes == 2:
            objective = {"objective": "binary"}
        elif self.classes:
            objective = {"objective": "multiclass", "num_class": self.classes}
        own = objective if self.classes or self.squared else {"objective": "regression_l1"}
        share = 0.5 if self.columns <= MANY_COLUMNS else 1.0  # of many columns few matter: a small share may miss them
        least = max(1, self.min_samples_leaf // 2)
        common = {
            "learning_rate": self.pace()[0], "min_data_in_leaf": least, "bagging_fraction": 0.8, "bagging_freq": 1,
            "deterministic": True, "force_row_wise": True, "verbosity": -1,
        }  # fmt: skip
        wide = (
            own
            | common
            | {"num_leaves": 2 * self.leaves + 1, "feature_fraction": min(1.0, 1.2 * share), "seed": self.seed}
        )
        narrow = objective | common | {
            "num_leaves": self.leaves, "feature_fraction_bynode": share, "lambda_l2": 1.0, "seed": self.seed + 1,
        }  # fmt: skip
        return [wide, narrow] if self.classes <= 5 else [narrow]


def learn(plan: Plan, F: ColumnViews, t: np.ndarray, settings: dict[str, Any]) -> dict[str, Any]:
    """The boosters, and the linear model whose errors they learn, if any."""
    linear = _ridge(F, t) if settings.get("linear") else None
    F = F.keep(kept := settings.get("kept"))
    residual = t if linear is None else t - linear.predict(F.linear)
    variants = plan._replace(columns=F.trees.shape[1]).variants()
    rounds = settings.get("rounds") or [plan.pace()[1]] * len(variants)
    boosters = [
        Booster(_train(parameters, F, residual, count).model_to_string())
        for parameters, count in zip(variants, rounds, strict=True)
    ]
    return {"linear": linear, "boosters": boosters, "kept": kept}


def apply(model: dict[str, Any], F: ColumnViews) -> np.ndarray:
    """(m,) targets or (m, classes) probabilities."""
    F = F.keep(model["kept"])
    said = np.mean([booster.predict(F.trees) for booster in model["boosters"]], axis=0)
    return _answer(said, model["linear"], F)


def search(
    plan: Plan, F: ColumnViews, t: np.ndarray, held_F: ColumnViews, held_t: np.ndarray
) -> tuple[dict[str, Any], np.ndarray]:
    """What a held-out part says of a start from a linear model, of the columns to keep and of the rounds of each
    booster; and what is said of that part. The search goes at twice the learning rate, which takes half as many rounds.
    """
    linear, kept = None, None
    if not plan.classes:
        ridge = _ridge(F, t)
        loss, model = _quick(plan, F, t, held_F, held_t, None)
        begun, after = _quick(plan, F, t, held_F, held_t, ridge)
        if begun < loss:
            linear, loss, model = ridge, begun, after
        if plan.columns > FEW_COLUMNS:
            # Each column that tells nothing is one more chance to fit noise.
            gains = model.feature_importance("gain")
            telling = np.flatnonzero(gains > gains.mean()).tolist()
            if telling and _quick(plan, F.keep(telling), t, held_F.keep(telling), held_t, linear)[0] < loss:
                kept = telling
    F, held_F = F.keep(kept), held_F.keep(kept)
    plan = plan._replace(columns=F.trees.shape[1])
    rate, most = plan.pace()
    rounds, answers = [], []
    for parameters in plan.variants():
        faster = parameters | {"learning_rate": 2 * rate}
        model = _stopped(faster, max(1, most // 2), F, t, held_F, held_t, linear)
        # More rows carry more trees.
        rounds.append(max(1, round(2 * model.best_iteration * (1 + len(held_t) / (2 * len(t))))))
        answers.append(model.predict(held_F.trees, num_iteration=model.best_iteration))
    settings = {"linear": linear is not None, "rounds": rounds, "kept": kept}
    return settings, _answer(np.mean(answers, axis=0), linear, held_F)


def _quick(
    plan: Plan, F: ColumnViews, t: np.ndarray, held_F: ColumnViews, held_t: np.ndarray, linear: RidgeCV | None
) -> tuple[float, lightgbm.Booster]:
    """(loss on the held-out part, the booster) of a few rounds."""
    parameters = plan._replace(columns=F.trees.shape[1]).variants()[-1] | {"learning_rate": 0.1}
    model = _stopped(parameters, 200, F, t, held_F, held_t, linear)
    guess = _answer(model.predict(held_F.trees, num_iteration=model.best_iteration), linear, held_F)
    return float((np.abs(guess - held_t) ** (2 if plan.squared else 1)).mean()), model


def _ridge(F: ColumnViews, t: np.ndarray) -> RidgeCV:
    return RidgeCV(PENALTIES).fit(F.linear, t)


def _answer(said: np.ndarray, linear: RidgeCV | None, F: ColumnViews) -> np.ndarray:
    if linear is not None:
        said = said + linear.predict(F.linear)
    return np.asarray(said)


def _data(F: ColumnViews, t: np.ndarray, parameters: dict[str, Any], reference: Any = None) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        F.trees, t, reference=reference, categorical_feature=F.categories, params=parameters, free_raw_data=False
    )


def _train(parameters: dict[str, Any], F: ColumnViews, t: np.ndarray, rounds: int) -> lightgbm.Booster:
    parameters = parameters | {"num_threads": threads(F.trees.size)}
    return lightgbm.train(parameters, _data(F, t, parameters), rounds)


def _stopped(
    parameters: dict[str, Any],
    rounds: int,
    F: ColumnViews,
    t: np.ndarray,
    held_F: ColumnViews,
    held_t: np.ndarray,
    linear: RidgeCV | None,
) -> lightgbm.Booster:
    """A booster that stops where the held-out part no longer gains."""
    if linear is not None:
        t, held_t = t - linear.predict(F.linear), held_t - linear.predict(held_F.linear)
    parameters = parameters | {"num_threads": threads(F.trees.size)}
    data = _data(F, t, parameters)
    return lightgbm.train(
        parameters,
        data,
        rounds,
        valid_sets=[_data(held_F, held_t, parameters, data)],
        callbacks=[lightgbm.early_stopping(STOP_AFTER, verbose=False)],
    )
