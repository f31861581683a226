"""LightGBM's text format, checked: LightGBM believes each number in it, and leaves its arrays where one is wrong."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from kurabe.errors import ContestantError

_HEADER: Final = re.compile(
    r"tree\n"
    r"version=v\d{1,3}\n"
    r"num_class=(?P<classes>\d{1,9})\n"
    r"num_tree_per_iteration=(?P<per_round>\d{1,9})\n"
    r"label_index=0\n"
    r"max_feature_idx=(?P<last_feature>\d{1,9})\n"
    r"objective=(regression|regression_l1|binary sigmoid:1|multiclass num_class:(?P<objective_classes>\d{1,9}))\n"
    r"feature_names=(?P<names>[^\n=]*)\n"
    r"feature_infos=(?P<infos>[^\n=]*)\n"
    r"tree_sizes=(?P<sizes>[\d ]*)\n"
    r"\n"
)
_END: Final = "end of trees\n"
_INTEGER: Final = re.compile(r"-?\d{1,9}")
_WORD: Final = re.compile(r"\d{1,10}")  # 32 bits of a set of categories
_NUMBER: Final = re.compile(r"-?(\d{1,40}(\.\d{1,40})?(e[+-]?\d{1,4})?|inf|nan)")
_PER_SPLIT: Final = {
    "split_feature": _INTEGER, "split_gain": _NUMBER, "threshold": _NUMBER, "decision_type": _INTEGER,
    "left_child": _INTEGER, "right_child": _INTEGER, "internal_value": _NUMBER, "internal_weight": _NUMBER,
    "internal_count": _NUMBER,
}  # fmt: skip
_PER_LEAF: Final = {"leaf_value": _NUMBER, "leaf_weight": _NUMBER, "leaf_count": _NUMBER}
_LEFT_OUT_OF_A_LONE_LEAF: Final = {"leaf_weight", "leaf_count"}
_ONCE: Final = {"num_leaves", "num_cat", "is_linear", "shrinkage"}
_CATEGORIES: Final = {"cat_boundaries", "cat_threshold"}


def checked_text(text: str) -> str:
    """The trees of a booster's text, without what follows them, which is of no use for predictions.

    Raises ContestantError where they are not as LightGBM writes them for the boosters that kurabe trains.
    """
    header = _HEADER.match(text)
    end = text.find("\n" + _END)
    if header is None or not text.isascii() or end < 0:
        raise _damaged("its header")
    classes, rounds, last = int(header["classes"]), int(header["per_round"]), int(header["last_feature"])
    _require(classes == rounds >= 1 and int(header["objective_classes"] or 1) == classes, "its number of classes")
    for name in ("names", "infos"):
        _require(len(header[name].split(" ")) == last + 1, "its features")
    trees = re.split(r"(?m)^(?=Tree=)", text[header.end() : end + 1])
    _require(trees[0] == "", "what stands before its trees")
    del trees[0]
    _require(header["sizes"] == " ".join(str(len(tree)) for tree in trees), "the sizes of its trees")
    _require(len(trees) >= rounds and len(trees) % rounds == 0, "its number of trees")
    for place, tree in enumerate(trees):
        _check_tree(place, tree, last)
    return text[: end + 1] + _END


def _check_tree(place: int, text: str, last_feature: int) -> None:
    title, *lines = text.rstrip("\n").split("\n")
    _require(title == f"Tree={place}", "the order of its trees")
    pairs = [line.partition("=") for line in lines]
    fields = {key: value.split(" ") if value else [] for key, _, value in pairs}
    known = _ONCE | _PER_SPLIT.keys() | _PER_LEAF.keys()
    _require(len(fields) == len(pairs) and known <= fields.keys() <= known | _CATEGORIES, "the fields of a tree")
    leaves, categories = (_integers(fields[name], 1)[0] for name in ("num_leaves", "num_cat"))
    _require(leaves >= 1 and categories >= 0, "the size of a tree")
    _require(fields["is_linear"] == ["0"], "a linear tree, which kurabe trains none of")
    _values(fields["shrinkage"], 1, _NUMBER)
    for name, form in _PER_LEAF.items():
        if leaves > 1 or name not in _LEFT_OUT_OF_A_LONE_LEAF or fields[name]:
            _values(fields[name], leaves, form)
    for name, form in _PER_SPLIT.items():
        _values(fields[name], leaves - 1, form)
    bounds = _check_categories(fields, categories)
    for split in range(leaves - 1):
        _require(0 <= int(fields["split_feature"][split]) <= last_feature, "a split's feature")
        kind = int(fields["decision_type"][split])
        _require(0 <= kind < 12, "a split's type")
        if kind & 1:  # of categories, and the threshold is the number of a set of them
            chosen = fields["threshold"][split]
            _require(chosen.isdigit() and int(chosen) < len(bounds) - 1, "a split's categories")
    _check_children(_integers(fields["left_child"], leaves - 1), _integers(fields["right_child"], leaves - 1), leaves)


def _check_children(left: Sequence[int], right: Sequence[int], leaves: int) -> None:
    """A child is a later split, or -1 and below a leaf."""
    for split, child in [*enumerate(left), *enumerate(right)]:
        _require(split < child < leaves - 1 or 0 <= ~child < leaves, "a split's child")


def _check_categories(fields: dict[str, list[str]], sets: int) -> list[int]:
    """Where each set of categories begins, and the end."""
    _require(fields.keys() >= _CATEGORIES if sets else not _CATEGORIES & fields.keys(), "the categories of a tree")
    if not sets:
        return [0]
    bounds = _integers(fields["cat_boundaries"], sets + 1)
    _require(bounds[0] == 0 and all(one <= other for one, other in pairwise(bounds)), "the categories of a tree")
    _values(fields["cat_threshold"], bounds[-1], _WORD)
    _require(all(int(word) < 1 << 32 for word in fields["cat_threshold"]), "the categories of a tree")
    return bounds


def _integers(values: list[str], count: int) -> list[int]:
    _values(values, count, _INTEGER)
    return [int(value) for value in values]


def _values(values: list[str], count: int, form: re.Pattern[str]) -> None:
    _require(len(values) == count and all(map(form.fullmatch, values)), "the numbers of a tree")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise _damaged(what)


def _damaged(what: str) -> ContestantError:
    return ContestantError(f"the text of its booster is not as LightGBM writes it: {what}")
