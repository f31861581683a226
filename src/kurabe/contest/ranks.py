"""Which ranks a contestant may have, from which pairs differ."""

from collections import Counter
from collections.abc import Iterable, Sequence

RankRange = tuple[int, int]


def rank_ranges(names: Sequence[str], beaten: Iterable[tuple[str, str]]) -> dict[str, RankRange]:
    """The best and the worst rank that each of `names` may have.

    `beaten`: (better, worse) of the pairs that differ significantly, adjusted so that the chance of one mistake or more
    among all pairs is 5 %. Then all true ranks lie within these ranges on at least 95 % of boards (Mogstad, Romano,
    Shaikh and Wilhelm, "Inference for ranks with applications to mobility across neighbourhoods and academic
    achievement across countries", 2024): a rank is 1 + the number that are better, so it is at least 1 + the number
    shown to be better, and at most the number of all less those shown to be worse.

    >>> rank_ranges(["a", "b", "c"], [("a", "c")])
    {'a': (1, 2), 'b': (1, 3), 'c': (2, 3)}
    """
    among = [(better, worse) for better, worse in beaten if better in names and worse in names]
    wins, losses = Counter(better for better, _ in among), Counter(worse for _, worse in among)
    return {name: (1 + losses[name], len(names) - wins[name]) for name in names}
