"""Where the contestants of a run are placed, by what they need."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kurabe.contest.estimates import Estimate, estimate
from kurabe.contest.journal import Journal
from kurabe.contest.prepare import Entrant
from kurabe.contestants.contract import contestant_of
from kurabe.contestants.trained.boosters import processors
from kurabe.errors import KurabeError
from kurabe.models.reference import is_local
from kurabe.tasks.task import Task

WORTH_WORKERS = 20.0
"""Seconds of learning, as estimated, from which on worker processes are started: each takes some two to start."""
QUICK = 0.5
"""Seconds of learning below which a contestant is done before a worker has started."""


class Lanes(NamedTuple):
    """The contestants by where they run, each in the order in which they are to begin.

    `here`: in this process, one after the other. `workers`: in so many worker `processes`, or places on a cluster, at a
    time. `network`: in lists that run at the same time, since they wait for others most of the time. `alone`: in this
    process, after all that takes a processor here: models on this machine use all cores.
    """

    here: list[Entrant]
    workers: list[Entrant]
    network: list[list[Entrant]]
    alone: list[Entrant]
    processes: int


def lanes(
    entrants: Sequence[Entrant],
    task: Task,
    inputs: Sequence[bytes],
    journal: Journal,
    jobs: int | None,
    usd: float | None,
    cluster: int | None = None,
) -> Lanes:
    """Place contestants.

    Parameters
    ----------
    inputs
        The digests of the test rows' inputs.
    jobs
        Worker processes. None: one a core, if there is enough to learn. 1: none, all that computes does so here.
    usd
        Dollars that are left, None where there is no limit. Contestants that cost money run at the same time only if
        that is known to be enough for all of them; else the first of them comes to its end.
    cluster
        The cores of the cluster that takes the place of worker processes; None where there is none. What keeps what it
        learns on the way in the task's folder stays here then.
    """
    rates = journal.rates(task.name)

    def expected(entrant: Entrant) -> Estimate | None:
        try:
            return estimate(entrant, task, inputs, set(journal.predictions(entrant.key)), rates)
        except KurabeError:  # of a template: the contestant itself says what is wrong with it
            return None

    here, workers, network, alone = [], [], [], []
    for entrant in entrants:
        contestant = contestant_of(entrant.estimator)
        if entrant.reason is not None or contestant.by_hand:
            here.append(entrant)
        elif is_over_network(entrant.estimator):
            network.append(entrant)
        elif contestant.models() or contestant.needs().cores > 1:
            alone.append(entrant)
        elif entrant.label in task.estimators or contestant.may_cost() or (cluster and contestant.keeps is not None):
            here.append(entrant)
        else:
            workers.append(entrant)
    seconds = {one.label: found.seconds if (found := expected(one)) is not None else None for one in workers}
    quick = [one for one in workers if (known := seconds[one.label]) is not None and known < QUICK]
    slow = [one for one in workers if one not in quick]
    processes = min(jobs or cluster or processors(), len(slow))
    enough = jobs is not None or sum(one or 0.0 for one in seconds.values()) > WORTH_WORKERS
    if cluster is None and (processes < 2 or not enough):
        names = {one.label for one in here + workers}
        here, slow, processes = [one for one in entrants if one.label in names], [], 0
    else:
        names = {one.label for one in here + quick}
        here = [one for one in entrants if one.label in names]
    costs = [found.usd if (found := expected(one)) is not None else None for one in network] if usd is not None else []
    together = usd is None or (None not in costs and sum(cost or 0.0 for cost in costs) <= usd)
    return Lanes(here, slow, _apart(network) if together else [network] * bool(network), alone, processes)


def _apart(network: Sequence[Entrant]) -> list[list[Entrant]]:
    """Lists that may run at the same time. Those that keep what they learn in one place, as sweeps of the same
    contestant do, stand in one list: else two would pay for the same trial."""
    lists: dict[bytes, list[Entrant]] = {}
    for one in network:
        lists.setdefault(one.learned[0] if one.learned else one.key, []).append(one)
    return list(lists.values())


def is_over_network(estimator: Any) -> bool:
    """Whether a contestant asks others over the network for what it has to pay."""
    contestant = contestant_of(estimator)
    return contestant.may_cost() and not all(map(is_local, contestant.models()))
