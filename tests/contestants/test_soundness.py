"""What this user has not saved is loaded without consent where it is sound, and where it is not, nothing crashes."""

import importlib.util
import io
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import polars as pl
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import (
    BaggingRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeRegressor
from tests.contestants import forge
from tests.contestants.forge import CODES, LABELS, NUMBERS, ROWS, TEXTS

from kurabe.contestants import persist, registry
from kurabe.contestants.checks import table
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.contestants.soundness import check
from kurabe.contestants.trained.booster_text import checked_text
from kurabe.contestants.trained.boosters import Booster
from kurabe.contestants.trained.catboost import CatBoostModel
from kurabe.contestants.trained.trees import GradientBoosting, RandomForest
from kurabe.errors import ContestantError, NotTrainedError
from kurabe.tasks.spec import ContestantSpec

SAVED = Path(__file__).with_name("data") / "saved-0.1.0.zip"  # by the last commit that signed nothing


@pytest.fixture
def another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, it lets this user have another key than the one who saved."""
    return lambda: monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another user"))


SETTINGS: dict[str, dict[str, Any]] = {
    "gradient_boosting": {"rounds": 5},
    "random_forest": {"trees": 5},
    "stacked_boosting": {"rounds": 5, "boosters": 1, "trees": 5},
    "catboost": {"rounds": 5},
    "prompt": {"model": "gguf:smollm2-135m"},
    "sweep": {"contestant": "random_forest", "over": {"trees": [2, 3]}, "trials": 2},
}
TRAINED = [
    (name, kind)
    for name, listed in registry.CONTESTANTS.items()
    for kind in ("number", "label")
    if kind in listed.kinds and name not in ("tune", "human", "autogluon")
]


@pytest.mark.parametrize(("name", "kind"), TRAINED)
def test_each_contestant_of_kurabe_is_loaded_by_another_user(
    name: str, kind: Any, tmp_path: Path, another_user: Callable[[], None]
) -> None:
    if name == "catboost" and importlib.util.find_spec("catboost") is None:
        pytest.skip("the extra `catboost` is not installed")
    X, y = table(kind, 60)
    trained = registry.build(ContestantSpec(name, SETTINGS.get(name, {}), name), registry.Context(kind)).fit(X, y)
    persist.save(trained, tmp_path / "one")
    another_user()
    loaded = persist.load(tmp_path / "one")
    if not isinstance(loaded, Prompt):  # which would ask its model
        assert (loaded.predict(X) == trained.predict(X)).all()


ESTIMATORS: list[tuple[Any, Any, Any]] = [
    *forge.CONTESTANTS,
    (BaggingRegressor(n_estimators=3), ROWS, NUMBERS),
    (CalibratedClassifierCV(GaussianNB(), cv=3), ROWS, LABELS),
    (GradientBoostingRegressor(n_estimators=3, init="zero"), ROWS, NUMBERS),
    (GradientBoostingRegressor(n_estimators=3, loss="quantile"), ROWS, NUMBERS),
    (HistGradientBoostingRegressor(max_iter=3), ROWS, NUMBERS),
    (make_pipeline(PolynomialFeatures(), Ridge()), ROWS, NUMBERS),
    (SGDClassifier(), ROWS, LABELS),
    (StackingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor())]), ROWS, NUMBERS),
    (VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())]), ROWS, LABELS),
    (make_pipeline(HashingVectorizer(n_features=64), SGDClassifier()), TEXTS, LABELS),
    (make_pipeline(StandardScaler(), KNeighborsClassifier(weights="distance")), ROWS, LABELS),
    (make_pipeline(TfidfVectorizer(), TruncatedSVD(2), GaussianNB()), TEXTS, LABELS),
    (
        make_pipeline(
            ColumnTransformer([("codes", OneHotEncoder(), ["code"]), ("rest", StandardScaler(), ["size"])]), Ridge()
        ),
        pl.DataFrame({"code": CODES[:, 0], "size": ROWS[:, 0]}),
        NUMBERS,
    ),
]


@pytest.mark.parametrize(
    ("estimator", "X", "y"),
    ESTIMATORS,
    ids=[f"{place} {type(one[0]).__name__}" for place, one in enumerate(ESTIMATORS)],
)
def test_usual_estimators_are_loaded_by_another_user(
    estimator: Any, X: Any, y: Any, tmp_path: Path, another_user: Callable[[], None]
) -> None:
    persist.save(estimator.fit(X, y), tmp_path / "one")
    another_user()
    assert (persist.load(tmp_path / "one").predict(X) == estimator.predict(X)).all()


@pytest.mark.parametrize("name", ["forest", "boosting"])
def test_what_an_earlier_version_saved_without_a_signature_is_loaded(name: str, tmp_path: Path) -> None:
    with ZipFile(SAVED) as archive:
        archive.extractall(tmp_path)
    manifest = json.loads((tmp_path / name / persist.MANIFEST).read_bytes())
    assert "signature" not in manifest
    X, _ = table("number")
    expected = {
        "forest": [32.66875, 10.33375, 10.33375],
        "boosting": [25.511015646978272, 14.482930986508174, 16.04996350576135],
    }
    assert persist.load(tmp_path / name).predict(X)[:3] == pytest.approx(expected[name])


# ---------------------------------------------------------------------------------------------------- what is not sound


def _tree_with(name: str, value: int) -> Callable[[Any], None]:
    def change(forest: Any) -> None:
        tree = forest.model_.estimators_[0].tree_
        state = tree.__getstate__()
        nodes = state["nodes"].copy()
        nodes[name][0] = value
        tree.__setstate__({**state, "nodes": nodes})

    return change


def _text_with(old: str, new: str) -> Callable[[Any], None]:
    def change(boosting: Any) -> None:
        first = boosting.model_["boosters"][0]
        first.text = first.text.replace(old, new, 1)

    return change


USE = """
import sys
from pathlib import Path
from kurabe.contestants import persist
from kurabe.contestants.trained.catboost import CatBoostModel
from kurabe.contestants.checks import table
from kurabe.errors import ContestantError
try:
    persist.load(Path(sys.argv[1])).predict(table("number")[0])
except ContestantError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("contestant", "change", "message"),
    [
        (RandomForest(trees=3), _tree_with("left_child", 10**9), "a child is out of range"),
        (GradientBoosting(rounds=3), _text_with("left_child=", "left_child=100000000 "), "the sizes of its trees"),
    ],
    ids=["forest", "boosting"],
)
def test_what_crashes_the_process_is_refused_from_somebody_else(
    contestant: Any, change: Callable[[Any], None], message: str, tmp_path: Path, another_user: Callable[[], None]
) -> None:
    contestant = contestant.fit(*table("number"))
    change(contestant)
    persist.save(contestant, tmp_path / "one")
    command = [sys.executable, "-c", USE, str(tmp_path / "one")]
    crashed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert crashed.returncode < 0, "the forgery does no harm, so this test shows nothing"
    another_user()
    refused = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert message in refused.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [("left_child", 0), ("right_child", -7), ("left_child", -1), ("feature", 10**6), ("feature", -1)],
)
def test_a_tree_whose_numbers_lead_out_of_it_is_refused(name: str, value: int) -> None:
    forest = RandomForest(trees=2).fit(*table("number"))
    check(forest)
    _tree_with(name, value)(forest)
    with pytest.raises(ContestantError, match="its Tree is damaged"):
        check(forest)


def _of_another_width(forest: Any) -> None:
    forest.model_.n_features_in_ -= 1


def _without_a_width(forest: Any) -> None:
    del forest.model_.n_features_in_


def _with_a_hidden_method(forest: Any) -> None:
    forest.model_._validate_X_predict = np.positive


@pytest.mark.parametrize("change", [_of_another_width, _without_a_width, _with_a_hidden_method])
def test_a_forest_that_would_not_check_its_table_is_refused(change: Callable[[Any], None]) -> None:
    forest = RandomForest(trees=2).fit(*table("number"))
    change(forest)
    with pytest.raises(ContestantError, match="RandomForestRegressor is damaged"):
        check(forest)


def _sparse_out_of_range() -> Any:
    matrix = sparse.csr_matrix(np.eye(3))
    matrix.indices[1] = 70_000
    return matrix


def _vocabulary_out_of_range() -> Any:
    vectorizer = CountVectorizer().fit(TEXTS)
    vectorizer.vocabulary_["w1"] = 70_000
    return vectorizer


def _too_few_features_hashed() -> Any:
    return HashingVectorizer(n_features=0)


def _one_hot_out_of_range() -> Any:
    encoder = OneHotEncoder(drop="first").fit(CODES)
    encoder._drop_idx_after_grouping[0] = -9
    return encoder


def _one_hot_without_order() -> Any:
    encoder = OneHotEncoder().fit(CODES)
    encoder.categories_[0] = encoder.categories_[0][::-1]
    return encoder


def _products_without_room() -> Any:
    return PolynomialFeatures(interaction_only=100)


def _boosting_of_other_labels() -> Any:
    model = GradientBoostingClassifier(n_estimators=2).fit(ROWS, LABELS)
    model.init_ = GradientBoostingClassifier(n_estimators=2).fit(ROWS, LABELS == "a").init_
    return model


def _histograms_out_of_range() -> Any:
    model = HistGradientBoostingRegressor(max_iter=2).fit(ROWS, NUMBERS)
    model._predictors[0][0].nodes["feature_idx"][0] = 70_000
    return model


def _histograms_with_other_bitsets() -> Any:
    model = HistGradientBoostingRegressor(max_iter=2, categorical_features=[0]).fit(CODES, CODES[:, 0] == 2)
    model._preprocessor = None
    for (tree,) in model._predictors:
        tree.nodes["bitset_idx"][:] = 70_000
    return model


def _neighbours_with_other_labels() -> Any:
    model = KNeighborsClassifier(algorithm="brute").fit(ROWS, LABELS)
    model._y[0] = 70_000
    return model


def _random_state_out_of_range() -> Any:
    state = np.random.RandomState(0)
    values = state.get_state(legacy=False)
    values["state"]["pos"] = 70_000
    state.set_state(values)
    return state


@pytest.mark.parametrize(
    "make",
    [
        _sparse_out_of_range,
        _vocabulary_out_of_range,
        _too_few_features_hashed,
        _one_hot_out_of_range,
        _one_hot_without_order,
        _products_without_room,
        _boosting_of_other_labels,
        _histograms_out_of_range,
        _histograms_with_other_bitsets,
        _neighbours_with_other_labels,
        _random_state_out_of_range,
    ],
)
def test_numbers_that_c_code_would_follow_out_of_its_arrays_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ContestantError, match="is damaged"):
        check({"deep": [make()]})


def test_a_tree_of_neighbours_is_built_anew() -> None:
    model = KNeighborsClassifier(algorithm="kd_tree").fit(ROWS, LABELS)
    other = model._tree
    check(model)
    assert model._tree is not other
    assert (model.predict(ROWS) == KNeighborsClassifier(algorithm="kd_tree").fit(ROWS, LABELS).predict(ROWS)).all()


def test_an_object_of_a_type_that_is_not_known_is_named(tmp_path: Path, another_user: Callable[[], None]) -> None:
    persist.save(Ridge().fit(ROWS, NUMBERS), tmp_path / "one")
    forged = Ridge().fit(ROWS, NUMBERS)
    forged.coef_ = np.random.Generator(np.random.MT19937(0))
    forge.agree(tmp_path / "one", skops.io.dumps(forged))
    another_user()
    with pytest.raises(NotTrainedError, match="Generator is damaged"):
        persist.load(tmp_path / "one")


# ------------------------------------------------------------------------------------------------------------- boosters


@cache
def _texts() -> list[str]:
    """Boosters of numbers, of two and of three labels, with categories."""
    X, prices = table("number", 400)
    two = table("label", 400)[1]
    X = X.select("thing", "size")
    fitted = [GradientBoosting(rounds=2).fit(X, y) for y in (prices, two, X["thing"].to_numpy())]
    return [booster.text for one in fitted for booster in one.model_["boosters"]]


@cache
def _trees() -> list[str]:
    return [text[: text.index("end of trees")] + "end of trees\n" for text in _texts()]


def test_the_trees_of_boosters_are_sound_and_all_that_is_kept() -> None:
    assert any("cat_boundaries" in text for text in _trees()), "no category is split by"
    for text, trees in zip(_texts(), _trees(), strict=True):
        assert checked_text(text) == trees
        assert checked_text(trees) == trees


@given(st.deferred(lambda: st.sampled_from(_trees())), st.data())
def test_whatever_is_changed_in_a_booster_the_answer_is_one_error(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    changed = text[:start] + data.draw(st.text(max_size=8)) + text[end:]
    with suppress(ContestantError):
        assert checked_text(changed) == changed[: changed.index("\nend of trees\n") + 14]


FIELDS = ["num_leaves", "num_cat", "split_feature", "left_child", "right_child", "cat_boundaries", "decision_type"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", ["70000", "-70000", "", "x", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17"])
def test_a_field_that_leads_out_of_a_tree_is_refused(field: str, value: str) -> None:
    text = next(text for text in _trees() if "cat_boundaries" in text)
    with pytest.raises(ContestantError, match="not as LightGBM writes it"):
        checked_text(_with_sizes(re.sub(rf"(?m)(?<=^{field}=).*", value, text)))


def _with_sizes(text: str) -> str:
    """The text with the sizes that its trees have."""
    trees = re.split(r"(?m)^(?=Tree=|end of trees)", text)[1:-1]
    return re.sub(r"(?m)(?<=^tree_sizes=).*", " ".join(str(len(tree)) for tree in trees), text)


def _forged(text: str, draw: random.Random) -> str:
    """The text with one number of its trees or its header changed, and the sizes that they then have."""
    place = draw.choice(list(re.finditer(r"(?<=[= :])-?[\d.]+(?=[ \n])", text)))
    number = str(draw.choice([*forge.CHANGED, 2**31, "0.5", "inf", "nan"]))
    return _with_sizes(text[: place.start()] + number + text[place.end() :])


LIGHTGBM = """
import json, sys
import numpy as np
from kurabe.contestants.trained.boosters import Booster
from kurabe.contestants.trained.booster_text import checked_text
from kurabe.errors import ContestantError
refused = used = 0
for text in json.load(sys.stdin):
    try:
        checked = checked_text(text)
    except ContestantError:
        refused += 1
        continue
    used += 1
    try:
        Booster(checked).predict(np.array([[0.0, 3.0], [np.nan, 1e30], [-5.0, np.inf], [70000.0, -1e30]]))
    except ContestantError:
        pass
print(json.dumps([refused, used]))
"""


def test_lightgbm_survives_what_is_not_refused() -> None:
    draw = random.Random(1)
    texts = [_forged(draw.choice(_trees()), draw) for _ in range(2_000)]
    done = subprocess.run(
        [sys.executable, "-c", LIGHTGBM],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    refused, used = json.loads(done.stdout.splitlines()[-1])
    assert refused > 300
    assert used > 300


def test_a_model_of_catboost_that_cannot_be_read_is_refused() -> None:
    pytest.importorskip("catboost")
    with pytest.raises(ContestantError, match="its model of CatBoost can't be read, or crashes"):
        check(CatBoostModel(b"CBM1" + bytes(range(256)), 0))


def test_a_booster_that_fits_no_table_is_one_error() -> None:
    with pytest.raises(ContestantError, match="the saved model cannot be read"):
        Booster(_trees()[0]).predict(np.zeros((2, 5)))


# ---------------------------------------------------------------------------------------------------------- whole files


def _survives(folder: Path, tries: int, seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.contestants.forge", str(folder), str(tries), str(seed)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    counts = json.loads(done.stdout.splitlines()[-1])
    assert min(counts.values()) > tries


def test_whatever_is_changed_in_a_file_nothing_crashes(tmp_path: Path) -> None:
    _survives(tmp_path, 12, 1)


@pytest.mark.slow
def test_whatever_is_changed_in_many_files_nothing_crashes(tmp_path: Path) -> None:
    _survives(tmp_path, 400, 2)


# ------------------------------------------------------------------------------------------------- files that take much


def _node(loader: str, name: str, number: int, **content: Any) -> dict[str, Any]:
    module, _, cls = name.rpartition(".")
    return {"__class__": cls, "__module__": module, "__loader__": loader, "__id__": number, **content}


def _list(number: int, *items: Any) -> dict[str, Any]:
    return _node("ListNode", "builtins.list", number, content=list(items))


def _packed(schema: str, **members: bytes) -> bytes:
    file = io.BytesIO()
    with ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("schema.json", schema)
    return file.getvalue()


def _written(*items: Any, **members: bytes) -> bytes:
    return _packed(json.dumps({"protocol": 2, **_list(10**6, *items)}), **members)


def _references_that_double() -> bytes:
    value = _node("JsonNode", "builtins.str", 1, content="1", is_json=True)
    for number in range(2, 60):
        value = _list(number, value, {"__id__": number - 1})
    return _written(value)


def _short_objects_that_double() -> bytes:
    value = _list(1, _node("JsonNode", "builtins.str", 99, content="1", is_json=True))
    for number in range(2, 60):
        value = _list(number, value, _list(number - 1))
    return _written(value)


def _array_read_often() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(1000))
    return _written(
        *(_node("NdArrayNode", "numpy.ndarray", n, type="numpy", file="a") for n in (1, 2)), a=file.getvalue()
    )


def _archive_in_place_of_an_array() -> bytes:
    return _written(_node("NdArrayNode", "numpy.ndarray", 1, type="numpy", file="a"), a=_packed("{}"))


def _no_estimator() -> bytes:
    return _written(_node("JsonNode", "builtins.str", 1, content="1", is_json=True))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_references_that_double, "refers to what is not written there"),
        (_short_objects_that_double, "two objects under one number"),
        (_array_read_often, "reads a part twice"),
        (_archive_in_place_of_an_array, "an array of it is none"),
        (_no_estimator, "it holds a list, which predicts nothing"),
    ],
)
def test_a_small_file_that_would_take_much_time_or_memory_is_refused(
    make: Callable[[], bytes], said: str, tmp_path: Path, another_user: Callable[[], None]
) -> None:
    persist.save(Ridge().fit(ROWS, NUMBERS), tmp_path / "one")
    allowed = forge.agree(tmp_path / "one", make())
    another_user()
    with pytest.raises(NotTrainedError, match=said):
        persist.load(tmp_path / "one", None, [allowed])


def _packed_matrix() -> bytes:
    file = io.BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED) as archive, archive.open("data.npy", "w") as part:
        for _ in range(900):
            part.write(bytes(1 << 20))
    return _written(
        _node("SparseMatrixNode", "scipy.sparse._csr.csr_matrix", 1, type="scipy", file="a"), a=file.getvalue()
    )


def _long_description() -> bytes:
    return _packed('{"protocol": 2, "x": [' + "[]," * 7_000_000 + "0]}")


@pytest.mark.parametrize(
    ("make", "said"),
    [(_packed_matrix, "sparse matrices of 900 MiB"), (_long_description, "a description of so many objects")],
)
def test_what_unpacks_to_very_much_needs_consent(
    make: Callable[[], bytes], said: str, tmp_path: Path, another_user: Callable[[], None]
) -> None:
    persist.save(Ridge().fit(ROWS, NUMBERS), tmp_path / "one")
    forge.agree(tmp_path / "one", make())
    another_user()
    assert not persist.is_usable(tmp_path / "one")
    with pytest.raises(NotTrainedError, match=f"can't check what is in it: {said}.*--allow-code sha256:"):
        persist.load(tmp_path / "one")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_a_pipe_in_place_of_an_estimator_is_not_waited_for(tmp_path: Path) -> None:
    persist.save(Ridge().fit(ROWS, NUMBERS), tmp_path / "one")
    (tmp_path / "one" / persist.FILE).unlink()
    os.mkfifo(tmp_path / "one" / persist.FILE)
    with pytest.raises(NotTrainedError, match="it has no file"):
        persist.load(tmp_path / "one")
