"""Random forest and gradient boosting on text and columns."""

from typing import Any, ClassVar

import lightgbm
import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from kurabe.contestants.encoding import ColumnEncoder
from kurabe.contestants.features import Columns, Dense, Embeddings, Features, Quantities, TextStatistics, Topics
from kurabe.contestants.trained import column_boosting
from kurabe.contestants.trained.boosters import Booster, processors, threads
from kurabe.contestants.trained.column_boosting import ColumnFeatures
from kurabe.contestants.trained.learner import Learner, Log, Settings, expand, scored_by
from kurabe.contestants.trained.target import SQUARED
from kurabe.models.embeddings import DEFAULT
from kurabe.tasks.spec import Kind

BAG_ROWS = 2_000  # of the training part that each tree of a forest draws at most
COLUMN_ROWS = 100_000  # where it learns from columns alone
MISSING = -1e6  # scikit-learn's trees learn where NaN goes only if they saw one; a far value always has a side


class RandomForest(Learner):
    """A random forest on embeddings of the text, simple features, the numbers in the text, and the table's columns.

    If no column holds prose, or if it scores better on the validation part, it learns from the columns alone.

    Parameters
    ----------
    trees
        How many trees.
    min_samples_leaf
        The fewest training rows in a leaf.
    max_features
        The share of the features that each split looks at. None: for numbers a fifth, or all of them if it learns from
        the columns alone; for labels the square root of their count.
    embeddings
        The reference of the model that embeds the text.
    """

    revision: ClassVar[int] = 2
    takes_columns: ClassVar[bool] = True
    logs_columns: ClassVar[bool] = False  # its means of logarithms were worse on each table tried

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
        if self.view_ == "columns":
            return ColumnEncoder(text="drop")
        return Dense([Embeddings(model=self.embeddings), TextStatistics(), Quantities(), Columns()])

    def _learn(self, F: np.ndarray, t: np.ndarray, settings: Settings) -> Any:
        few = self.view_ == "columns"  # columns are few beside the features of texts, and all of them may count
        most = COLUMN_ROWS if few else BAG_ROWS
        share = 1.0 if few else 0.2
        forest = RandomForestClassifier if self.kind_ == "label" else RandomForestRegressor
        model = forest(
            self.trees,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.max_features or ("sqrt" if self.kind_ == "label" else share),
            max_samples=most if len(t) > most else None,
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


class GradientBoosting(Learner):
    """LightGBM on topics and embeddings of the text, simple features, the numbers in the text, and the table's columns.

    If no column holds prose, or if it scores better on the validation part, it learns from the columns alone. Then the
    answer is the mean of two boosters: one with the metric's own loss, 2 * `leaves` + 1 leaves and half of
    `min_samples_leaf`, and one with squared loss. They take at most 2,000 rounds, fewer if there are many labels, and
    learn the errors of a ridge regression if that scores better on the validation part.

    Parameters
    ----------
    learning_rate
        The step of each tree. None: 0.05, or 0.15 for more than two labels.
    leaves
        The leaves of each tree.
    min_samples_leaf
        The fewest training rows in a leaf.
    rounds
        The most rounds. None: 1,000, or 150 for more than two labels, since every round has a tree for each label.
    stop_after
        Training stops after so many rounds without a better score on the validation part.
    embeddings
        The reference of the model that embeds the text.
    """

    searches: ClassVar[bool] = True
    revision: ClassVar[int] = 2
    takes_columns: ClassVar[bool] = True

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
        if self.view_ == "columns":
            return ColumnFeatures()
        return Dense(
            [
                Topics(50, self.random_state),
                Embeddings(model=self.embeddings),
                TextStatistics(),
                Quantities(),
                Columns(),
            ]
        )

    def _plan(self, F: column_boosting.ColumnViews) -> column_boosting.Plan:
        """What is boosted where the columns alone are learned from."""
        label = self.kind_ == "label"
        return column_boosting.Plan(
            len(self.classes_) if label else 0,
            F.trees.shape[1],
            not label and scored_by(self.metric, "number").name in SQUARED,
            self.leaves,
            self.min_samples_leaf,
            self.learning_rate,
            self.rounds,
            self.random_state,
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

    def _learn(self, F: Any, t: np.ndarray, settings: Settings) -> Any:
        if self.view_ == "columns":
            return column_boosting.learn(self._plan(F), F, t, settings)
        rounds = settings.get("rounds", self._pace()[1])
        return Booster(lightgbm.train(self._parameters(F), self._data(F, t), rounds).model_to_string())

    def _apply(self, model: Any, F: Any) -> np.ndarray:
        if self.view_ != "columns":
            return np.asarray(model.predict(F))
        said = column_boosting.apply(model, F)
        return said if said.ndim == 2 or self.kind_ == "number" else np.stack([1 - said, said], axis=1)

    def _search(self, F: Any, t: np.ndarray, held_F: Any, held_t: np.ndarray) -> tuple[Settings, np.ndarray]:
        if self.view_ == "columns":
            settings, said = column_boosting.search(self._plan(F), F, t, held_F, held_t)
            return settings, said if said.ndim == 2 or self.kind_ == "number" else np.stack([1 - said, said], axis=1)
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
