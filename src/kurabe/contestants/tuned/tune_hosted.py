"""A provider's model that the provider tunes on the training part, then asked as any other."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
import numpy as np
import polars as pl
from sklearn.base import clone

from kurabe.contestants.base import ALONE, Bill, Learning, Offer, Validation
from kurabe.contestants.frames import as_frame, as_target
from kurabe.contestants.prompted.examples import write_number
from kurabe.contestants.prompted.prompt import OF_CALLS, Decode, Prompt
from kurabe.contestants.prompted.wording import joint
from kurabe.contestants.registry import checked_settings
from kurabe.contestants.tuned.tune_general import Answered, ask_general
from kurabe.errors import BudgetExceededError, ContestantError, KurabeError, TuningError
from kurabe.messages import Usage
from kurabe.models.base import ChatModel
from kurabe.models.cost import PRICE, total
from kurabe.models.hosted.transport.budget import Budget
from kurabe.models.reference import parse_reference
from kurabe.tasks import spec
from kurabe.tasks.spec import Kind
from kurabe.tuning.hosted import jobs, record
from kurabe.tuning.hosted.base import Epochs, Row, Seed, Settings
from kurabe.tuning.hosted.connection import Connection
from kurabe.tuning.hosted.plan import Plan, make_plan
from kurabe.tuning.hosted.record import Job
from kurabe.tuning.hosted.services import parse_base, service_of
from kurabe.tuning.settings import Count, Positive

UNKNOWN = "unknown"
"""What `confirm_usd` is where a cost that is not known is accepted."""

ROOM = 1.25
"""What is proposed as `confirm_usd`, over the estimate."""


class TuneHosted(Prompt):
    """Let a provider tune one of its models with the training part, then ask the tuned model.

    It costs money and sends the training rows to the provider: each becomes a conversation. The prompt has no examples
    but those of the task's prompt. A job is started once: another run, or another process, follows the same one.

    Parameters
    ----------
    model
        A reference such as `openai:gpt-4.1-mini-2025-04-14`; `kurabe.tuning.hosted.services` lists the providers.
    epochs
        How often each row is seen, if the provider lets you choose.
    batch_size
        Rows of a step, if the provider lets you choose. None: the provider chooses.
    learning_rate_multiplier
        The learning rate as a multiple of the provider's own, if it lets you choose. None: the provider chooses.
    learning_rate
        The learning rate, if the provider lets you choose. None: the provider chooses.
    rank
        The rank of the adapters, if the provider lets you choose. None: the provider chooses.
    seed
        The provider's seed, if it takes one.
    confirm_usd
        The most that the job may cost by its estimate, in dollars; `unknown` accepts an unknown cost. None: nothing is
        sent, and the board shows the estimate.
    stall_hours
        A job without news for so many hours is cancelled, unless the provider never reports on running jobs.
    deployment
        The name under which the tuned model is deployed, for providers that need one.
    bucket
        The storage bucket for the training rows, for providers that need one, such as `s3://NAME/FOLDER`.
    role
        The role that the job runs under, for providers that need one.
    account
        The account or project, for providers that need one.
    general
        Ask the base model and the tuned model the general questions of `kurabe.tuning.general`, to see what was
        forgotten. The estimate does not include what this costs.
    """

    resumes = True
    trains = True
    billed = True
    no_effect = frozenset({"confirm_usd", "stall_hours", "rows", *OF_CALLS})

    def __init__(
        self,
        model: str = "openai:gpt-4.1-mini-2025-04-14",
        options: dict[str, Any] | None = None,
        epochs: Epochs = 3,
        batch_size: Count | None = None,
        learning_rate_multiplier: Positive | None = None,
        learning_rate: Positive | None = None,
        rank: Count | None = None,
        seed: Seed | None = None,
        confirm_usd: float | Literal["unknown"] | None = None,
        stall_hours: float = jobs.STALL_HOURS,
        deployment: str | None = None,
        bucket: str | None = None,
        role: str | None = None,
        account: str | None = None,
        system: str | None = None,
        user: str | None = None,
        prefill: str | None = None,
        max_tokens: Count | None = None,
        decode: Decode = "auto",
        max_input_chars: Count = 2000,
        rows: spec.Sample | None = None,
        general: bool = False,
        kind: Kind | None = None,
        prompt: spec.Prompt | None = None,
        target: str | None = None,
        random_state: int = 0,
    ) -> None:
        super().__init__(
            model=model, options=options, system=system, user=user, prefill=prefill, max_tokens=max_tokens,
            decode=decode, max_input_chars=max_input_chars, rows=rows, kind=kind, prompt=prompt, target=target,
            random_state=random_state,
        )  # fmt: skip
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate_multiplier = learning_rate_multiplier
        self.learning_rate = learning_rate
        self.rank = rank
        self.seed = seed
        self.confirm_usd = confirm_usd
        self.stall_hours = stall_hours
        self.deployment = deployment
        self.bucket = bucket
        self.role = role
        self.account = account
        self.general = general

    def skipped_reason(self) -> str | None:
        """Why the model cannot be tuned here, or None where it can."""
        try:
            parse_base(self._name())
        except KurabeError as error:
            return str(error)
        return super().skipped_reason()

    def plan(self, X: Any, y: Any) -> Plan:
        """What would be sent and what it would cost. Sends nothing.

        Raises TuningError for a row or a setting that can't be used, and ContestantError and TaskError as `Prompt.fit`.
        """
        base, settings = parse_base(self._name()), self._settings()
        super().fit(X, y)
        X = as_frame(X)
        y = as_target(y, self.kind_, X.height)
        if self.kind_ == "label" and len(self.labels_) < 2:
            raise TuningError(f"all rows have the label {self.labels_[0]!r}: there is nothing to learn")
        needed = {name: getattr(self, name) for name in ("bucket", "role", "account")}
        told = {name: value for name, value in needed.items() if value is not None}
        return make_plan(base, self._rows(X, y), settings, told)

    def fit(self, X: Any, y: Any, validation: Validation | None = None) -> Self:
        """Let the model be tuned, or follow the job that was begun before. `validation` is not sent.

        Raises BudgetExceededError, before anything is sent, where the cost is not confirmed; ContestantError where the
        tuned model has to be deployed first; TuningError and ProviderError; and as `plan`.
        """
        return self.fit_with(X, y, validation, ALONE)

    def fit_with(self, X: Any, y: Any, validation: Validation | None, context: Learning) -> Self:
        """`fit` in a contest."""
        plan = self.plan(X, y)
        folder = _home(plan)
        if (why := self.unconfirmed(plan, context)) is not None:
            raise BudgetExceededError(why)
        before = self._general(folder, "before", self._name(), context.after(plan.usd))
        given = self.options or {}
        connection = Connection(plan.base, base_url=given.get("base_url"), policy=given.get("policy"))
        jobs.begin(folder, plan, connection, confirmed=True)
        job = jobs.follow(
            folder, connection, plan, stall_hours=self.stall_hours, told=partial(_tell, self.stall_hours, context.tell)
        )
        assert job.model is not None
        assert job.reference is not None
        self.tuned_ = job.reference
        self.notes_ = {"decode": self.decode_, "usd": job.usd, "tuning": {"model": job.model, "usd": job.usd}}
        if self.deployment is not None:
            self.tuned_ = str(msgspec.structs.replace(plan.base, name=self.deployment))
        elif note := service_of(plan.base, plan.options).note(plan.base, job.model):
            raise ContestantError(note)
        if before is not None:
            after = self._general(folder, "after", self.tuned_, context.after(total([plan.usd, before.usd])))
            assert after is not None
            self.notes_["usd"] = total([job.usd, before.usd, after.usd])
            self.notes_["general"] = {
                "before": msgspec.to_builtins(before.general), "after": msgspec.to_builtins(after.general),
                "usd": total([before.usd, after.usd]),
            }  # fmt: skip
        return self

    def _general(self, folder: Path, when: str, reference: str, context: Learning) -> Answered | None:
        """A model's answers to the general rows, kept beside the job; None where they are not wanted."""
        from kurabe.models import open_model

        if not self.general:
            return None
        given = dict(self.options or {})
        if context.usd is not None:
            given["budget"] = Budget(max(context.usd, 0.0))
        context.tell(f"answering general questions {when} tuning")
        with open_model(reference, **given) as model:
            return ask_general(folder / f"general-{when}.json", model)

    def asked(self) -> tuple[str | ChatModel, dict[str, Any] | None]:
        """The tuned model, and the options of the one that was tuned."""
        return self.tuned_, self.options

    def _rows(self, X: pl.DataFrame, y: np.ndarray) -> list[Row]:
        from kurabe.models import open_model

        with open_model(self._name(), **(self.options or {})) as model:  # nothing is asked of it
            requests = list(self._requests(X, _Unasked(model)))  # type: ignore[arg-type]
        rows = []
        for request, value in zip(requests, y, strict=True):
            text = write_number(value, self.decimals_) if self.kind_ == "number" else str(value)
            begun = request.prefill + joint(request.prefill) if request.prefill else ""
            rows.append(Row(request.messages, begun + text))
        return rows

    def unpriced(self) -> str | None:
        """Why what the tuned model's answers cost can't be counted, with what to do, or None where it can be."""
        from kurabe.models.hosted.connect import connect

        base = parse_base(self._name())
        called = self.deployment or service_of(base).tuned_name(base.name)
        with connect(msgspec.structs.replace(base, name=called), **(self.options or {})) as model:  # asks nothing
            if model.cost(Usage(1, 1)) is not None:
                return None
        return (
            f"what the answers of {base.name}, tuned, will cost is not known, so no budget can be kept; add {PRICE} to"
            " the settings of tune, in dollars per million tokens"
        )

    def not_swept(self, over: Mapping[str, Any]) -> str | None:
        """Why jobs would be paid for before it shows that their models don't answer, or that their answers' cost can't
        be counted."""
        for name in over.get("model", [self.model]):
            model = parse_base(name)
            if service_of(model).note(model, "") or "deployment" in over or self.deployment:
                return (
                    f"each model that {model} is tuned to has to be deployed by hand before it answers, so its settings"
                    " can't be tried one after the other; tune it as contestants of their own"
                )
            if (why := clone(self).set_params(model=name).unpriced()) is not None:
                return str(why)
        return None

    def tried(self) -> Self:
        """A copy that asks no general questions."""
        copy: Self = clone(self).set_params(general=False)
        return copy

    def bill(self, X: pl.DataFrame, y: np.ndarray) -> Bill:
        """The estimate of the job."""
        plan = self.plan(X, y)
        return Bill(plan.usd, partial(begun, plan))

    def offer(self, X: pl.DataFrame, y: np.ndarray, context: Learning = ALONE) -> Offer | None:
        """The job and its cost, where that is not confirmed and the dollars that are left allow it."""
        try:
            plan = self.plan(X, y)
            if self.refused(plan, context) is not None or self.unconfirmed(plan, context) is None:
                return None
        except KurabeError:
            return None  # `fit` says what is wrong
        return Offer(plan.key, plan.describe())

    def refused(self, plan: Plan, context: Learning) -> str | None:
        """Why the dollars that a contest has left keep a job from being begun, or None where they don't."""
        left = context.usd
        if left is None:
            return None
        if plan.usd is None:
            return f"{plan.describe()}, and no budget can be kept. Nothing was sent; leave budget: usd out"
        if plan.usd > left:
            return f"{plan.describe()}, and ${max(left, 0.0):,.2f} of the budget are left. Nothing was sent"
        unpriced = self.unpriced()
        return None if unpriced is None else f"{unpriced}, or leave budget: usd out. Nothing was sent"

    def unconfirmed(self, plan: Plan, context: Learning) -> str | None:
        """Why nothing may be sent yet, with what to do, or None where the cost is accepted or the job was begun."""
        if begun(plan):
            return None
        if (why := self.refused(plan, context)) is not None:
            return why
        if plan.key in context.confirmed:
            return None
        given = self.confirm_usd
        if plan.usd is None:
            allowed, enough = "", UNKNOWN
            if given == UNKNOWN:
                return None
        else:
            allowed = f", and confirm_usd allows ${given:g}" if isinstance(given, int | float) else ""
            enough = str(max(1, math.ceil(plan.usd * ROOM)))
            if isinstance(given, int | float) and plan.usd <= given:
                return None
        return (
            f"{plan.describe()}{allowed}. Nothing was sent; confirm_usd: {enough} in its settings allows it;"
            " outside of a sweep, so does `kurabe tune TASK --yes`"
        )

    def _settings(self) -> Settings:
        given = {name: getattr(self, name) for name in Settings.__struct_fields__}
        return Settings(**checked_settings("tune", TuneHosted, given))

    def _name(self) -> str:
        if not isinstance(self.model, str):
            raise ContestantError("tune: the model to be tuned is named by a reference such as openai:gpt-4.1-mini")
        parse_reference(self.model)
        return self.model


def begun(plan: Plan) -> bool:
    """Whether there is a job of this plan, whose cost was accepted."""
    return record.read(_home(plan)) is not None


def _home(plan: Plan) -> Path:
    return record.jobs_root() / plan.key


class _Unasked:
    """A model as far as rows are written for it: what it takes, and nothing that would ask the provider."""

    def __init__(self, model: ChatModel) -> None:
        self.takes = model.takes


def _tell(stall_hours: float, tell: Callable[[str], None], job: Job) -> None:
    """Say how far the job is, and where it has been quiet for long, since a job that runs may only be slow."""
    said = f"{job.state}"
    if job.metrics:
        said += f", step {job.metrics[-1].step}, loss {job.metrics[-1].loss:.3f}"
    elif job.events:
        said += f": {job.events[-1].text}"
    quiet = f"; nothing new for {job.quiet_hours:.0f} h, `kurabe tune cancel {job.key}` stops it"
    tell(f"{said} (job {job.job}{quiet if job.quiet_hours > stall_hours else ''})")
