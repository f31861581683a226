"""The board: scores, ranks, ties, order, and the cases with little or nothing to score."""

import dataclasses
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from kurabe.contest.board import Board, compute_board
from kurabe.contest.evidence import Entry, Evidence, Status
from kurabe.errors import ContestantError
from kurabe.tasks.metrics import METRICS
from kurabe.tasks.spec import Kind


def entry(name: str, guesses: Any, status: Status = "done", answered: Any = None, **more: Any) -> Entry:
    values = np.asarray(guesses)
    if values.dtype.kind != "f":
        values = values.astype(object)
    everywhere = np.ones(len(values), dtype=bool)
    return Entry(
        name=name,
        model=None,
        status=status,
        reason=more.pop("reason", None),
        guesses=values,
        answered=everywhere if answered is None else np.asarray(answered),
        unread=more.pop("unread", ~everywhere),
        **more,
    )


def evidence(kind: Kind, metric: str, truth: Any, *entries: Entry) -> Evidence:
    values = np.asarray(truth) if kind == "number" else np.array(truth, dtype=object)
    fallback = 0.0 if kind == "number" else "a"
    return Evidence("prices", kind, metric, values, pl.DataFrame({"input": ["x"] * len(values)}), fallback, entries)


def numbers(n: int = 300) -> tuple[np.ndarray, Evidence]:
    random = np.random.default_rng(3)
    # 64ths are exact in binary, so that errors of +x and -x are equal to the last bit.
    truth = np.round(64 * random.lognormal(3, 1, n)) / 64
    noise = np.round(64 * random.normal(0, 1, n)) / 64
    return truth, evidence(
        "number",
        "mean_absolute_error",
        truth,
        entry("bad", truth + 9 * noise),
        entry("good", truth + noise),
        entry("twin", truth - noise),
        entry("again", truth + noise),
        entry("never", np.full(n, np.nan), "skipped", np.zeros(n, dtype=bool), reason="no key"),
        entry("broke", np.full(n, np.nan), "failed", np.zeros(n, dtype=bool), reason="it broke"),
        entry("half", np.where(np.arange(n) < n // 2, truth + noise / 2, np.nan), "partial", np.arange(n) < n // 2),
    )


def by_name(board: Board) -> dict[str, Any]:
    return {row.contestant: row for row in board.rows}


def test_rows_are_ranked_by_what_the_tests_can_tell_apart() -> None:
    board = compute_board(numbers()[1], resamples=500)
    assert [row.contestant for row in board.rows] == ["good", "twin", "again", "bad", "half", "broke", "never"]
    assert {row.contestant: row.rank for row in board.rows} == {
        "half": None,
        "good": 1,
        "twin": 1,
        "again": 1,
        "bad": 4,
        "broke": None,
        "never": None,
    }
    assert {row.contestant: row.rank_range for row in board.rows if row.rank} == {
        "good": (1, 3), "twin": (1, 3), "again": (1, 3), "bad": (4, 4)
    }  # fmt: skip
    assert board.winner_name == "good"
    assert board.row("bad").rank == 4
    with pytest.raises(ContestantError, match="did you mean 'good'"):
        board.row("god")


def test_scores_and_second_metrics_are_those_of_the_rows_answered() -> None:
    truth, found = numbers()
    board = compute_board(found, resamples=500)
    half = np.arange(300) < 150
    for name, mask in (("good", np.ones(300, dtype=bool)), ("half", half)):
        row = board.row(name)
        guesses = next(one.guesses for one in found.entries if one.name == name)
        assert row.score is not None
        assert row.controlled is None  # of a run that was broken off, the rows answered count
        assert row.score == pytest.approx(np.abs(guesses - truth)[mask].mean())
        assert row.interval is not None
        assert row.interval[0] < row.score < row.interval[1]
        assert row.answered == mask.sum()
        assert list(row.second) == ["median_absolute_error", "root_mean_squared_log_error", "r2", "within_20_percent"]
        for metric, value in row.second.items():
            assert value == pytest.approx(METRICS[metric].score(truth[mask], guesses[mask]))
    assert board.row("broke").second == {}
    assert board.row("broke").reason == "it broke"


def test_a_sample_is_scored_for_all_rows() -> None:
    truth, found = numbers()
    entries = tuple(replace(one, status="done") if one.name == "half" else one for one in found.entries)
    row = compute_board(replace(found, entries=entries), resamples=500).row("half")
    guesses = next(one.guesses for one in entries if one.name == "half")
    assert row.controlled is not None
    assert row.controlled < 0.8
    assert row.score != pytest.approx(np.abs(guesses - truth)[:150].mean())


def test_every_pair_with_scores_is_compared_on_the_rows_both_answered() -> None:
    board = compute_board(numbers()[1], resamples=500)
    pairs = {frozenset((test.a, test.b)): test for test in board.comparisons}
    assert len(pairs) == len(board.comparisons) == 10
    assert pairs[frozenset(("good", "bad"))].rows == 300
    assert pairs[frozenset(("half", "bad"))].rows == 150
    same = pairs[frozenset(("good", "again"))]
    assert (same.difference, same.interval, same.p, same.p_adjusted) == (0.0, (0.0, 0.0), 1.0, 1.0)
    assert all(test.p <= test.p_adjusted <= 1 for test in board.comparisons)


def test_the_same_evidence_gives_the_same_board() -> None:
    found = numbers()[1]
    first, second = (compute_board(found, resamples=500) for _ in range(2))
    assert first.rows == second.rows
    assert first.comparisons == second.comparisons


def test_json_is_plain_and_complete() -> None:
    document = json.loads(json.dumps(compute_board(numbers()[1], resamples=200).to_dict(), allow_nan=False))
    assert list(document) == ["task", "kind", "metric", "effective_rows", "rows", "flattery", "rows_to_tell", "uses"]
    assert list(document["rows"][0]) == [
        "contestant", "model", "rank", "rank_range", "score", "interval", "controlled", "unread", "answered", "usd",
        "fit_seconds", "predictions_per_second", "status", "reason",
    ]  # fmt: skip
    assert len(document["rows"][0]["interval"]) == 2
    assert document["rows"][0]["rank_range"] == [1, 3]


@pytest.mark.parametrize("few", [2, 4, 6, 10, 150])
def test_a_partial_run_changes_no_test_of_those_that_are_done(few: int) -> None:
    random = np.random.default_rng(0)
    truth = np.zeros(250)
    both = entry("a", np.abs(random.normal(0, 1, 250))), entry("b", np.abs(random.normal(0, 1.22, 250)))
    answered = np.arange(250) < few
    half = entry("half", np.where(answered, 2.0, np.nan), "partial", answered)
    alone = compute_board(evidence("number", "mean_absolute_error", truth, *both), resamples=50)
    beside = compute_board(evidence("number", "mean_absolute_error", truth, *both, half), resamples=50)
    assert alone.comparisons[0].p_adjusted < 0.05
    assert beside.comparisons[0] == alone.comparisons[0]
    assert [(test.a, test.b) for test in beside.comparisons] == [("a", "b"), ("a", "half"), ("b", "half")]


def test_a_partial_run_never_stands_among_ranked_rows_and_these_stand_in_order_of_score() -> None:
    random = np.random.default_rng(1)
    truth = random.lognormal(3, 1, 200)
    few = np.arange(200) < 25
    entries = [entry(f"close {k}", truth + random.normal(0, 1 + 0.02 * k, 200)) for k in range(8)]
    worst = entry("worst", np.where(few, 50 * truth, np.nan), "partial", few)
    best = entry("best", np.where(few, truth, np.nan), "partial", few)
    board = compute_board(evidence("number", "mae", truth, worst, best, *entries[::-1]), 300)
    ranked = [row.score or 0.0 for row in board.rows if row.rank is not None]
    assert ranked == sorted(ranked)
    assert [row.contestant for row in board.rows[8:]] == ["best", "worst"]


def test_labels_are_tested_by_mcnemar_and_sorted_by_the_greatest() -> None:
    truth = ["a", "b"] * 50
    right = np.array(truth, dtype=object)
    worse, worst = right.copy(), right.copy()
    worse[:6] = "c"
    worst[:30] = "c"
    board = compute_board(
        evidence("label", "accuracy", truth, entry("worst", worst), entry("worse", worse), entry("right", right)), 300
    )
    assert [(row.contestant, row.score, row.rank) for row in board.rows] == [
        ("right", 1.0, 1),
        ("worse", 0.94, 2),
        ("worst", 0.7, 3),
    ]
    raw = {frozenset((test.a, test.b)): test.p for test in board.comparisons}
    assert raw[frozenset(("worse", "right"))] == pytest.approx(2 * 0.5**6)
    assert raw[frozenset(("worse", "worst"))] == pytest.approx(2 * 0.5**24)
    interval = board.row("right").interval
    assert interval is not None
    assert interval[0] == pytest.approx(100 / (100 + 1.959964**2))
    assert interval[1] == 1.0


def test_macro_f1_is_tested_by_its_own_difference_and_not_by_accuracy() -> None:
    truth = ["a"] * 90 + ["b"] * 10
    constant = ["a"] * 100
    finder = ["a"] * 70 + ["b"] * 30
    board = compute_board(
        evidence("label", "macro_f1", truth, entry("constant", constant), entry("finder", finder)), 300
    )
    assert [row.contestant for row in board.rows] == ["finder", "constant"]
    assert board.comparisons[0].p < 0.01
    assert [row.rank for row in board.rows] == [1, 2]


def test_texts_are_scored_and_tested() -> None:
    truth = [f"red car {number}" for number in range(60)]
    board = compute_board(
        evidence("text", "token_f1", truth, entry("none", ["no"] * 60), entry("near", ["red car"] * 60)), 300
    )
    assert [(row.contestant, row.rank) for row in board.rows] == [("near", 1), ("none", 2)]
    assert board.rows[0].score == pytest.approx(0.8)
    assert list(board.rows[0].second) == ["exact_match", "rouge_l", "chrf"]


def test_speed_cost_and_unread_come_from_the_entry() -> None:
    truth = np.arange(4.0)
    unread = np.array([True, False, False, False])
    one = entry("one", truth, predict_seconds=2.0, fit_seconds=1.5, usd=None, peak_bytes=7, unread=unread)
    two = entry("two", truth, predict_seconds=0.0)
    rows = by_name(compute_board(evidence("number", "mae", truth, one, two), 100))
    assert rows["one"].predictions_per_second == 2.0
    assert (rows["one"].usd, rows["one"].fit_seconds, rows["one"].peak_bytes, rows["one"].unread) == (None, 1.5, 7, 1)
    assert rows["two"].predictions_per_second is None


def test_all_answers_unread_still_have_a_score() -> None:
    truth = np.array([1.0, 2.0, 9.0, 4.0])
    row = compute_board(
        evidence("number", "mae", truth, entry("mute", np.full(4, 3.0), unread=np.ones(4, dtype=bool))), 200
    ).rows[0]
    assert (row.unread, row.score, row.rank) == (4, 2.5, 1)


@pytest.mark.parametrize("kind", ["number", "label", "text"])
def test_no_rows_and_one_row(kind: Kind) -> None:
    metric = {"number": "mae", "label": "accuracy", "text": "token_f1"}[kind]
    guess = [3.0] if kind == "number" else ["a"]
    truth = [1.0] if kind == "number" else ["a"]
    empty = compute_board(
        evidence(kind, metric, truth[:0], entry("x", np.array(guess)[:0]), entry("y", np.array(guess)[:0]))
    )
    assert [(row.score, row.rank, row.interval) for row in empty.rows] == [(None, None, None)] * 2
    assert (empty.comparisons, empty.winner_name) == ((), None)
    single = compute_board(evidence(kind, metric, truth, entry("x", guess), entry("y", guess)))
    assert [(row.rank, row.interval) for row in single.rows] == [(1, None)] * 2
    assert single.rows[0].score == (2.0 if kind == "number" else 1.0)
    assert single.comparisons == ()


def test_a_metric_that_is_not_defined_gives_no_score_and_says_so() -> None:
    board = compute_board(
        evidence("number", "r2", np.full(5, 2.0), entry("x", np.arange(5.0)), entry("y", np.arange(5.0) + 1)), 100
    )
    assert [(row.score, row.rank, row.reason) for row in board.rows] == [
        (None, None, "R² is not defined on the rows answered")
    ] * 2
    assert board.comparisons == ()
    assert board.winner_name is None
    mae = compute_board(evidence("number", "mae", np.full(5, 2.0), entry("x", np.arange(5.0))), 100).rows[0]
    assert mae.score is not None
    assert math.isnan(mae.second["r2"])


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_makes_a_board(name: str) -> None:
    metric = METRICS[name]
    random = np.random.default_rng(0)
    if metric.kind == "number":
        truth = random.lognormal(2, 0.5, 80)
        near: Any = truth * random.lognormal(0, 0.1, 80)
        far: Any = random.permutation(truth)
    else:
        truth = np.array(random.choice(["red car", "blue", "green"], 80), dtype=object)
        near = np.where(random.random(80) < 0.9, truth, "blue")
        far = random.permutation(truth)
    board = compute_board(evidence(metric.kind, name, truth, entry("far", far), entry("near", near)), 500)
    assert [row.contestant for row in board.rows] == ["near", "far"]
    assert [row.rank for row in board.rows] == [1, 2]
    for row in board.rows:
        assert row.score is not None
        assert row.interval is not None
        assert row.interval[0] < row.score < row.interval[1]
        guesses = near if row.contestant == "near" else far
        assert row.score == pytest.approx(metric.score(truth, guesses))


def test_a_board_does_not_depend_on_the_order_of_contestants() -> None:
    found = numbers()[1]
    turned = dataclasses.replace(found, entries=found.entries[::-1])
    first, second = (by_name(compute_board(one, resamples=500)) for one in (found, turned))
    for name, row in first.items():
        assert second[name].rank == row.rank
        assert second[name].interval == (None if row.interval is None else pytest.approx(row.interval, rel=1e-9))
