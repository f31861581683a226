"""What a reader should be wary of: the winner's score flatters, and so many rows would tell the first two apart."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from kurabe.contest.board import Board, compute_board
from kurabe.contest.caution import noticeable, selection_bias
from kurabe.contest.evidence import Entry, Evidence, Status
from kurabe.contest.history import Uses
from kurabe.report.notes import notes


def entry(name: str, guesses: np.ndarray, status: Status = "done", answered: np.ndarray | None = None) -> Entry:
    n = len(guesses)
    mask = np.ones(n, dtype=bool) if answered is None else answered
    return Entry(name, None, status, None, guesses, mask, np.zeros(n, dtype=bool))


def labels(hits: np.ndarray, uses: Uses | None = None) -> Evidence:
    """A contest for labels of contestants that are right where (n, k) `hits` is true."""
    truth = np.array(["a", "b"] * len(hits), dtype=object)[: len(hits)]
    wrong = np.where(truth == "a", "b", "a").astype(object)
    entries = tuple(entry(f"c{place}", np.where(one, truth, wrong)) for place, one in enumerate(hits.T))
    rows = pl.DataFrame({"input": [str(n) for n in range(len(hits))]})
    return Evidence("task", "label", "accuracy", truth, rows, "a", entries, uses=uses)


def right(accuracies: Sequence[float], rows: int, generator: np.random.Generator) -> np.ndarray:
    """(rows, k) whether each contestant is right; some rows are harder for all of them (their correlation is .5)."""
    common, own = generator.random((rows, 1)), generator.random((rows, len(accuracies)))
    shared = generator.random((rows, len(accuracies))) < 0.5
    return np.asarray(np.where(shared, common, own) < np.array(accuracies))


def simulate(accuracies: Sequence[float], rows: int, boards: int) -> tuple[float, float, float, float]:
    """(what the winner's score flatters by and what is left of it after correction, in points; how often its interval
    and the corrected one hold the true accuracy)."""
    generator = np.random.default_rng(7)
    found = []
    for _ in range(boards):
        board = compute_board(labels(right(accuracies, rows, generator)), resamples=200)
        flattery, winner = board.flattery, board.rows[0]
        assert flattery is not None
        assert winner.score is not None
        assert winner.interval is not None
        assert flattery.interval is not None
        true = accuracies[int(winner.contestant[1:])]
        found.append((
            100 * (winner.score - true), 100 * (flattery.score - true),
            winner.interval[0] <= true <= winner.interval[1], flattery.interval[0] <= true <= flattery.interval[1],
        ))  # fmt: skip
    flattered, left, covered, corrected = np.mean(found, axis=0).tolist()
    return flattered, left, covered, corrected


def test_the_best_of_equals_flatters_and_the_correction_takes_it_away() -> None:
    flattered, left, covered, corrected = simulate([0.8] * 13, 100, 60)
    assert flattered > 3.5
    assert abs(left) < 1.2
    assert covered < 0.92
    assert corrected > 0.93


@pytest.mark.slow
@pytest.mark.parametrize("rows", [100, 250])
@pytest.mark.parametrize(
    "accuracies",
    [[0.8] * 13, [0.8, 0.8], [0.78, 0.8, 0.82], list(np.linspace(0.6, 0.84, 13)), [0.3, 0.5, *[0.8] * 11],
     [*[0.7] * 12, 0.9]],
    ids=["thirteen equals", "two equals", "three", "graded", "equals and two poor", "a clear winner"],
)  # fmt: skip
def test_bias_and_coverage(rows: int, accuracies: list[float]) -> None:
    flattered, left, covered, corrected = simulate(accuracies, rows, 400)
    print(
        f"{rows} rows: {flattered:+.1f} points, corrected {left:+.1f}; holds {covered:.1%}, corrected {corrected:.1%}"
    )
    assert abs(left) < max(0.25 * flattered, 0.8)
    assert corrected > 0.93


def test_two_that_always_agree_and_a_clear_winner_do_not_flatter() -> None:
    same = np.full((2, 2), 0.0016)
    assert selection_bias(np.array([0.8, 0.8]), same) < 0.002
    apart = np.eye(2) * 0.0016
    assert selection_bias(np.array([0.9, 0.3]), apart) < 0.001
    assert selection_bias(np.array([0.8, 0.8]), apart) == pytest.approx(0.04 / np.sqrt(np.pi), rel=0.1)


def test_of_errors_the_corrected_score_is_higher() -> None:
    generator = np.random.default_rng(1)
    truth = generator.normal(100.0, 20.0, 80)
    entries = tuple(entry(f"c{n}", truth + generator.normal(0.0, 5.0, 80)) for n in range(6))
    rows = pl.DataFrame({"input": [str(n) for n in range(80)]})
    board = compute_board(Evidence("task", "number", "mean_absolute_error", truth, rows, 0.0, entries))
    found, winner = board.flattery, board.rows[0]
    assert found is not None
    assert found.interval is not None
    assert winner.score is not None
    assert winner.interval is not None
    assert found.contestants == 6
    assert found.score == pytest.approx(winner.score + found.by)
    assert found.interval == pytest.approx((winner.interval[0], winner.interval[1] + found.by))
    assert board.to_dict()["flattery"]["by"] == found.by


def test_one_contestant_was_not_chosen() -> None:
    board = compute_board(labels(right([0.8], 60, np.random.default_rng(0))))
    assert (board.flattery, board.rows_to_tell) == (None, None)


def test_so_many_rows_tell_two_apart_in_four_of_five_contests() -> None:
    accuracies, generator = [0.85, 0.8], np.random.default_rng(3)
    large = compute_board(labels(right(accuracies, 20_000, generator)), resamples=10)
    assert large.rows_to_tell is None  # they are told apart
    # Two of three answers agree by chance or as both depend on the same rows: 80 % power needs rows as computed here.
    pilot = right(accuracies, 50_000, generator).astype(float)
    spread = float((pilot[:, 0] - pilot[:, 1]).std())
    needed = round((noticeable(1) * spread / 0.05) ** 2)
    told = sum(
        compute_board(labels(right(accuracies, needed, generator)), resamples=10).comparisons[0].p < 0.05
        for _ in range(150)
    )
    assert 0.7 < told / 150 < 0.9
    small = board_with_difference(1 / 50)
    assert small.rows_to_tell is not None
    assert (small.rows_to_tell.first, small.rows_to_tell.second) == ("c0", "c1")
    assert any("test rows would tell “c0” and “c1” apart" in note.text for note in notes(small))


def board_with_difference(share: float, rows: int = 200) -> Board:
    """Two contestants; the second is wrong more often by this share of the rows."""
    hits = np.ones((rows, 2), dtype=bool)
    hits[: rows // 10, 0] = False
    hits[rows // 10 : rows // 5 + round(share * rows), 1] = False
    return compute_board(labels(hits))


def test_a_smaller_difference_takes_more_rows() -> None:
    near, far = board_with_difference(0.01).rows_to_tell, board_with_difference(0.04).rows_to_tell
    assert near is not None
    assert far is not None
    assert 12 < near.rows / far.rows < 18  # the square of 4, and slightly other variances


def test_two_with_the_same_score_have_no_number_of_rows() -> None:
    assert board_with_difference(0.0).rows_to_tell is None


def test_a_note_says_how_often_test_rows_were_used() -> None:
    hits = right([0.8] * 3, 100, np.random.default_rng(0))
    texts = [note.text for note in notes(compute_board(labels(hits, Uses(4, 21))))]
    assert any("used by 21 contestants in 4 runs" in text for text in texts)
    assert any("The winner's score probably flatters by about" in text for text in texts)
    first = [note.text for note in notes(compute_board(labels(hits, Uses(1, 3))))]
    assert not any("have been used" in text for text in first)
