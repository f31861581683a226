"""Which pairs can be equal at the same time: if a equals b and b equals c, then a equals c.

So once a and c are known to differ, a = b and b = c are not both true. A test of all pairs that corrects only for what
can be true together tells more of them apart with the same chance of a mistake.

Sources: Shaffer, "Modified sequentially rejective multiple test procedures" (1986); Westfall and Tobias, "Multiple
testing of general contrasts: truncated closure and the extended Shaffer-Royen method" (2007).
"""

from collections import Counter
from collections.abc import Collection, Sequence

Couple = tuple[int, int]

BUDGET = 2_000
"""Partial groupings looked at for one pair."""


def most_reached(
    pairs: Sequence[Couple], reached: Sequence[int], apart: Collection[Couple], budget: int = BUDGET
) -> int:
    """In how many draws a pair reaches a value, at most, over all sets of `pairs` that can be equal at the same time.

    Contestants that are equal form a group. Of all groupings that have the first of `pairs` in one group, and none of
    `apart`, the one is sought in whose groups most draws reach the value. After `budget` partial groupings a bound is
    taken, which is at most what all `pairs` reach together.

    Parameters
    ----------
    pairs : sequence of (int, int)
        The pairs that may be equal, of different contestants.
    reached : sequence of int
        For each pair its draws as bits, 1 where the pair's statistic reaches the value.
    apart : collection of (int, int)
        The pairs known to differ.
    budget : int

    Returns
    -------
    int
        A number of draws.

    Examples
    --------
    Here 0 and 2 differ, so that 0 = 1 and 1 = 2 are not both true:

    >>> most_reached([(0, 1), (1, 2)], [0b0001, 0b0110], [(0, 2)])
    1
    >>> most_reached([(0, 1), (1, 2)], [0b0001, 0b0110], [])
    3
    """
    bits: dict[Couple, int] = {}
    for (a, b), drawn in zip(pairs, reached, strict=True):
        bits[a, b] = bits[b, a] = drawn
    differ = {*apart, *((b, a) for a, b in apart)}
    links = Counter(a for a, _ in bits)
    # Those that may be equal to many come first, so that what is left to place adds little to the bound.
    others = tuple(sorted(set(links) - set(pairs[0]), key=lambda one: (-links[one], one)))
    best = looked = 0

    def joined(one: int, group: tuple[int, ...]) -> int | None:
        """The draws that `one` adds to a group; None where it is known to differ from a member."""
        drawn = 0
        for member in group:
            if (one, member) in differ:
                return None
            drawn |= bits.get((one, member), 0)
        return drawn

    def search(groups: list[tuple[int, ...]], left: tuple[int, ...], drawn: int) -> int:
        """The most draws of all ways to place those left, or a bound of it."""
        nonlocal best, looked
        looked += 1
        within = [[joined(one, group) for group in groups] for one in left]
        bound = drawn
        for place, one in enumerate(left):
            for more in within[place]:
                bound |= more or 0
            for other in left[place + 1 :]:
                bound |= bits.get((one, other), 0)
        most = bound.bit_count()
        if most <= best or not left:
            best = max(best, most)
            return most
        if looked > budget:
            return most
        found = []
        for place, more in enumerate(within[0]):
            if more is not None:
                new = [*groups[:place], (*groups[place], left[0]), *groups[place + 1 :]]
                found.append(search(new, left[1:], drawn | more))
        found.append(search([*groups, (left[0],)], left[1:], drawn))
        return max(found)

    return search([pairs[0]], others, bits[pairs[0]])
