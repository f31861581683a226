"""The leak check: planted copies and near copies are found, and nothing else is."""

import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.contest.evidence import Leaks
from kurabe.contest.leaks import find_leaks
from kurabe.tasks.text_metrics import words

VOCABULARY = [f"word{number}" for number in range(500)]


def sentences(count: int, length: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(VOCABULARY, k=length)) for _ in range(count)]


def frame(*texts: str) -> pl.DataFrame:
    return pl.DataFrame({"text": list(texts), "input": [f"What is the price of this? {text}" for text in texts]})


def pairs(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return set(pairwise(found))


def alike(first: str, second: str) -> bool:
    """Near by the rule for texts, whatever others have in common."""
    mine, theirs = sorted((pairs(first), pairs(second)), key=len)
    shared = len(mine & theirs)
    return 3 * shared >= 2 * len(theirs) or (len(mine) >= 9 and 5 * shared >= 4 * len(mine))


def changed(text: str, count: int, generator: random.Random) -> str:
    found = text.split()
    for place in generator.sample(range(len(found)), count):
        found[place] = "changed"
    return " ".join(found)


def test_copies_are_found_through_case_width_and_space() -> None:
    train = frame("Red  car, 1995", "Ｆｕｌｌ Width", "Straße")
    test = frame("red car,\n1995", "full width", "STRASSE", "blue car, 1995")
    assert find_leaks(train, test) == Leaks(exact=(0, 1, 2), near=())


def halved(text: str, generator: random.Random) -> str:
    return " ".join(text.split()[: len(text.split()) // 2])


def quoted(text: str, generator: random.Random) -> str:
    return " ".join([*sentences(1, 60, generator.randrange(10**6)), text])


@pytest.mark.parametrize(
    ("length", "change"),
    [
        (7, lambda text, generator: changed(text, 1, generator)),
        (40, lambda text, generator: changed(text, 3, generator)),
        (40, halved),
        (40, quoted),
    ],
    ids=["one word in seven", "three words in forty", "half", "quoted in a longer text"],
)
def test_near_copies_are_found_and_other_texts_are_not(
    length: int, change: Callable[[str, random.Random], str]
) -> None:
    generator = random.Random(2)
    train, test = sentences(2_000, length, 1), sentences(1_000, length, 3)
    planted = generator.sample(range(1_000), 200)
    for row in planted:
        test[row] = change(generator.choice(train), generator)
    found = set(find_leaks(frame(*train), frame(*test)).near)
    assert len(found & set(planted)) >= 190
    assert len(found - set(planted)) <= 4


def test_what_a_catalogue_has_in_common_makes_no_rows_near() -> None:
    train = [f"Maker{row} Women's Solid Casual Shirt Clothing" for row in range(100)]
    assert find_leaks(frame(*train), frame("Other Women's Solid Casual Shirt Clothing")) == Leaks()


def test_a_text_with_many_words_changed_is_not_near() -> None:
    train, generator = sentences(50, 60, 1), random.Random(2)
    test = [changed(text, 20, generator) for text in train]
    assert find_leaks(frame(*train), frame(*test)) == Leaks()


def test_the_templates_words_do_not_make_rows_alike() -> None:
    prompt = " ".join(VOCABULARY[:60]) + " "
    train = pl.DataFrame({"text": ["a small red car"], "input": [prompt + "a small red car"]})
    test = pl.DataFrame({"text": ["a large blue bus"], "input": [prompt + "a large blue bus"]})
    assert find_leaks(train, test) == Leaks()
    assert find_leaks(train.select("input"), test.select("input")).near == (0,)


def test_rows_of_facts_are_only_compared_exactly() -> None:
    train = pl.DataFrame({"speed": [25, 33], "ram": [4, 8], "maker": ["no", None], "input": ["x", "x"]})
    test = pl.DataFrame({"speed": [25, 25, 33], "ram": [8, 4, 8], "maker": ["no", "no", None], "input": ["x"] * 3})
    assert find_leaks(train, test) == Leaks(exact=(1, 2), near=())


def test_equal_facts_with_another_target_are_no_copies_but_equal_texts_are_near() -> None:
    facts = pl.DataFrame({"speed": [25, 33], "input": ["x", "x"]})
    prices = (np.array([100.0, 200.0]), np.array([100.0, 250.0]))
    assert find_leaks(facts, facts, prices) == Leaks(exact=(0,), near=())
    text = frame(*sentences(2, 30, 4))
    assert find_leaks(text, text, prices) == Leaks(exact=(0,), near=(1,))


def test_values_do_not_run_from_one_column_into_the_next() -> None:
    train = pl.DataFrame({"a": ["1", "x y"], "b": ["23", ""], "input": ["", ""]})
    test = pl.DataFrame({"a": ["12", "x"], "b": ["3", "y"], "input": ["", ""]})
    assert find_leaks(train, test) == Leaks()


@pytest.mark.parametrize("empty", ["", None, "   "])
def test_empty_rows_are_no_leaks(empty: str | None) -> None:
    table = pl.DataFrame({"text": [empty], "input": ["x"]}, schema={"text": pl.String, "input": pl.String})
    assert find_leaks(table, table) == Leaks()


def test_no_rows_at_all() -> None:
    some = frame(*sentences(3, 30, 0))
    assert find_leaks(some.clear(), some) == Leaks()
    assert find_leaks(some, some.clear()) == Leaks()
    assert find_leaks(some, some) == Leaks(exact=(0, 1, 2))


def test_texts_without_spaces_are_compared_by_character() -> None:
    base = "東京で今日は朝から強い雨が降り続いています。電車は遅れていますが学校は休みになりませんでした。"
    train = frame(base)
    assert find_leaks(
        train, frame(base.replace("強い", "弱い"), "まったく別の文章がここに長く書かれています")
    ).near == (0,)


@given(
    train=st.lists(st.lists(st.sampled_from("abc"), min_size=8, max_size=20).map(" ".join), max_size=6),
    test=st.lists(st.lists(st.sampled_from("abc"), min_size=8, max_size=20).map(" ".join), max_size=6),
)
def test_what_is_found_is_truly_near_and_what_is_copied_is_found(train: list[str], test: list[str]) -> None:
    leaks = find_leaks(frame(*train), frame(*test)) if train and test else Leaks()
    exact = {row for row, text in enumerate(test) if text in train}
    assert set(leaks.exact) == exact
    assert all(any(alike(test[row], text) for text in train) for row in leaks.near)
