from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from kurabe.contestants.keys import digest, estimator_digest, input_digests, part_digest
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.contestants.tuned.tune_hosted import TuneHosted
from kurabe.tasks.task import Part


def test_parts_cannot_run_into_each_other() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", "") != digest("a")


def test_rows_are_told_apart_by_every_column() -> None:
    X = pl.DataFrame({"a": ["x", "x", "x"], "b": [1, 2, 1], "input": ["t", "t", "t"]})
    one, two, three = input_digests(X)
    assert one == three != two
    assert input_digests(X[1:2]) == [two]


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=10))
def test_a_text_has_one_digest_wherever_it_stands(texts: list[str]) -> None:
    found = input_digests(pl.DataFrame({"input": texts}))
    assert all((found[i] == found[j]) == (texts[i] == texts[j]) for i in range(len(texts)) for j in range(len(texts)))


def test_estimators_are_known_by_class_and_settings_however_deep() -> None:
    assert estimator_digest(Ridge(1.0)) == estimator_digest(Ridge(1.0))
    assert estimator_digest(Ridge(1.0)) != estimator_digest(Ridge(2.0))
    assert estimator_digest(Ridge(1.0)) != estimator_digest(LogisticRegression())
    assert estimator_digest(make_pipeline(Ridge(1.0))) != estimator_digest(make_pipeline(Ridge(3.0)))
    assert estimator_digest(Ridge(alpha=np.float64(1.0))) == estimator_digest(Ridge(alpha=1.0))


def test_data_is_known_by_inputs_and_targets() -> None:
    X = pl.DataFrame({"input": ["a", "b"]})
    part = Part(X, np.array([1.0, 2.0]), X)
    same = Part(X.clone(), np.array([1.0, 2.0]), X)
    other = Part(X, np.array([1.0, 3.0]), X)
    assert part_digest([part]) == part_digest([same]) != part_digest([other])
    assert part_digest([part, None]) != part_digest([part])


def test_how_a_prompted_model_answers_counts() -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"decode": "score"},
        {"decode": "likelihood"},
        {"decode": "score", "calibrate": True},
    ]
    digests = {estimator_digest(Prompt(kind="label", **some)) for some in settings}
    assert len(digests) == len(settings)


def test_how_long_a_provider_is_waited_for_is_no_part_of_it() -> None:
    for made in (Prompt, TuneHosted):
        for options in (None, {"base_url": "http://127.0.0.1"}):
            patient = {**(options or {}), "policy": {"failures": 50}}
            assert estimator_digest(made(options=patient)) == estimator_digest(made(options=options))
        assert estimator_digest(made(options={"base_url": "http://127.0.0.1"})) != estimator_digest(made())
