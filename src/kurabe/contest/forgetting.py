"""What a tuned model has forgotten: its answers to the general rows beside those of the model it comes from."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from kurabe.contest.pairs import mcnemar_exact
from kurabe.tuning.general import General


@dataclass(frozen=True)
class Forgetting:
    """The general rows before and after tuning.

    `before`, `after`: shares of right answers, 0 to 1, of `rows`; `p`: McNemar's exact p-value of the pairs.
    `perplexity_before`, `perplexity_after`: of the plain texts; `perplexity_p`: exact p-value of the paired sign-flip
    test on their mean log-probabilities; None of models that only chat, which give no such probabilities.
    """

    before: float
    after: float
    p: float
    rows: int
    perplexity_before: float | None
    perplexity_after: float | None
    perplexity_p: float | None


def forgetting(notes: Mapping[str, Any]) -> Forgetting | None:
    """From what a contestant noted when it was tuned; None where it was not tested so."""
    kept = notes.get("general")
    if kept is None:
        return None
    before, after = (msgspec.convert(kept[when], General) for when in ("before", "after"))
    lost = sum(a and not b for a, b in zip(before.right, after.right, strict=True))
    won = sum(b and not a for a, b in zip(before.right, after.right, strict=True))
    return Forgetting(
        before=before.share,
        after=after.share,
        p=mcnemar_exact(lost, won),
        rows=len(before.right),
        perplexity_before=before.perplexity,
        perplexity_after=after.perplexity,
        perplexity_p=sign_flips(np.subtract(after.nats, before.nats)) if before.nats else None,
    )


def sign_flips(differences: np.ndarray) -> float:
    """Two-sided exact p-value of paired differences: the share of all choices of their signs whose sum is as far from 0
    (Fisher 1935, The Design of Experiments, section 21). (n,) with n at most 20.

    >>> sign_flips(np.array([1.0, 2.0, 3.0]))
    0.25
    """
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(differences))))
    sums = np.abs(signs @ differences)
    return float((sums >= abs(differences.sum()) * (1 - 1e-12)).mean())
