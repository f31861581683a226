"""Every contestant of the registry, and a few estimators that are not kurabe's, through the public battery."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyClassifier

from kurabe.contestants import checks, open_models, registry
from kurabe.messages import Request
from kurabe.tasks.spec import ContestantSpec, Kind
from kurabe.testing.tiny import tiny_model

# The forest and the booster with few trees, one step of tuning: the battery checks that they behave, not that they are
# good.
QUICK: dict[str, dict[str, Any]] = {
    "random_forest": {"trees": 5},
    "gradient_boosting": {"rounds": 10},
    "catboost": {"rounds": 5},
    "stacked_boosting": {"rounds": 5, "boosters": 1},
    "blend": {"members": ["linear_features", "nearest_neighbours"]},
    "sweep": {"contestant": "nearest_neighbours", "over": {"sharpness": [1.0, 4.0]}},
    "tune": {"max_steps": 1, "rank": 1, "evaluations": 0, "general": False, "max_tokens": 6},
}
APART = {"human", "autogluon"}  # a person, and a process of its own: their own tests hold them
ONE_LABEL = {checks.check_one_row, checks.check_one_answer}  # tuning refuses it, which its own tests hold
CASES = [
    pytest.param(name, kind, check, id=f"{name}-{kind}-{check.__name__}")
    for name, listed in registry.CONTESTANTS.items()
    if name not in APART
    for kind in sorted(listed.kinds)
    for check in checks.CHECKS
    if (name, kind) != ("tune", "label") or check not in ONE_LABEL
]


def contestant(name: str, kind: Kind, **settings: Any) -> Any:
    spec = ContestantSpec(name, QUICK.get(name, {}) | settings, name)
    return registry.build(spec, registry.Context(kind))


def answer(request: Request) -> str:
    """What stands in for a language model says: something that depends on the question alone."""
    number = sum(request.messages[-1].text.encode()) % 90 + 1
    return ["a", "b", "c"][number % 3] if "label" in str(request.messages[0].content).lower() else f"{number}.50"


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch, byte_model: Any) -> None:
    monkeypatch.setattr(open_models, "_opened", lambda reference, options, budget: byte_model(answer))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"hf:{tiny_model(tmp_path_factory.mktemp('battery') / 'chat')}"


@pytest.mark.parametrize(("name", "kind", "check"), CASES)
def test_battery(name: str, kind: Kind, check: checks.Check, tiny: str) -> None:
    if name == "catboost":
        pytest.importorskip("catboost", reason="the extra catboost is not installed")
    check(contestant(name, kind, **({"model": tiny} if name == "tune" else {})), kind)


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting", "stacked_boosting"])
def test_another_seed_gives_other_predictions(name: str) -> None:
    X, y = checks.table("number")
    one, other = contestant(name, "number"), contestant(name, "number", random_state=1)
    assert (one.fit(X, y).predict(X) != other.fit(X, y).predict(X)).any()


class Forgetful(BaseEstimator):  # type: ignore[misc]
    """Breaks one rule: what it says depends on the rows beside."""

    def fit(self, X: Any, y: Any) -> "Forgetful":
        self.fitted_ = True
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.arange(len(X), dtype=np.float64)


def test_the_battery_finds_what_is_wrong() -> None:
    with pytest.raises(AssertionError, match="Forgetful failed check_rows_apart: rows predicted one by one differ"):
        checks.check_contestant(Forgetful(), "number", skip=["check_missing_column", "check_saved_and_loaded"])


class Remembers(Forgetful):
    """Breaks another rule: a second fit does not forget the first."""

    def fit(self, X: Any, y: Any) -> "Remembers":
        self.mean_ = getattr(self, "mean_", float(np.mean(y)))
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.full(len(X), self.mean_)


def test_the_battery_finds_what_is_remembered() -> None:
    with pytest.raises(AssertionError, match="Remembers failed check_refit: a second fit remembers the first"):
        checks.check_contestant(Remembers(), "number")


def test_an_estimator_of_scikit_learn_passes() -> None:
    estimator = DummyClassifier()
    # It learns nothing of the columns, counts the rows of an empty table as an error, and keeps numpy's strings.
    checks.check_contestant(estimator, "label", skip=["check_empty_table"])
    assert not hasattr(clone(estimator), "classes_")
