"""Names and settings of a task file become estimators, or one clear sentence."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from sklearn.base import BaseEstimator

from kurabe.contestants import registry
from kurabe.contestants.trained.constant import Constant
from kurabe.contestants.trained.linear import TfidfRidge
from kurabe.errors import ContestantError
from kurabe.tasks.spec import ContestantSpec, Kind

OWN = "users_estimators"
KINDS: tuple[Kind, ...] = get_args(Kind)


def build(name: str, kind: Kind = "number", /, **settings: Any) -> Any:
    return registry.build(
        ContestantSpec(name, settings, name), registry.Context(kind, None, 7, allow_code=(OWN, "nowhere", "math"))
    )


@pytest.fixture
def own() -> Iterator[str]:
    """The name of an importable module with a user's estimators."""
    spec = importlib.util.spec_from_file_location(OWN, Path(__file__).with_name("estimators.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[OWN] = module
    spec.loader.exec_module(module)
    yield OWN
    del sys.modules[OWN]


def test_context_fills_what_the_user_did_not_set() -> None:
    built = build("tfidf_ridge", alpha=2)
    assert isinstance(built, TfidfRidge)
    assert (built.kind, built.random_state, built.alpha) == ("number", 7, 2.0)
    assert build("tfidf_ridge", random_state=3).random_state == 3


@pytest.mark.parametrize("name", registry.CONTESTANTS)
def test_the_table_says_what_the_class_says(name: str) -> None:
    listed = registry.CONTESTANTS[name]
    built = build(name, min(listed.kinds))
    assert built.kinds == listed.kinds
    assert isinstance(built, BaseEstimator)


@pytest.mark.parametrize(
    ("name", "kind", "settings", "message"),
    [
        ("tfidf_rigde", "number", {}, "no contestant 'tfidf_rigde'; did you mean 'tfidf_ridge'?"),
        ("xgboost", "number", {}, 'of another package is named as module:object, such as {"xgboost:XGBRegressor"'),
        ("tfidf_ridge", "label", {}, "tfidf_ridge does not answer tasks of kind label; use 'tfidf_logistic'"),
        ("tfidf_logistic", "number", {}, "tfidf_logistic does not answer tasks of kind number; use 'tfidf_ridge'"),
        ("random_forest", "text", {}, "does not answer tasks of kind text; these do: constant, nearest_neighbours"),
        ("tfidf_ridge", "number", {"alfa": 1}, "tfidf_ridge: no setting 'alfa'; did you mean 'alpha'?"),
        ("tfidf_ridge", "number", {"alpha": "much"}, "the setting alpha is 'much': expected float | null, got str"),
        ("constant", "number", {"strategy": "mode"}, "constant: no strategy 'mode'. There are: 'mean', 'median'"),
        ("random_forest", "number", {"trees": 2.5}, "the setting trees is 2.5: expected int, got float"),
        ("tune", "number", {"rank": 0}, "tune: the setting rank is 0: expected int >= 1"),
        ("tune", "number", {"epochs": 0}, "tune: the setting epochs is 0: expected float > 0"),
        ("tune", "number", {"learning_rate": -1}, "tune: the setting learning_rate is -1: expected float > 0"),
        ("tune", "number", {"patience": 0}, "tune: the setting patience is 0: expected int >= 1"),
        ("tune", "number", {"context": 0}, "tune: the setting context is 0: expected int >= 1"),
        ("tune", "number", {"target_modules": []}, "tune: the setting target_modules is []: expected array of length"),
        ("tune", "number", {"method": "lorra"}, "tune: no method 'lorra'; did you mean 'lora'? There are: 'lora', 'ql"),
        ("tune", "number", {"head": "quantile"}, "tune: no head 'quantile'; did you mean 'quantiles'? There are: 'reg"),
        ("tune", "number", {"model": "openai:m", "epochs": 0}, "tune: the setting epochs is 0: expected int >= 1"),
        ("tune", "number", {"model": "openai:m", "seed": -1}, "tune: the setting seed is -1: expected int >= 0"),
        ("nowhere:thing", "number", {}, "No module named 'nowhere'. The module must be importable"),
        ("math:", "number", {}, "not of the form module:object"),
        ("math:tau.", "number", {}, "not of the form module:object"),
        ("math:tao", "number", {}, "math: no object 'tao'; did you mean 'tau'?"),
        ("os:getcwd", "number", {}, "needs your consent. If you trust it, add --allow-code os"),
        (":thing", "number", {}, "not of the form module:object"),
        ("math:pi", "number", {}, "math:pi is not an estimator: float has no fit and no predict"),
    ],
)
def test_bad_entries_are_one_clear_sentence(name: str, kind: Kind, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ContestantError) as raised:
        build(name, kind, **settings)
    assert message in str(raised.value)


def test_an_estimator_of_ones_own(own: str) -> None:
    module = sys.modules[own]
    assert build(f"{own}:ready").factor == 2.0
    assert build(f"{own}:ready") is not module.ready
    assert build(f"{own}:ready", factor=5.0).factor == 5.0
    assert module.ready.factor == 2.0
    assert build(f"{own}:Longest", factor=4.0).factor == 4.0


@pytest.mark.parametrize(
    ("path", "settings", "message"),
    [
        ("reday", {}, "no object 'reday'; did you mean 'ready'?"),
        ("ready", {"facto": 1}, "no setting 'facto'; did you mean 'factor'?"),
        ("Longest", {"facto": 1}, "cannot be made: "),
        ("plain", {"a": 1}, "takes no settings"),
        ("no_estimator", {}, "is not an estimator: object has no fit and no predict"),
        ("make", {}, "is not an estimator: function has no fit and no predict"),
    ],
)
def test_mistakes_with_an_estimator_of_ones_own(own: str, path: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ContestantError) as raised:
        build(f"{own}:{path}", **settings)
    assert message in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_can_all_be_built_and_are_told_apart(kind: Kind) -> None:
    specs = registry.defaults(kind)
    assert len({spec.label for spec in specs}) == len(specs)
    for spec in specs:
        assert kind in registry.build(spec, registry.Context(kind)).kinds
    named = {spec.name for spec in specs}
    assert (
        named == {name for name, listed in registry.CONTESTANTS.items() if kind in listed.kinds} - registry.NAMED_ONLY
    )


def test_numbers_have_two_constants_and_at_least_ten_contestants() -> None:
    specs = registry.defaults("number")
    constants = [registry.build(spec, registry.Context("number")) for spec in specs if spec.name == "constant"]
    assert [constant.strategy for constant in constants if isinstance(constant, Constant)] == ["mean", "median"]
    assert len(specs) >= 10


def test_importing_the_registry_imports_no_contestant() -> None:
    code = "import sys, kurabe.contestants.registry; print([m for m in sys.modules if m.startswith('lightgbm')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
