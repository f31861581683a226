"""Random forest and gradient boosting on text and columns."""

import os
from typing import Any, ClassVar

import lightgbm
import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from kurabe.contestants.features import Columns, Dense, Embeddings, Features, Quantities, TextStatistics, Topics
from kurabe.contestants.learner import Learner, Log, Settings, expand, scored_by
from kurabe.contestants.target import SQUARED
from kurabe.errors import ContestantError
from kurabe.models.embeddings import DEFAULT
from kurabe.tasks.spec import Kind

BAG_ROWS = 2_000  # of the training part that each tree of a forest draws at most
MISSING = -1e6  # scikit-learn's trees learn where NaN goes only if they saw one; a far value always has a side


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(values: int) -> int:
    """Threads for boosting on a matrix of so many values: on a small one they wait for each other more than they work,
    and on a busy machine ten times as long."""
    return 1 if values < 5_000_000 else processors()


class RandomForest(Learner):
    """A random forest on embeddings of the text, simple features, the numbers in the text and the table's columns.

    `trees`: how many. `min_samples_leaf`: training rows in a leaf at least. `max_features`: share of the features that
    each split looks at; None: a fifth for numbers, as many as the square root of their count for labels. `embeddings`:
    the reference of what embeds the text.
    """

    def __init__(
        self,
        trees: int = 100,
        min_samples_leaf: int = 2,
        max_features: float | None = None,
        embeddings: str = DEFAULT,
        log: Log = "auto",
        kind: Kind | None = None,
        metric: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.trees = trees
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.embeddings = embeddings
        self.log = log
        self.kind = kind
        self.metric = metric
        self.random_state = random_state

    def _features(self) -> Features:
        return Dense([Embeddings(model=self.embeddings), TextStatistics(), Quantities(), Columns()])

    def _learn(self, F: np.ndarray, t: np.ndarray, settings: Settings) -> Any:
        forest = RandomForestClassifier if self.kind_ == "label" else RandomForestRegressor
        model = forest(
            self.trees,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.max_features or ("sqrt" if self.kind_ == "label" else 0.2),
            max_samples=BAG_ROWS if len(t) > BAG_ROWS else None,
            n_jobs=processors(),
            random_state=self.random_state,
        )
        # On several threads the trees are summed in no fixed order, so that the last digits change from call to call.
        return model.fit(_filled(F), t).set_params(n_jobs=1)

    def _apply(self, model: Any, F: np.ndarray) -> np.ndarray:
        if self.kind_ == "label":
            return expand(model.predict_proba(_filled(F)), model.classes_, len(self.classes_))
        return np.asarray(model.predict(_filled(F)))


def _filled(F: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(F), np.float32(MISSING), F)


class Booster:
    """A LightGBM model that is kept as its own text format."""

    def __init__(self, text: str) -> None:
        self.text = text

    def predict(self, F: np.ndarray) -> np.ndarray:
        if "_booster" not in self.__dict__:
            try:
                self._booster = lightgbm.Booster(model_str=self.text)
            except lightgbm.basic.LightGBMError as error:
                raise ContestantError(f"the saved model cannot be read: {error}") from None
        return np.asarray(self._booster.predict(F, num_threads=threads(F.size)))

    def __getstate__(self) -> dict[str, str]:
        return {"text": self.text}


class GradientBoosting(Learner):
    """LightGBM on topics and embeddings of the text, simple features, the numbers in the text and the columns.

    `leaves`, `min_samples_leaf`: of each tree. `learning_rate`, `rounds`: None: 0.05 and at most 1,000 trees, or 0.15
    and 150 for more than two labels, as each label has a tree of its own in every round. `stop_after`: rounds without a
    gain on the validation part after which it stops. `embeddings`: the reference of what embeds the text.
    """

    searches: ClassVar[bool] = True

    def __init__(
        self,
        learning_rate: float | None = None,
        leaves: int = 15,
        min_samples_leaf: int = 10,
        rounds: int | None = None,
        stop_after: int = 50,
        embeddings: str = DEFAULT,
        log: Log = "auto",
        kind: Kind | None = None,
        metric: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.learning_rate = learning_rate
        self.leaves = leaves
        self.min_samples_leaf = min_samples_leaf
        self.rounds = rounds
        self.stop_after = stop_after
        self.embeddings = embeddings
        self.log = log
        self.kind = kind
        self.metric = metric
        self.random_state = random_state

    def _features(self) -> Features:
        return Dense(
            [
                Topics(50, self.random_state),
                Embeddings(model=self.embeddings),
                TextStatistics(),
                Quantities(),
                Columns(),
            ]
        )

    def _pace(self) -> tuple[float, int]:
        """(learning rate, rounds at most)."""
        rate, rounds = (0.15, 150) if self.kind_ == "label" and len(self.classes_) > 2 else (0.05, 1_000)
        return self.learning_rate or rate, self.rounds or rounds

    def _parameters(self, F: np.ndarray) -> dict[str, Any]:
        if self.kind_ == "label":
            objective: dict[str, Any] = {"objective": "multiclass", "num_class": len(self.classes_)}
        elif scored_by(self.metric, "number").name in SQUARED:
            objective = {"objective": "regression", "metric": "l2"}
        else:
            objective = {"objective": "regression", "metric": "l1"}
        return objective | {
            "learning_rate": self._pace()[0],
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.min_samples_leaf,
            "feature_fraction": 0.3,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "lambda_l2": 1.0,
            "extra_trees": True,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": threads(F.size),
            "seed": self.random_state,
            "verbosity": -1,
        }

    def _data(self, F: np.ndarray, t: np.ndarray, reference: Any = None) -> lightgbm.Dataset:
        return lightgbm.Dataset(F, t, reference=reference, free_raw_data=False)

    def _learn(self, F: np.ndarray, t: np.ndarray, settings: Settings) -> Booster:
        rounds = settings.get("rounds", self._pace()[1])
        return Booster(lightgbm.train(self._parameters(F), self._data(F, t), rounds).model_to_string())

    def _apply(self, model: Booster, F: np.ndarray) -> np.ndarray:
        return model.predict(F)

    def _search(self, F: Any, t: np.ndarray, held_F: Any, held_t: np.ndarray) -> tuple[Settings, np.ndarray]:
        data = self._data(F, t)
        model = lightgbm.train(
            self._parameters(F),
            data,
            self._pace()[1],
            valid_sets=[self._data(held_F, held_t, data)],
            callbacks=[lightgbm.early_stopping(self.stop_after, verbose=False)],
        )
        # More rows carry more trees.
        rounds = max(1, round(model.best_iteration * (1 + len(held_t) / (2 * len(t)))))
        return {"rounds": rounds}, np.asarray(model.predict(held_F, num_iteration=model.best_iteration))
