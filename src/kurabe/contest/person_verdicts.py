"""A person's verdicts on a sample of what a judge saw, and the judge's column corrected by them.

Source: Angelopoulos, Duchi and Zrnic, "PPI++: efficient prediction-powered inference" (2023), where the judged pairs
include those of the person: the mean of the person's verdicts, moved by how the judge's differ between all pairs and
these, as far as the two go together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import cohen_kappa_score

from kurabe.contest.evidence import Evidence, Judged
from kurabe.contest.intervals import Interval, share_interval
from kurabe.contest.style import FIRST, SECOND, Showing, Verdicts, orders, outcome, pairs
from kurabe.tasks.spec import Style

LEAST = 10  # pairs that a person has to have judged before a column is corrected


@dataclass(frozen=True)
class PersonAgreement:
    """How a judge and a person agree: on a share `agreement` of `pairs` that both have judged, with Cohen's `kappa`
    (1960), None where both always say the same one thing."""

    pairs: int
    agreement: float
    kappa: float | None


@dataclass(frozen=True)
class Corrected:
    """The share of pairs that a person would prefer, ties counting half, with its 95 % interval."""

    value: float
    interval: Interval


def person_outcome(pair: Showing, verdicts: Verdicts) -> float | None:
    """1 where a person prefers the first answer, 0 the second, 1/2 neither; None where no person was asked. A person
    sees a pair once, in one of the two orders."""
    for place, shown in enumerate(orders(pair)):
        if (said := verdicts.get(shown.key)) is not None:
            return 0.5 if said not in (FIRST, SECOND) else float((said == FIRST) == (place == 0))
    return None


def to_ask(evidence: Evidence, style: Style, verdicts: Verdicts) -> list[Showing]:
    """The judged pairs of all contestants as a person is to see them, each once.

    Their sequence, and which answer comes first, is that of their digests, which is as good as random and always the
    same: whenever a person stops, the pairs judged so far are a random sample of each contestant's.
    """
    found: dict[bytes, Showing] = {}
    for entry in evidence.entries:
        for pair in pairs(evidence, style, entry):
            if outcome(pair, verdicts) is not None and (both := orders(pair)):
                shown = min(both, key=lambda one: one.key)
                found[shown.key] = shown
    return [found[key] for key in sorted(found, key=lambda key: key[::-1])]


def person_agreement(shown: Sequence[Showing], judged: Judged) -> PersonAgreement | None:
    """How the judge and the person agree on the pairs `shown`, None if there is no pair that both have judged."""
    both = _both(list({pair.key: pair for pair in shown}.values()), judged)
    if not both:
        return None
    judge, person = ([str(one[place]) for one in both] for place in (0, 1))
    same = sum(judge_says == person_says for judge_says, person_says in both) / len(both)
    kappa = float(cohen_kappa_score(judge, person)) if len({*judge, *person}) > 1 else None
    return PersonAgreement(len(both), same, kappa)


def corrected(shown: Sequence[Showing], judged: Judged) -> Corrected | None:
    """What a person prefers among a contestant's pairs, from the judge's verdicts on all and a person's on at least 10
    of them; None with fewer."""
    judge = [value for pair in shown if (value := outcome(pair, judged.verdicts)) is not None and orders(pair)]
    alike = sum(not orders(pair) for pair in shown)
    both = np.array(_both(shown, judged))
    if len(both) < LEAST:
        return None
    mean, error = mean_by_sample(np.array(judge), both[:, 0], both[:, 1])
    total = len(judge) + alike
    value = (alike * 0.5 + len(judge) * mean) / total
    # Two strata: answers that are the same are ties without a judge, and their share varies with the rows too.
    variance = (len(judge) * error / total) ** 2 + alike * len(judge) * (mean - 0.5) ** 2 / total**3
    return Corrected(value, share_interval(value, math.sqrt(variance), (0.0, 1.0), len(both)))


def _both(shown: Sequence[Showing], judged: Judged) -> list[tuple[float, float]]:
    """(what the judge says, what a person says) of the pairs that both have judged."""
    outcomes = [(outcome(pair, judged.verdicts), person_outcome(pair, judged.by_person)) for pair in shown]
    return [(judge, person) for judge, person in outcomes if judge is not None and person is not None]


def mean_by_sample(proxies: np.ndarray, sampled: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """The mean of what is known of a random sample only, and its standard error, by a proxy that is known of all.

    Parameters
    ----------
    proxies
        (N,) the proxy of all, the sample included.
    sampled, true
        (n,) the proxy and the true value of the sample, n >= 2; values from 0 to 1.

    Notes
    -----
    With U = N - n not sampled, whose proxies have the mean u, the mean is mean(true) - w (mean(sampled) - u), and the
    weight with the least variance w = U / N * cov / var(proxy). Two values that stand 1/2 off on either side are
    added to what the proxy doesn't explain, so that a sample without a disagreement isn't taken for proof that there
    are none.
    """
    n, unsampled = len(true), len(proxies) - len(true)
    spread = float(sampled.var(ddof=1))
    slope = float(np.cov(sampled, true)[0, 1]) / spread if spread > 0 else 0.0
    weight = min(max(slope, 0.0), 1.0) * unsampled / len(proxies)
    rest = true - weight * sampled
    variance = (float(((rest - rest.mean()) ** 2).sum()) + 0.5) / (n - 1) / n
    mean = float(true.mean())
    if unsampled:
        others = (float(proxies.sum()) - float(sampled.sum())) / unsampled
        mean -= weight * (float(sampled.mean()) - others)
        variance += weight**2 * float(proxies.var()) / unsampled
    return min(max(mean, 0.0), 1.0), math.sqrt(variance)
