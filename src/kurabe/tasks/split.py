"""Cutting the rows into training, validation and test part: the same seed gives the same parts on every machine.

Every part comes in an order drawn by the seed, so that its first k rows are a random sample of it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kurabe.errors import DataError, nearest
from kurabe.tasks.spec import Split

PartName = Literal["train", "validation", "test"]
SYNONYMS: dict[str, PartName] = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Positions:
    """Positions of the rows of each part: disjoint, and together every row. `validation` is None where it has none."""

    train: np.ndarray
    validation: np.ndarray | None
    test: np.ndarray


def split_rows(
    split: Split,
    rows: int,
    *,
    parts: Sequence[PartName] | None = None,
    labels: np.ndarray | None = None,
    groups: Sequence[Any] | None = None,
) -> Positions:
    """Cut `rows` rows as `split` says.

    `parts`: the part of each row where that is decided already; only the validation part is then cut, from the training
    part, where none is named. `labels` (rows,): each class keeps its share in every part, as far as whole rows allow; a
    class of a single row stays in the training part. `groups`: rows of one group stay together, and the number of test
    rows comes as near to what was asked as groups drawn at random allow. Raises DataError where a part stays empty, and
    where `parts` has a group in several parts.
    """
    # NumPy promises RandomState's stream for good, unlike that of Generator.
    keys = np.random.RandomState(split.seed).random_sample(rows)
    pool = np.argsort(keys, kind="stable")
    codes = None if labels is None else _codes(labels, sorted(set(labels)))
    members = None if groups is None else _codes(groups)

    def cut(pool: np.ndarray, size: float, share_of: int) -> np.ndarray:
        count = int(size) if size >= 1 else int(size * share_of + 0.5)
        if members is not None:
            return _whole_groups(pool, count, members, split.seed)
        return _sample(pool, count, codes)

    if parts is None:
        test = cut(pool, split.test, rows)
        if not len(test) and rows > 1 and members is None:
            test = pool[:1]
        rest = _without(pool, test)
        validation = cut(rest, split.validation, rows)
        train = _without(rest, validation)
    else:
        _check_groups(split.group, groups or (), parts)
        named = np.asarray(parts, dtype=object)
        test, train, validation = (pool[named[pool] == part] for part in ("test", "train", "validation"))
        if not len(validation):
            validation = cut(train, split.validation, len(train))
            train = _without(train, validation)
    for name, part in (("test", test), ("training", train)):
        if not len(part):
            raise DataError(_empty(name, split, rows, None if members is None else int(members.max(initial=-1)) + 1))
    return Positions(train, validation if len(validation) else None, test)


def part_names(values: Sequence[Any], column: str, locate: Callable[[int], str]) -> list[PartName]:
    """What a split column says, as `train`, `validation` and `test`; `dev` and `val` are understood, in any case.

    Raises DataError at any other value.
    """
    names: list[PartName] = []
    for position, value in enumerate(values):
        name = SYNONYMS.get(str(value).strip().lower())
        if name is None:
            said = "nothing" if value is None else repr(value)
            hint = nearest(str(value), SYNONYMS) or "."
            raise DataError(
                f"the split column {column!r} says {said} at {locate(position)}{hint} It must say train, validation or"
                " test for each row"
            )
        names.append(name)
    return names


def _sample(pool: np.ndarray, count: int, codes: np.ndarray | None) -> np.ndarray:
    """`count` rows of the pool, which is in random order already; with class codes, each class by its share."""
    if codes is None or count == 0:
        return pool[:count]
    several = np.bincount(codes[pool])[codes[pool]] > 1
    candidates = pool[several]
    if len(candidates) < count:
        return pool[:count]
    # Every (n/count)-th row of the classes laid end to end: each class gives its share, rounded up or down.
    by_class = candidates[np.argsort(codes[candidates], kind="stable")]
    picked = by_class[((np.arange(count) + 0.5) * len(by_class) / count).astype(np.int64)]
    return pool[np.isin(pool, picked)]


def _whole_groups(pool: np.ndarray, count: int, members: np.ndarray, seed: int) -> np.ndarray:
    """Whole groups, drawn at random, each taken where it brings the number of rows nearer to `count`."""
    sizes = np.bincount(members[pool], minlength=members.max(initial=-1) + 1)
    order = np.argsort(np.random.RandomState(seed).random_sample(len(sizes)), kind="stable")
    order = order[sizes[order] > 0]
    taken: list[int] = []
    total = 0
    for group in order:
        # One group stays behind: somebody must be trained on.
        if len(taken) + 1 < len(order) and abs(total + sizes[group] - count) < abs(total - count):
            taken.append(int(group))
            total += int(sizes[group])
    return pool[np.isin(members[pool], taken)]


def _check_groups(column: str | None, groups: Sequence[Any], parts: Sequence[PartName]) -> None:
    """Raise DataError where parts that are given share a group. Rows without a group belong to none."""
    first: dict[Any, PartName] = {}
    pairs = zip(groups, parts, strict=False)
    # A dict keeps the order of the rows, so that the message is always the same.
    shared = list({group: None for group, part in pairs if group is not None and first.setdefault(group, part) != part})
    if shared:
        shown = ", ".join(map(repr, shared[:5])) + (", …" if len(shared) > 5 else "")
        raise DataError(
            f"{len(shared)} of the groups in {column!r} stand in more than one of the given parts: {shown}. Keep the"
            " rows of each group in one part, or let one `source` be split by `group`; without `group` the parts stay"
            " as they are"
        )


def _codes(values: Iterable[Any], known: Iterable[Any] = ()) -> np.ndarray:
    """A small whole number for each distinct value, in the order of `known`, then by first appearance."""
    seen: dict[Any, int] = {value: code for code, value in enumerate(known)}
    return np.array([seen.setdefault(value, len(seen)) for value in values], dtype=np.int64)


def _without(pool: np.ndarray, taken: np.ndarray) -> np.ndarray:
    return pool[~np.isin(pool, taken)]


def _empty(name: str, split: Split, rows: int, groups: int | None) -> str:
    asked = f"the split asks for test {split.test:g} and validation {split.validation:g}"
    if split.column is not None:
        return (
            f"the {name} part is empty: no row of the split column {split.column!r} says {name.removesuffix('ing')!r}"
        )
    if groups is not None:
        return f"the {name} part is empty: {asked}, and {split.group!r} has {groups} groups. Choose a finer `group`"
    return f"the {name} part is empty: there are {rows} rows and {asked}. Ask for smaller parts, or add rows"
