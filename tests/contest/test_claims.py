"""What the board claims holds on simulated boards: nobody is told apart who is equal more often than stated, true ranks
lie in their ranges, and the tests find what valid tests find. docs/scores.md has the figures."""

import itertools
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from kurabe.contest.board import compute_board
from kurabe.contest.evidence import Entry, Evidence
from kurabe.contest.pairs import answers, compare, mcnemar_exact
from kurabe.contest.statistics import holm
from kurabe.tasks.metrics import METRICS
from kurabe.tasks.swaps import Pair, SwapTests, swap_tests

Draw = Callable[[np.random.Generator, int, int], tuple[np.ndarray, list[np.ndarray]]]
"""From n rows and k contestants to the (n,) truth and k (n,) guesses."""


def alike(random: np.random.Generator, n: int, contestants: int) -> list[np.ndarray]:
    """(n,) standard normal numbers of each contestant; those of two contestants correlate at .36 over rows, since some
    rows are harder for all."""
    hard = random.normal(0, 1, n)
    return [0.6 * hard + 0.8 * random.normal(0, 1, n) for _ in range(contestants)]


def errors(shape: Callable[[np.ndarray], np.ndarray]) -> Draw:
    def draw(random: np.random.Generator, n: int, contestants: int) -> tuple[np.ndarray, list[np.ndarray]]:
        return np.zeros(n), [shape(part) for part in alike(random, n, contestants)]

    return draw


def ties(random: np.random.Generator, n: int, contestants: int) -> tuple[np.ndarray, list[np.ndarray]]:
    guesses = [np.where(random.random(n) < 0.2, np.exp(part), 1.0) for part in alike(random, n, contestants)]
    return np.zeros(n), guesses


def prices(random: np.random.Generator, n: int, contestants: int) -> tuple[np.ndarray, list[np.ndarray]]:
    truth = random.lognormal(0, 1, n)
    return truth, [truth * np.exp(0.5 * part) for part in alike(random, n, contestants)]


def right_or_wrong(random: np.random.Generator, n: int, contestants: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Of two contestants, 10 % of the rows are right by one alone."""
    common = random.random(n) < 0.7
    each = [np.where(random.random(n) < 0.128, random.random(n) < 0.7, common) for _ in range(contestants)]
    return np.full(n, "a", dtype=object), [np.where(right, "a", "b").astype(object) for right in each]


def labels(*shares: float) -> Draw:
    names = np.array(list("abcde")[: len(shares)], dtype=object)

    def draw(random: np.random.Generator, n: int, contestants: int) -> tuple[np.ndarray, list[np.ndarray]]:
        truth = random.choice(names, n, p=shares)
        hard = random.random(n)
        right = [np.where(random.random(n) < 0.5, hard, random.random(n)) < 0.7 for _ in range(contestants)]
        return truth, [np.where(one, truth, random.choice(names, n, p=shares)) for one in right]

    return draw


THREE, FIVE = labels(0.7, 0.2, 0.1), labels(0.6, 0.2, 0.1, 0.05, 0.05)
RIGHT_OR_WRONG = "right or wrong, 10 % differ"
EQUALS: dict[str, tuple[str, Draw]] = {
    "normal": ("mean_absolute_error", errors(lambda part: part)),
    "lognormal, σ = 1": ("mean_absolute_error", errors(np.exp)),
    "lognormal, σ = 1.5": ("mean_absolute_error", errors(lambda part: np.exp(1.5 * part))),
    "80 % ties": ("mean_absolute_error", ties),
    "RMSE, lognormal": ("root_mean_squared_error", errors(np.exp)),
    "R², lognormal prices": ("r2", prices),
    "median, lognormal": ("median_absolute_error", errors(np.exp)),
    RIGHT_OR_WRONG: ("accuracy", right_or_wrong),
    "macro-F1, 3 labels": ("macro_f1", THREE),
    "macro-F1, 5 labels": ("macro_f1", FIVE),
    "balanced accuracy, 5 labels": ("balanced_accuracy", FIVE),
    "Matthews, 5 labels": ("matthews", FIVE),
}


def exponential_or_constant(random: np.random.Generator, n: int, _: int) -> tuple[np.ndarray, list[np.ndarray]]:
    return np.zeros(n), [random.exponential(1.0, n), np.ones(n)]


def two_ways_to_a_score(random: np.random.Generator, n: int, _: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A fifth of the rows is of the rare label. One finds half of them and takes 2 % of the others for it; the other
    finds 95 % and takes 20.6 %. Both have a macro-F1 of .782."""
    rare = random.random(n) < 0.2
    guesses = [
        random.random(n) < np.where(rare, recall, mistaken) for recall, mistaken in ((0.5, 0.02), (0.95, 0.2059699))
    ]
    truth, *both = (np.where(one, "b", "a").astype(object) for one in (rare, *guesses))
    return truth, both


def two_spreads(random: np.random.Generator, n: int, _: int) -> tuple[np.ndarray, list[np.ndarray]]:
    return np.zeros(n), [np.exp(0.5 * random.normal(0, 1, n)), np.exp(1.5 * random.normal(0, 1, n))]


UNEQUAL_SHAPES: dict[str, tuple[str, Draw]] = {
    "equal means: exponential and constant": ("mean_absolute_error", exponential_or_constant),
    "equal macro-F1: by precision and by recall": ("macro_f1", two_ways_to_a_score),
    "equal medians: lognormal, σ = 0.5 and 1.5": ("median_absolute_error", two_spreads),
}


def told_apart(metric: str, draw: Draw, n: int, tables: int, seed: int = 1) -> float:
    """The share of `tables` with two contestants each that have p ≤ .05. The tables share their draws."""
    random, one = np.random.default_rng(seed), METRICS[metric]
    everywhere = np.ones(n, dtype=bool)
    entered = []
    for _ in range(tables):
        truth, guesses = draw(random, n, 2)
        entered.append([part.statistics for part in answers(one, truth, guesses, [everywhere] * 2)])
    if one.proportion:
        wins = [np.asarray(first - second) for first, second in entered]
        p = np.array([mcnemar_exact(int((part > 0).sum()), int((part < 0).sum())) for part in wins])
    else:
        pairs = [Pair(first, second, np.arange(n), np.ones(n)) for first, second in entered]
        p = swap_tests(one, pairs, n, draws=None if one.gradient is None else 499).p
    return float(np.mean(p <= 0.05))


def boards_with_a_claim(metric: str, draw: Draw, n: int, contestants: int, boards: int, seed: int = 2) -> float:
    """The share of boards of equal contestants that tell at least one pair apart."""
    random, one, everywhere = np.random.default_rng(seed), METRICS[metric], np.ones(n, dtype=bool)
    couples = list(itertools.combinations(range(contestants), 2))
    claims = 0
    for board in range(boards):
        truth, guesses = draw(random, n, contestants)
        parts = [part.statistics for part in answers(one, truth, guesses, [everywhere] * contestants)]
        pairs = [Pair(parts[a], parts[b], np.arange(n), np.ones(n)) for a, b in couples]
        draws = 999 if one.gradient is None else 299
        found: SwapTests = swap_tests(one, pairs, n, couples=couples, draws=draws, seed=board)
        claims += bool((found.adjusted < 0.05).any())
    return claims / boards


def room(tables: int, share: float = 0.05) -> float:
    """By how much a simulated share may differ by chance alone: in about one of 200 simulations on either side."""
    return float(2.6 * np.sqrt(share * (1 - share) / tables))


@pytest.mark.parametrize(
    "case", ["lognormal, σ = 1.5", "80 % ties", "median, lognormal", "right or wrong, 10 % differ"]
)
@pytest.mark.parametrize("n", [30, 250])
def test_equal_contestants_are_told_apart_in_at_most_one_of_twenty_tables(case: str, n: int) -> None:
    assert told_apart(*EQUALS[case], n, 1000) <= 0.05 + room(1000)


@pytest.mark.slow
@pytest.mark.parametrize("case", EQUALS)
@pytest.mark.parametrize("n", [30, 100, 250])
def test_type_one_errors_are_at_most_6_percent(case: str, n: int) -> None:
    assert told_apart(*EQUALS[case], n, 4000) <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("case", UNEQUAL_SHAPES)
@pytest.mark.parametrize(("n", "most"), [(250, 0.08), (1000, 0.065)])
def test_equally_good_in_different_ways_is_equally_good_with_many_rows(case: str, n: int, most: float) -> None:
    assert told_apart(*UNEQUAL_SHAPES[case], n, 2000) <= most


def test_a_board_of_equals_seldom_claims_anything() -> None:
    for case in ("lognormal, σ = 1", "80 % ties"):
        assert boards_with_a_claim(*EQUALS[case], 60, 8, 100) <= 0.05 + room(100)


@pytest.mark.slow
@pytest.mark.parametrize("case", EQUALS)
@pytest.mark.parametrize(("contestants", "n"), [(5, 30), (10, 100), (20, 100)])
def test_boards_of_equals_claim_something_in_at_most_5_percent(case: str, contestants: int, n: int) -> None:
    metric, draw = EQUALS[case]
    boards = 400 if METRICS[metric].gradient is None or contestants < 20 else 150
    assert boards_with_a_claim(metric, draw, n, contestants, boards) <= 0.05 + room(boards)


def graded(random: np.random.Generator, n: int, step: float, contestants: int) -> Evidence:
    """Contestants with lognormal absolute errors; three have the same, the next three larger ones by `step`."""
    truth, everywhere = random.lognormal(4, 1, n), np.ones(n, dtype=bool)
    hard = random.normal(0, 1, n)
    entries = []
    for place in range(contestants):
        size = np.exp(0.8 * (0.6 * hard + 0.8 * random.normal(0, 1, n)) + step * (place // 3))
        guesses = truth + size * random.choice([-1, 1], n)
        entries.append(Entry(f"c{place}", None, "done", None, guesses, everywhere, ~everywhere))
    return Evidence("t", "number", "mean_absolute_error", truth, pl.DataFrame({"input": [""] * n}), 0.0, tuple(entries))


def equals_told_apart(boards: int, n: int, step: float, contestants: int = 12, alike: int = 3) -> float:
    """The share of boards on which a pair of equals is told apart, where most pairs are of different contestants."""
    random, metric = np.random.default_rng(8), METRICS["mean_absolute_error"]
    couples = list(itertools.combinations(range(contestants), 2))
    equal = np.array([a // alike == b // alike for a, b in couples])
    wrong = 0
    for board in range(boards):
        place = step / np.sqrt(n) * (np.arange(contestants) // alike)[:, None]
        rows = np.exp(0.6 * random.normal(0, 1, n) + 0.8 * random.normal(0, 1, (contestants, n)) + place)
        pairs = [Pair(rows[a][:, None], rows[b][:, None], np.arange(n), np.ones(n)) for a, b in couples]
        found = swap_tests(metric, pairs, n, couples=couples, draws=1999, seed=board)
        wrong += bool((found.adjusted[equal] < 0.05).any())
    return wrong / boards


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, 250])
@pytest.mark.parametrize("step", [1.5, 4.0, 20.0])
@pytest.mark.parametrize(("contestants", "alike"), [(12, 3), (8, 4)])
def test_equals_among_others_are_seldom_told_apart(n: int, step: float, contestants: int, alike: int) -> None:
    assert equals_told_apart(400, n, step, contestants, alike) <= 0.05 + room(400)


def covered(boards: int, n: int, step: float) -> float:
    """The share of boards of 12 on which every true rank lies in its range."""
    random = np.random.default_rng(6)
    found = 0
    for _ in range(boards):
        board = compute_board(graded(random, n, step, 12), resamples=20)
        true = {f"c{place}": 1 + 3 * (place // 3) for place in range(12)}
        ranges = [(true[row.contestant], row.rank_range or (0, 0)) for row in board.rows]
        found += all(low <= rank <= high for rank, (low, high) in ranges)
    return found / boards


def test_true_ranks_lie_in_their_ranges() -> None:
    assert covered(40, 100, 0.2) >= 0.95 - room(40)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "step"), [(60, 0.1), (150, 0.2), (600, 0.2), (600, 0.02)])
def test_true_ranks_lie_in_their_ranges_on_95_percent_of_boards(n: int, step: float) -> None:
    assert covered(300, n, step) >= 0.95 - room(300)


@pytest.mark.parametrize("boards", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_as_many_close_pairs_are_found_as_by_holm_over_sign_flips(boards: int) -> None:
    """On 13 contestants and 150 rows, as in examples/computers."""
    random, metric = np.random.default_rng(9), METRICS["mean_absolute_error"]
    couples, signs = list(itertools.combinations(range(13), 2)), random.choice([-1.0, 1.0], (9999, 150))
    ours = theirs = 0
    for board in range(boards):
        evidence = graded(random, 150, 0.14, 13)
        masks = [entry.answered for entry in evidence.entries]
        entered = answers(metric, evidence.truth, [entry.guesses for entry in evidence.entries], masks)
        ours += sum(test.p_adjusted < 0.05 for test in compare(metric, entered, couples, seed=board))
        differences = np.stack([(entered[a].statistics - entered[b].statistics)[:, 0] for a, b in couples], axis=1)
        exceeded = (np.abs(signs @ differences) >= np.abs(differences.sum(axis=0))).sum(axis=0)
        theirs += sum(p < 0.05 for p in holm(((1 + exceeded) / 10_000).tolist()))
    assert ours >= 0.9 * theirs > 0
