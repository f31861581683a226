"""The leak check: planted copies and near copies are found, and nothing else is."""

import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.contest.evidence import Leaks
from kurabe.contest.leaks import LEAST_SHINGLES, LEAST_SIMILARITY, find_leaks
from kurabe.tasks.text_metrics import words

VOCABULARY = [f"word{number}" for number in range(500)]


def sentences(count: int, length: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(VOCABULARY, k=length)) for _ in range(count)]


def frame(*texts: str) -> pl.DataFrame:
    return pl.DataFrame({"text": list(texts), "input": [f"What is the price of this? {text}" for text in texts]})


def shingles(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return set(zip(found, found[1:], found[2:], strict=False))


def brute_force(train: list[str], test: list[str]) -> set[int]:
    near = set()
    for row, text in enumerate(test):
        mine = shingles(text)
        for other in map(shingles, train):
            if min(len(mine), len(other)) >= LEAST_SHINGLES and len(mine & other) >= LEAST_SIMILARITY * len(
                mine | other
            ):
                near.add(row)
    return near


def test_copies_are_found_through_case_width_and_space() -> None:
    train = frame("Red  car, 1995", "Ｆｕｌｌ Width", "Straße")
    test = frame("red car,\n1995", "full width", "STRASSE", "blue car, 1995")
    assert find_leaks(train, test) == Leaks(exact=(0, 1, 2), near=())


def test_a_long_text_with_one_word_changed_is_near_and_with_many_is_not() -> None:
    train = sentences(50, 60, 1)
    generator = random.Random(2)
    one, many = train[7].split(), train[8].split()
    one[30] = "other"
    for place in range(0, 60, 5):
        many[place] = generator.choice(VOCABULARY)
    test = [*sentences(10, 60, 3), " ".join(one), " ".join(many), train[9]]
    assert find_leaks(frame(*train), frame(*test)) == Leaks(exact=(12,), near=(10,))


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
    assert set(leaks.near) <= brute_force(train, test) - exact


def test_nearly_all_near_copies_are_found_at_size() -> None:
    generator = random.Random(6)
    # Lengths differ, and some begin with the same words as others or repeat themselves.
    train = [text[: generator.randrange(200, 600)] for text in sentences(20_000, 80, 5)]
    train = [f"{text} {text[:90]}" if row % 3 == 0 else text for row, text in enumerate(train)]
    test, planted = sentences(4_000, 50, 7), set()
    for row in generator.sample(range(4_000), 400):
        changed = generator.choice(train).split()
        for place in generator.sample(range(len(changed)), generator.choice([1, 1, 2])):
            changed[place] = "changed"
        test[row] = " ".join(changed)
    index = {shingle: number for number, text in enumerate(train) for shingle in shingles(text)}
    for row, text in enumerate(test):
        mine = shingles(text)
        for other in {index[shingle] for shingle in mine if shingle in index}:
            theirs = shingles(train[other])
            if len(mine & theirs) >= LEAST_SIMILARITY * len(mine | theirs):
                planted.add(row)
    found = set(find_leaks(frame(*train), frame(*test)).near)
    assert found <= planted
    assert len(planted) > 200
    assert len(found) >= 0.98 * len(planted)
