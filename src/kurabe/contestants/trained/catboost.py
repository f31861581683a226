"""CatBoost, an optional contestant: the extra `catboost`."""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator

from kurabe.contestants.alias import saved
from kurabe.contestants.encoding import ColumnEncoder
from kurabe.contestants.trained.learner import Learner, Log, Settings, scored_by
from kurabe.contestants.trained.target import SQUARED
from kurabe.errors import MissingExtraError
from kurabe.tasks.spec import Kind

STOP_AFTER = 100


@saved
class Codes(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A table's columns as CatBoost takes them, (n, d) objects: numbers as they are, categories as texts."""

    def fit_transform(self, X: pl.DataFrame) -> np.ndarray:
        self.encoder_ = ColumnEncoder()
        return self._with_texts(self.encoder_.fit_transform(X))

    def transform(self, X: pl.DataFrame) -> np.ndarray:
        return self._with_texts(self.encoder_.transform(X))

    def _with_texts(self, matrix: np.ndarray) -> np.ndarray:
        objects = matrix.astype(object)
        for place in self.encoder_.category_positions():
            objects[:, place] = [str(value) for value in matrix[:, place]]
        return objects


@saved
class CatBoostModel:
    """A CatBoost model that is kept as the bytes of its own format."""

    def __init__(self, data: bytes, labels: int) -> None:
        self.data = data
        self.labels = labels

    def predict(self, F: np.ndarray) -> np.ndarray:
        """(m,) numbers or (m, labels) probabilities."""
        said = self._loaded().predict(
            F, prediction_type="Probability" if self.labels else "RawFormulaVal", thread_count=1
        )
        return np.asarray(said, dtype=np.float64)

    def try_one_row(self) -> np.ndarray:
        """What it says of a row with nothing in its columns."""
        model = self._loaded()
        row = np.full((1, len(model.feature_names_)), np.nan, dtype=object)
        row[:, model.get_cat_feature_indices()] = ""
        return self.predict(row)

    def _loaded(self) -> Any:
        from catboost import CatBoost

        if "_model" not in self.__dict__:
            self._model = CatBoost().load_model(blob=self.data)
        return self._model

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data, "labels": self.labels}


class CatBoost(Learner):
    """CatBoost on the columns: categories stay categories, and prose becomes a few topics. Needs the extra `catboost`.

    Parameters
    ----------
    rounds
        The most trees. Training stops earlier if the score on the validation part no longer improves.
    learning_rate
        The step of each tree. None: CatBoost chooses.
    depth
        The depth of each tree.
    """

    revision: ClassVar[int] = 2
    searches: ClassVar[bool] = True

    def __init__(
        self,
        rounds: int = 2_000,
        learning_rate: float | None = None,
        depth: int = 6,
        log: Log = "auto",
        kind: Kind | None = None,
        metric: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.rounds = rounds
        self.learning_rate = learning_rate
        self.depth = depth
        self.log = log
        self.kind = kind
        self.metric = metric
        self.random_state = random_state

    def skipped_reason(self) -> str | None:
        """Why CatBoost can't be used here, or None where it can."""
        if importlib.util.find_spec("catboost") is None:
            return str(MissingExtraError("CatBoost", "catboost"))
        return None

    def _features(self) -> Codes:
        return Codes()

    def _booster(self, F: np.ndarray, rounds: int) -> Any:
        if self.skipped_reason():
            raise MissingExtraError("CatBoost", "catboost")
        from catboost import CatBoost as Booster

        squared = self.kind_ == "number" and scored_by(self.metric, "number").name in SQUARED
        loss = "MultiClass" if self.kind_ == "label" else "RMSE"
        settings = {
            "iterations": rounds, "depth": self.depth, "loss_function": loss, "verbose": False, "thread_count": 1,
            "random_seed": self.random_state, "allow_writing_files": False,
            "cat_features": [place for place in range(F.shape[1]) if isinstance(F[0, place], str)],
        }  # fmt: skip
        if self.learning_rate is not None:
            settings["learning_rate"] = self.learning_rate
        if self.kind_ == "number" and not squared:
            settings["eval_metric"] = "MAE"
        return Booster(settings)

    def _learn(self, F: np.ndarray, t: np.ndarray, settings: Settings) -> CatBoostModel:
        booster = self._booster(F, settings.get("rounds", self.rounds))
        if "learning_rate" in settings:
            booster.set_params(learning_rate=settings["learning_rate"])
        booster.fit(F, t)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.cbm"
            booster.save_model(str(path))
            return CatBoostModel(path.read_bytes(), len(self.classes_) if self.kind_ == "label" else 0)

    def _apply(self, model: CatBoostModel, F: np.ndarray) -> np.ndarray:
        return model.predict(F)

    def _search(self, F: Any, t: np.ndarray, held_F: Any, held_t: np.ndarray) -> tuple[Settings, np.ndarray]:
        booster = self._booster(F, self.rounds).fit(F, t, eval_set=(held_F, held_t), early_stopping_rounds=STOP_AFTER)
        kind = "Probability" if self.kind_ == "label" else "RawFormulaVal"
        settings: Settings = {"rounds": int(booster.get_best_iteration() or 0) + 1}
        if self.learning_rate is None:  # what CatBoost chose for so many rounds goes with them
            settings["learning_rate"] = float(booster.get_all_params()["learning_rate"])
        return settings, np.asarray(booster.predict(held_F, prediction_type=kind, thread_count=1), dtype=np.float64)
