"""Which test rows belong together."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kurabe import Task
from kurabe.contest.board import compute_board
from kurabe.contest.journal import Journal
from kurabe.contest.prepare import journal_path
from kurabe.contest.units import find_units, single_rows, unit_sums
from kurabe.errors import DataError
from kurabe.tasks.metrics import METRICS


def test_rows_with_the_same_input_are_copies_that_count_once() -> None:
    units = find_units(np.array([1.0, 2.0, 1.0, 3.0]), [b"a", b"b", b"a", b"c"])
    assert units.count == 3
    assert units.codes.tolist() == [0, 1, 0, 2]
    assert units.weights.tolist() == [0.5, 1, 0.5, 1]
    assert units.copies == 1


def test_few_values_that_coincide_by_chance_are_no_copies() -> None:
    random = np.random.default_rng(0)
    cells = random.integers(0, 12, 200)
    survived = np.where(random.random(200) < 0.2 + 0.05 * cells, "yes", "no").astype(object)
    assert find_units(survived, [bytes([cell]) for cell in cells]).plain


def test_groups_are_units_and_a_missing_group_is_one_row() -> None:
    units = find_units(np.arange(6.0), clusters=pl.Series(["x", "y", None, "x", None, "y"]))
    assert units.codes.tolist()[:2] == units.codes.tolist()[3::2]
    assert units.count == 4
    assert (units.weights == 1).all()


def test_groups_that_share_a_copy_are_one_unit() -> None:
    units = find_units(np.array([5.0, 1.0, 5.0, 2.0]), [b"a", b"b", b"a", b"c"], pl.Series(["x", "x", "y", "z"]))
    assert units.codes.tolist() == [0, 0, 0, 1]
    assert units.weights.tolist() == [0.5, 1, 0.5, 1]


@pytest.mark.parametrize("name", ["r2", "macro_f1", "mean_absolute_error"])
def test_unit_sums_give_the_score(name: str) -> None:
    random = np.random.default_rng(1)
    metric = METRICS[name]
    truth, guess = random.normal(0, 1, (2, 60)) if metric.kind == "number" else random.choice(list("abc"), (2, 60))
    groups = pl.Series(random.integers(0, 20, 60))
    for units in (single_rows(60), find_units(truth, clusters=groups), find_units(truth)):
        sums, sizes = unit_sums(metric.statistics(truth, guess), units)
        score = metric.finish(np.asarray(sums.sum(axis=0)).ravel() / sizes.sum())
        assert float(score) == pytest.approx(metric.score(truth, guess))


def test_units_of_some_rows_keep_their_weights() -> None:
    units = find_units(np.array([1.0, 1.0, 2.0]), [b"a", b"a", b"b"]).on(np.array([True, False, True]))
    assert (units.codes.tolist(), units.weights.tolist(), units.count) == ([0, 1], [0.5, 1], 2)


@pytest.mark.parametrize("key", ["cluster", "group"])
def test_groups_of_the_task_reach_the_journal_s_evidence(tmp_path: Path, key: str) -> None:
    random = np.random.default_rng(2)
    frame = pl.DataFrame({"shop": [f"s{row // 5}" for row in range(200)], "size": random.random(200)})
    frame = frame.with_columns(price=3 * pl.col("size") + random.normal(0, 0.1, 200))
    more = {"cluster": "shop"} if key == "cluster" else {"split": {"test": 0.3, "group": "shop"}}
    task = Task.from_frame(frame, target="price", contestants=["constant"], folder=tmp_path, **more)
    task.compete()
    with Journal(journal_path(tmp_path)) as journal:
        evidence = journal.evidence(journal.runs()[0].id)
    assert evidence.cluster == "shop"
    assert evidence.units.count == evidence.rows["shop"].n_unique() < len(evidence.truth)
    assert compute_board(evidence, 200).rows[0].score is not None


def test_a_cluster_that_is_no_column_is_refused() -> None:
    with pytest.raises(DataError, match="shop"):
        Task.from_frame(pl.DataFrame({"a": [1.5, 2, 3], "b": [1.5, 2, 3]}), target="b", kind="number", cluster="shop")
