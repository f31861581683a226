"""Tuning at a provider in one call."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from kurabe.messages import Message
from kurabe.models.hosted.transport.policy import Policy
from kurabe.tuning.hosted import jobs, record
from kurabe.tuning.hosted.base import Row, Settings
from kurabe.tuning.hosted.connection import Connection
from kurabe.tuning.hosted.plan import Plan, make_plan
from kurabe.tuning.hosted.record import Job
from kurabe.tuning.hosted.services import parse_base


def tune(
    model: str,
    rows: Iterable[tuple[str | Sequence[Message], str]],
    confirm: Callable[[Plan], bool],
    *,
    settings: Settings | None = None,
    options: Mapping[str, str] | None = None,
    folder: Path | None = None,
    told: jobs.Told = lambda job: None,
    stall_hours: float = jobs.STALL_HOURS,
    base_url: str | None = None,
    api_key: str | None = None,
    policy: Policy | dict[str, float] | None = None,
) -> Job:
    """Tune a provider's model on (question, answer) rows and wait for it; `Job.reference` names the tuned model.

    A question is a text or messages. `confirm` is shown the plan, with rows, tokens and `usd` (None where the price is
    not known); nothing is sent unless it returns True. Called again with the same rows, model and settings, from
    any process, it follows the job that there is. `options`: a bucket, a role, an account, where the provider needs
    one. `folder`: where jobs are kept. `told` hears of each look at the job.
    `base_url`, `api_key` and `policy` are those of `kurabe.open_model`.

    Raises TuningError for a row or setting that can't be used, a cost that was not confirmed, and a job that failed,
    was cancelled or stalled; ProviderError.
    """
    made = [Row((Message("user", asked),) if isinstance(asked, str) else tuple(asked), said) for asked, said in rows]
    plan = make_plan(parse_base(model), made, settings or Settings(), options or {})
    home = (folder or record.jobs_root()) / plan.key
    connection = Connection(plan.base, base_url=base_url, api_key=api_key, policy=policy)
    jobs.begin(home, plan, connection, confirmed=record.read(home) is not None or confirm(plan))
    return jobs.follow(home, connection, plan, stall_hours=stall_hours, told=told)
