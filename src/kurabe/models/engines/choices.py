"""Several continuations of one prompt as a tree of tokens, so that what they share is evaluated once.

Two scores of a choice are read off it. The likelihood is that of all its tokens, as lm-evaluation-harness takes it. The
other is the probability that sampling which may write nothing but one of the choices gives it: only tokens that tell
choices apart count, each with its share among those that are allowed in its place, so that all choices add up to 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kurabe.errors import InputError


class Node(NamedTuple):
    """A place in the tree: what has been written behind the prompt, and the tokens that may follow."""

    prefix: tuple[int, ...]
    following: tuple[int, ...]


def choice_nodes(choices: Sequence[Sequence[int]], end: int, *, whole: bool = False) -> tuple[Node, ...]:
    """The nodes whose following tokens have to be scored, each behind its parent.

    `choices` are the tokens of each choice; `end` is the token that ends an answer, which follows where one choice is
    the beginning of another. `whole`: all nodes; else only those with several following tokens. Raises InputError where
    a choice has no token or two have the same.

    >>> choice_nodes([[5, 6], [5, 7], [8, 9, 9]], end=0)
    (Node(prefix=(), following=(5, 8)), Node(prefix=(5,), following=(6, 7)))
    """
    paths = [tuple(choice) for choice in choices]
    if not paths or not all(paths):
        raise InputError("every choice needs at least one token")
    if len(set(paths)) < len(paths):
        raise InputError("two of the choices have the same tokens")
    following: dict[tuple[int, ...], list[int]] = {}
    for path in paths:
        for at, token in enumerate(path):
            here = following.setdefault(path[:at], [])
            if token not in here:
                here.append(token)
    if not whole:
        for path in paths:
            if path in following:
                following[path].append(end)
    nodes = (Node(prefix, tuple(tokens)) for prefix, tokens in sorted(following.items(), key=lambda pair: len(pair[0])))
    return tuple(node for node in nodes if whole or len(node.following) > 1)


def choice_scores(
    choices: Sequence[Sequence[int]],
    nodes: Sequence[Node],
    logprobs: Sequence[np.ndarray],
    end: int,
    *,
    whole: bool = False,
) -> np.ndarray:
    """(choices,) float64: the natural log-probability of each choice.

    `logprobs`: for each node the natural log-probabilities of its following tokens over the whole vocabulary. `whole`:
    their sum along the choice's tokens; else each is taken among the node's following tokens alone.
    """
    table: dict[tuple[tuple[int, ...], int], float] = {}
    for node, row in zip(nodes, logprobs, strict=True):
        values = np.asarray(row, np.float64)
        with np.errstate(invalid="ignore"):  # a model whose numbers overflowed has no scores: they stay NaN
            shares = values if whole else values - np.logaddexp.reduce(values)
        table.update({(node.prefix, token): float(value) for token, value in zip(node.following, shares, strict=True)})
    scores = []
    for choice in choices:
        path = tuple(choice)
        steps = [(path[:at], token) for at, token in enumerate(path)] + ([] if whole else [(path, end)])
        scores.append(sum(table.get(step, 0.0) for step in steps))
    return np.array(scores)
