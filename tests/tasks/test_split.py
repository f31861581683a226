from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe.errors import DataError
from kurabe.tasks.spec import Split
from kurabe.tasks.split import PartName, Positions, part_names, split_rows


def parts_of(positions: Positions) -> list[list[int]]:
    validation = [] if positions.validation is None else positions.validation.tolist()
    return [positions.train.tolist(), validation, positions.test.tolist()]


def shares() -> st.SearchStrategy[float]:
    return st.floats(0.05, 0.45) | st.integers(1, 20).map(float)


@settings(max_examples=150)
@given(
    rows=st.integers(2, 200),
    test=shares(),
    validation=shares() | st.just(0.0),
    seed=st.integers(0, 2**32 - 1),
    by=st.sampled_from(["nothing", "labels", "groups"]),
    classes=st.integers(1, 30),
)
def test_parts_are_disjoint_complete_and_the_same_again(
    rows: int, test: float, validation: float, seed: int, by: str, classes: int
) -> None:
    values = np.array([f"c{i * i % classes}" for i in range(rows)], dtype=object)
    how = Split(test=test, validation=validation, seed=seed)

    def cut() -> Positions:
        return split_rows(
            how,
            rows,
            labels=values if by == "labels" else None,
            groups=values.tolist() if by == "groups" else None,
        )

    needed = sum(size if size >= 1 else size * rows + 1 for size in (test, validation))
    if needed >= rows or (by == "groups" and len(set(values)) < 3):
        return  # there may be nothing left to train on
    try:
        positions = cut()
    except DataError:
        smallest = min(Counter(values).values())
        if by != "groups" or smallest < 2 * (test if test >= 1 else int(test * rows + 0.5)):
            raise  # there was a group small enough to be tested on
        return
    found = parts_of(positions)
    assert sorted(row for part in found for row in part) == list(range(rows))
    assert parts_of(cut()) == found
    if by == "groups":
        sides = [{values[row] for row in part} for part in found]
        assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    else:
        asked = int(test) if test >= 1 else max(1, int(test * rows + 0.5))
        assert len(found[2]) == asked


def test_the_split_of_a_seed_never_changes() -> None:
    """Written down once: a board of last year must be comparable with one of today, on any machine."""
    positions = split_rows(Split(test=3, validation=2, seed=7), 10)
    assert parts_of(positions) == [[6, 5, 3, 1, 4], [2, 9], [7, 0, 8]]


def test_another_seed_gives_another_split() -> None:
    first, second = (parts_of(split_rows(Split(seed=seed), 100)) for seed in (0, 1))
    assert first != second


def test_the_first_rows_of_the_test_part_are_a_random_sample() -> None:
    """Over many seeds, each row is as likely to be among the first ten test rows as any other."""
    counts: Counter[int] = Counter()
    for seed in range(400):
        counts.update(split_rows(Split(test=0.5, seed=seed), 40).test[:10].tolist())
    assert len(counts) == 40
    assert all(60 < count < 150 for count in counts.values())  # 100 ± 8.7 expected


def test_each_class_keeps_its_share() -> None:
    labels = np.array(["a"] * 500 + ["b"] * 100 + ["c"] * 10 + ["d"], dtype=object)
    positions = split_rows(Split(test=0.2, validation=0.1), len(labels), labels=labels)
    counts = [Counter(labels[part].tolist()) for part in parts_of(positions)]
    assert counts[2] == {"a": 100, "b": 20, "c": 2}
    assert counts[1]["a"] == 50
    assert counts[1]["b"] == 10
    assert counts[0]["d"] == 1


def test_whole_groups_come_as_near_as_possible_to_the_share_asked() -> None:
    groups = [f"g{index // 5}" for index in range(500)]
    positions = split_rows(Split(test=0.2, validation=0.1), 500, groups=groups)
    assert [len(part) for part in parts_of(positions)] == [350, 50, 100]
    lopsided = ["big"] * 900 + [f"g{index}" for index in range(100)]
    assert 90 <= len(split_rows(Split(test=0.1, validation=0), 1000, groups=lopsided).test) <= 100


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"the test part is empty.*'shop' has 1 groups"):
        split_rows(Split(group="shop"), 50, groups=["a"] * 50)


def test_parts_that_are_named_are_kept_and_validation_is_cut_from_training() -> None:
    named: list[PartName] = ["train" if row < 80 else "test" for row in range(100)]
    train, validation, test = parts_of(split_rows(Split(), 100, parts=named))
    assert sorted(test) == list(range(80, 100))
    assert sorted(train + validation) == list(range(80))
    assert len(validation) == 8
    all_three: list[PartName] = ["train", "validation", "test"]
    assert parts_of(split_rows(Split(), 3, parts=all_three)) == [[0], [1], [2]]


def test_a_split_without_validation() -> None:
    assert split_rows(Split(validation=0), 10).validation is None


@pytest.mark.parametrize(("rows", "test"), [(10, 10), (10, 500), (1, 0.2)])
def test_an_empty_part_is_an_error_that_says_what_was_asked(rows: int, test: float) -> None:
    with pytest.raises(DataError, match=r"part is empty: there are \d+ rows and the split asks for test"):
        split_rows(Split(test=test), rows)


def test_a_split_column_is_read_in_any_case_and_by_the_usual_synonyms() -> None:
    values = ["Train", " test ", "DEV", "val", "valid", "validation", "training"]
    assert part_names(values, "part", str) == ["train", "test", *["validation"] * 4, "train"]


@pytest.mark.parametrize(
    ("value", "said"), [("tset", "'tset' at line 3; did you mean 'test'"), (None, "nothing at line 3")]
)
def test_another_value_in_the_split_column_is_an_error(value: str | None, said: str) -> None:
    with pytest.raises(DataError, match=f"'part' says {said}"):
        part_names(["train", value], "part", lambda row: f"line {row + 2}")


def test_a_split_column_that_names_no_test_row() -> None:
    with pytest.raises(DataError, match="no row of the split column 'part' says 'test'"):
        split_rows(Split(column="part"), 2, parts=["train"] * 2)


def test_a_group_in_several_of_the_given_parts_is_refused() -> None:
    parts: list[PartName] = ["train" if row < 10 else "test" for row in range(20)]
    how = Split(group="maker", validation=0)
    apart = [None if row in (0, 19) else f"m{row}" for row in range(20)]  # a row without a group is like no other
    assert len(split_rows(how, 20, parts=parts, groups=apart).test) == 10
    shared = [f"a{row}" for row in range(7)] + ["x", "y", "z"] + [f"a{row}" for row in range(7)] + ["p", "q", "r"]
    with pytest.raises(DataError, match=r"7 of the groups in 'maker'.*: 'a0', 'a1', 'a2', 'a3', 'a4', …\. Keep the"):
        split_rows(how, 20, parts=parts, groups=shared)
    with pytest.raises(DataError, match=r"1 of the groups in 'maker'.*: 'a'"):
        split_rows(how, 3, parts=["train", "validation", "test"], groups=["a", "a", "b"])
