"""The expected value of a number that a model wrote, from the alternatives it reports beside each token."""

import math
import re
from collections.abc import Sequence

from kurabe.messages import TokenLogprob

_BEGUN = re.compile(r"\d+(\.\d*)?|\d{1,3}(,\d{3})*,\d{0,2}|\d{1,3}(,\d{3})+(\.\d*)?")
_COMPLETE = re.compile(r"(\d{1,3}(,\d{3})+|\d+)(\.\d+)?")


def expected_number(written: Sequence[TokenLogprob], digits: int = 12) -> float:
    """The mean of the numbers that the model might have written, by its probabilities along the one that it wrote.

    `written`: the tokens of a greedy answer such as `1,299.50`, each with the likeliest tokens in its place. `digits`:
    how many a number has before its point at most; more are left out of account. With p(a)
    the share of an alternative a among those that go on with the number or end it, at the place i

        E(i) = p(written) · E(i + 1) + Σ p(a) · middle(a)  over the other alternatives a,

    where E behind the last place is the number written; the answer is E(0). middle(a) is what has been written before,
    followed by a and by as many places as the number written still has, in the middle of what these can say: `2` in
    place of the `1` of `199` leads to 200 … 299, so 249.5. An alternative that is no part of a number ends it where it
    may end, and counts for nothing where it may not. What stands below the reported alternatives counts for nothing.
    Raises ValueError where no number was written.
    """
    tokens = [place.token for place in written]
    number = "".join(tokens).strip()
    if (found := _COMPLETE.match(number)) is None:
        raise ValueError(f"{number!r} does not begin with a number")
    value = _value(found[0])
    decimals = len(found[0].partition(".")[2])
    for at in reversed(range(len(written))):
        before, rest = "".join(tokens[:at]).lstrip(), "".join(tokens[at + 1 :])
        alternatives = dict(written[at].top) | {tokens[at]: written[at].logprob}
        shares: list[float] = []
        values: list[float] = []
        for token, logprob in alternatives.items():
            middle = value if token == tokens[at] else _middle(before, token, tokens[at], rest, decimals, digits)
            if middle is not None:
                shares.append(math.exp(logprob))
                values.append(middle)
        if total := sum(shares):
            value = sum(share * one for share, one in zip(shares, values, strict=True)) / total
    return value


def _middle(before: str, token: str, instead_of: str, rest: str, decimals: int, digits: int) -> float | None:
    """What the number comes to with `token` behind `before`; None where it can't stand there."""
    text = before + (token if before else token.lstrip())
    if text == before or _BEGUN.fullmatch(text) is None:
        return _value(before) if _COMPLETE.fullmatch(before) else None
    whole, point, fraction = text.partition(".")
    if point:
        follow, decimals = 0, max(decimals, len(fraction), 1)
    else:
        follow = _digits(rest.partition(".")[0])
        if not _digits(instead_of):  # in place of a comma, a point or the end: the digits come out of the rest
            follow = max(follow - _digits(token), 0)
        if "," in whole:  # whole groups of three, the one begun first
            begun = 3 - len(whole.rpartition(",")[2])
            follow = begun + max(follow - begun, 0) // 3 * 3
    if _digits(whole) + follow > digits:
        return None
    unit = 10.0 ** (follow - len(fraction))
    return _value(text) * 10.0**follow + (unit - 10.0**-decimals) / 2


def _digits(text: str) -> int:
    return sum(character.isdigit() for character in text)


def _value(text: str) -> float:
    return float(text.replace(",", ""))
