"""The expected value of a number, against models whose digits are known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.contestants.expected import expected_number
from kurabe.messages import TokenLogprob

END = ""


def place(token: str, shares: dict[str, float]) -> TokenLogprob:
    """A place where `token` was written; `shares` are the probabilities of what is reported."""
    top = tuple((other, math.log(share)) for other, share in shares.items() if share > 0)
    return TokenLogprob(token, math.log(shares[token]), top)


def tokens_of(number: str, cuts: list[int]) -> list[str]:
    """The number in tokens, cut at the places `cuts`."""
    bounds = [0, *sorted({cut % len(number) for cut in cuts} - {0}), len(number)]
    return [number[start:end] for start, end in itertools.pairwise(bounds)]


NUMBERS = st.one_of(
    st.integers(0, 10**9).map(str),
    st.integers(0, 10**9).map(lambda number: f"{number:,}"),
    st.tuples(st.integers(0, 10**6), st.integers(0, 9999)).map(lambda parts: f"{parts[0]:,}.{parts[1]}"),
)
TOKENS = [*"0123456789,.", "19", "199", ",2", ".9", " 7", "\n", " dollars", "x", END]


@given(NUMBERS, st.lists(st.integers(0, 12), max_size=6))
def test_all_mass_on_what_was_written_gives_the_number_written(number: str, cuts: list[int]) -> None:
    written = [place(token, {token: 1.0}) for token in [*tokens_of(number, cuts), END]]
    assert expected_number(written) == pytest.approx(float(number.replace(",", "")), rel=1e-12)


@given(
    NUMBERS,
    st.lists(st.integers(0, 12), max_size=6),
    st.lists(st.dictionaries(st.sampled_from(TOKENS), st.floats(0.001, 1)), min_size=15, max_size=15),
)
def test_it_is_a_mean_of_what_the_alternatives_lead_to(
    number: str, cuts: list[int], others: list[dict[str, float]]
) -> None:
    written = [
        place(token, more | {token: 1.5}) for token, more in zip([*tokens_of(number, cuts), END], others, strict=False)
    ]
    value = float(number.replace(",", ""))
    alone = []  # what each alternative leads to: with nearly all mass on it and what leads there
    for at, one in enumerate(written):
        for token, _ in one.top:
            path = [place(w.token, {w.token: 1.0}) for w in written[:at]]
            rest = [place(w.token, {w.token: 1.0}) for w in written[at + 1 :]]
            alone.append(expected_number([*path, place(one.token, {one.token: 1e-12, token: 1.0}), *rest]))
    least, most = min([value, *alone]), max([value, *alone])
    slack = 1e-6 * (1 + most)
    assert least - slack <= expected_number(written) <= most + slack


def brute_force(digits: int, shares: dict[str, np.ndarray]) -> float:
    """The mean of a model that writes `digits` digits, each with the shares that belong to what stands before it."""
    mean = 0.0
    for number in itertools.product("0123456789", repeat=digits):
        text = "".join(number)
        mean += float(text) * math.prod(shares[text[:at]][int(text[at])] for at in range(digits))
    return mean


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 5), st.integers(1, 3))
def test_it_is_within_half_a_range_of_what_brute_force_gives(seed: int, spread: float, digits: int) -> None:
    rng = np.random.default_rng(seed)
    prefixes = ["".join(p) for count in range(digits) for p in itertools.product("0123456789", repeat=count)]
    shares = {prefix: rng.dirichlet(np.full(10, spread)) + 1e-9 for prefix in prefixes}
    shares = {prefix: row / row.sum() for prefix, row in shares.items()}
    written, greedy, reached, tolerance = [], "", 1.0, 0.0
    for at in range(digits):
        row = shares[greedy]
        best = int(row.argmax())
        written.append(place(str(best), {str(digit): float(row[digit]) for digit in range(10)}))
        # Behind an alternative its middle stands for anything in its range.
        tolerance += reached * (1 - row[best]) * (10 ** (digits - at - 1) - 1) / 2
        reached *= row[best]
        greedy += str(best)
    assert expected_number(written) == pytest.approx(brute_force(digits, shares), abs=tolerance + 1e-6)
    # Where digits behind the alternatives are all alike, the middle is their mean, and there is no error at all.
    even = {p: row if greedy.startswith(p) else np.full(10, 0.1) for p, row in shares.items()}
    assert expected_number(written) == pytest.approx(brute_force(digits, even), rel=1e-9)


@pytest.mark.parametrize(
    ("written", "at", "instead", "leads_to"),
    [
        (["1", "9", "9"], 0, "2", 249.5),  # 200 … 299
        (["1", "9", "9"], 2, "8", 198),
        (["199"], 0, "200", 200),  # several digits in one token
        (["129", "9"], 0, "130", 1304.5),  # 1300 … 1309
        (["1", "9", "9", ".", "5", "0"], 0, "2", 249.995),  # 200.00 … 299.99
        (["1", "9", ".", "5", "0"], 3, "4", 19.445),  # 19.40 … 19.49
        (["1", ",", "2", "9", "9"], 1, "2", 1249.5),  # 1200 … 1299: the comma was no place of the number
        (["1", "2", "9", "9"], 1, ",", 1499.5),  # a group has three digits
        (["1", "9"], 1, ".", 1.45),  # 1.0 … 1.9
        (["1", "9", END], 2, "5", 195),
        (["1", "9", "5"], 2, END, 19),
        (["1", "9", "5"], 2, " dollars", 19),
        (["1", "9", "5"], 0, " 2", 249.5),
    ],
)
def test_what_an_alternative_leads_to(written: list[str], at: int, instead: str, leads_to: float) -> None:
    places = [place(token, {token: 1.0}) for token in written]
    places[at] = place(written[at], {written[at]: 0.5, instead: 0.5})
    number = float("".join(written).replace(",", ""))
    assert expected_number(places) == pytest.approx((number + leads_to) / 2)


@pytest.mark.parametrize(
    ("written", "at", "instead"),
    [
        (["1", "9"], 0, " $"),  # nothing is there that could end
        (["1", "9", ".", "5"], 3, ","),
        (["1", ",", "2", "9", "9"], 3, "\n"),  # a group is not full
    ],
)
def test_an_alternative_that_cannot_stand_there_counts_for_nothing(written: list[str], at: int, instead: str) -> None:
    places = [place(token, {token: 1.0}) for token in written]
    places[at] = place(written[at], {written[at]: 0.1, instead: 0.9})
    assert expected_number(places) == pytest.approx(float("".join(written).replace(",", "")))


def test_a_token_that_is_not_among_those_reported_counts_as_well() -> None:
    places = [TokenLogprob("1", math.log(0.01), ((" $", -0.1), ("2", math.log(0.01)))), place("9", {"9": 1.0})]
    assert expected_number(places) == pytest.approx((19 + 24.5) / 2)


def test_more_digits_than_a_number_has_count_for_nothing() -> None:
    places = [place("1", {"1": 0.5, "10": 0.5}), place("9", {"9": 0.5, ",": 0.5}), place(END, {END: 0.5, "9": 0.5})]
    assert expected_number(places, 2) == 19
    assert expected_number(places, 3) == pytest.approx((104.5 + (19 + 199) / 2) / 2)
    assert expected_number(places, 4) == pytest.approx((104.5 + (1499.5 + (19 + 199) / 2) / 2) / 2)


def test_no_number() -> None:
    with pytest.raises(ValueError, match="does not begin with a number"):
        expected_number([place("none", {"none": 1.0})])
